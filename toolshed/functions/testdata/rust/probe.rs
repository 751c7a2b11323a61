// A function in Rust: rustc --target wasm32-wasi -O -o probe.wasm probe.rs
use std::io::{Read, Write};

#[link(wasm_import_module = "shed")]
extern "C" {
    fn call(request: *const u8, length: u32) -> i32;
    fn answer(buffer: *mut u8, length: u32) -> i32;
}

fn get(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn ask(request: &[u8]) -> Option<Vec<u8>> {
    let length = unsafe { call(request.as_ptr(), request.len() as u32) };
    if length < 0 {
        return None;
    }
    let mut buffer = vec![0u8; length as usize];
    let got = unsafe { answer(buffer.as_mut_ptr(), buffer.len() as u32) };
    if got < 0 {
        return None;
    }
    buffer.truncate(got as usize);
    Some(buffer)
}

fn main() {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).expect("reading the body");
    let mut out = std::io::stdout();
    if get("PATH_INFO") == "/host" {
        let answer = ask(&body).expect("the host answers");
        out.write_all(b"Content-Type: application/json\n\n").unwrap();
        out.write_all(&answer).unwrap();
        return;
    }
    eprintln!("called");
    write!(
        out,
        "Status: 201 Created\nContent-Type: text/plain\n\n{} {}?{} {} {}|{}",
        get("REQUEST_METHOD"),
        get("PATH_INFO"),
        get("QUERY_STRING"),
        get("GREETING"),
        get("HTTP_X_TRACE"),
        String::from_utf8_lossy(&body)
    )
    .unwrap();
}
