// A function in Go: GOOS=wasip1 GOARCH=wasm go build -o probe.wasm main.go
package main

import (
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"
)

//go:wasmimport shed call
func shedCall(request unsafe.Pointer, length uint32) int32

//go:wasmimport shed answer
func shedAnswer(buffer unsafe.Pointer, length uint32) int32

func call(request string) string {
	b := []byte(request)
	n := shedCall(unsafe.Pointer(&b[0]), uint32(len(b)))
	if n < 0 {
		return "outside"
	}
	answer := make([]byte, max(n, 1))
	n = shedAnswer(unsafe.Pointer(&answer[0]), uint32(len(answer)))
	return string(answer[:n])
}

func main() {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(9)
	}
	switch os.Getenv("PATH_INFO") {
	case "/host":
		fmt.Printf("Content-Type: application/json\n\n%s", call(string(body)))
	case "/scratch":
		scratch()
	case "/files":
		for _, name := range []string{"/etc/passwd", "/", "../etc/passwd", "/tmp/../etc"} {
			_, err := os.ReadDir(name)
			fmt.Printf("%s: %v\n", name, err)
		}
	case "/spin":
		for i := 0; ; i++ {
			if i < 0 {
				break
			}
		}
	case "/sleep":
		time.Sleep(time.Hour)
	case "/eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			b[0] = 1
			all = append(all, b)
		}
	case "/flood":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<16)); err != nil {
				os.Exit(1)
			}
		}
	case "/fail":
		fmt.Fprint(os.Stderr, "it went wrong: \xff")
		os.Exit(7)
	case "/plain":
		fmt.Print("just text")
	case "/evil":
		fmt.Print("Status: 200\nContent-Type: text/html\nSet-Cookie: shed_token=x\nX-Of-Its-Own: yes\n\n<script>alert(1)</script>")
	default:
		fmt.Fprintln(os.Stderr, "called")
		fmt.Printf("Status: 201 Created\nContent-Type: text/plain\nX-Of-Its-Own: yes\n\n%s %s?%s %s %s|%s",
			os.Getenv("REQUEST_METHOD"), os.Getenv("PATH_INFO"), os.Getenv("QUERY_STRING"), os.Getenv("GREETING"), os.Getenv("HTTP_X_TRACE"), body)
	}
}

// scratch is what is left of an earlier call, which is nothing, and what this
// one writes.
func scratch() {
	_, err := os.Stat("/tmp/left")
	if err := os.MkdirAll("/tmp/a/b", 0o700); err != nil {
		fmt.Println("mkdir", err)
	}
	if err := os.WriteFile("/tmp/a/b/c", []byte("hello"), 0o600); err != nil {
		fmt.Println("write", err)
	}
	if err := os.Rename("/tmp/a/b/c", "/tmp/left"); err != nil {
		fmt.Println("rename", err)
	}
	b, readErr := os.ReadFile("/tmp/left")
	entries, listErr := os.ReadDir("/tmp")
	full := os.WriteFile("/tmp/large", make([]byte, 9<<20), 0o600)
	removeErr := os.Remove("/tmp/a/b")
	fmt.Printf("left before: %t; %s %v; %d %v; full: %t; %v", err == nil, b, readErr, len(entries), listErr, full != nil, removeErr)
}
