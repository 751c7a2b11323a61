// Uploads by the tus protocol, in parts that go on where they stopped.
"use strict";
const form = document.getElementById("upload");
const input = document.getElementById("file");
const going = document.getElementById("going");
const bar = document.getElementById("progress");
const pause = document.getElementById("pause");
const status = document.getElementById("status");
const partBytes = 4 << 20;
const uploads = "/api/blobs/uploads";
const tus = { "Tus-Resumable": "1.0.0" };
let paused = null;

const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

async function ask(method, url, headers, body) {
  const answer = await fetch(url, { method, headers: { ...tus, ...headers }, body });
  if (!answer.ok) {
    let detail = `status ${answer.status}`;
    try { detail = (await answer.json()).detail || detail; } catch { /* it is no document */ }
    throw new Error(detail);
  }
  return answer;
}

// place finds an upload of this file that has begun, or announces one.
async function place(file) {
  const key = `upload:${file.name}:${file.size}:${file.lastModified}`;
  const known = localStorage.getItem(key);
  if (known) {
    try {
      const at = await ask("HEAD", known);
      return { key, url: known, offset: Number(at.headers.get("Upload-Offset")) };
    } catch { localStorage.removeItem(key); }
  }
  const metadata = [`filename ${encode(file.name)}`];
  if (file.type) metadata.push(`filetype ${encode(file.type)}`);
  const made = await ask("POST", uploads, { "Upload-Length": String(file.size), "Upload-Metadata": metadata.join(",") });
  const url = made.headers.get("Location");
  localStorage.setItem(key, url);
  return { key, url, offset: 0 };
}

async function upload(file) {
  const at = await place(file);
  while (at.offset < file.size) {
    if (paused) await paused.promise;
    const part = file.slice(at.offset, at.offset + partBytes);
    const went = await ask("PATCH", at.url, {
      "Upload-Offset": String(at.offset), "Content-Type": "application/offset+octet-stream",
    }, part);
    at.offset = Number(went.headers.get("Upload-Offset"));
    bar.value = at.offset / file.size;
    status.textContent = `${at.offset} of ${file.size} bytes`;
  }
  localStorage.removeItem(at.key);
}

pause.addEventListener("click", () => {
  if (paused) {
    paused.resolve();
    paused = null;
    pause.textContent = "Pause";
    return;
  }
  paused = Promise.withResolvers();
  pause.textContent = "Go on";
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  going.hidden = false;
  bar.value = 0;
  try {
    await upload(input.files[0]);
    status.textContent = "Kept.";
    location.reload();
  } catch (err) {
    status.textContent = `It did not arrive: ${err.message}. Choosing the file again goes on where it stopped.`;
  }
});
