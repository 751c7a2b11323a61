// Uploads a file by tus-js-client, breaking off on the way and going on:
// URL FILE. Prints where it is.
"use strict";
const fs = require("node:fs");
const tus = require("tus-js-client");

const [endpoint, path] = process.argv.slice(2);
const size = fs.statSync(path).size;
const options = { endpoint, chunkSize: 300_000, uploadSize: size, metadata: { filename: "by tus-js-client.bin", filetype: "text/x-test" }, retryDelays: [0, 50, 200] };

function upload(more) {
  return new Promise((resolve, reject) => {
    const one = new tus.Upload(fs.createReadStream(path), {
      ...options, ...more(() => one, resolve), onError: reject, onSuccess: () => resolve(one.url),
    });
    one.start();
  });
}

(async () => {
  const heard = [];
  const place = await upload((one, resolve) => ({
    onChunkComplete: (_, accepted) => {
      heard.push(accepted);
      if (heard.length === 2) one().abort().then(() => resolve(one().url));
    },
  }));
  if (heard.length !== 2) throw new Error(`it was not broken off: ${heard}`);
  let last = 0;
  const done = await upload(() => ({ uploadUrl: place, onProgress: (sent) => { last = sent; } }));
  if (done !== place || last !== size) throw new Error(`it ended at ${done} with ${last} of ${size}`);
  console.log(done);
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
