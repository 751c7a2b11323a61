// What the npm package @deno/kv, another client of the protocol, does with a
// toolshed's KV. It ends with a line "fine", or an exception.
import { openKv } from "@deno/kv";
import { deserialize, serialize } from "node:v8";
import { deepStrictEqual as same } from "node:assert";

const kv = await openKv(process.argv[2], { encodeV8: serialize, decodeV8: deserialize });
const value = { from: "npm", list: [1, "é日", null], big: 12345678901234567890n };
const { ok, versionstamp } = await kv.set(["npm", 1, 2n, true, new Uint8Array([3])], value);
same(ok, true);
same(await kv.get(["npm", 1, 2n, true, new Uint8Array([3])]), { key: ["npm", 1, 2n, true, new Uint8Array([3])], value, versionstamp });
const listed = [];
for await (const e of kv.list({ prefix: ["npm"] })) listed.push(e.value);
same(listed, [value]);
same((await kv.atomic().check({ key: ["npm"], versionstamp: "00000000000000990000" }).set(["npm"], 1).commit()).ok, false);

// Deno itself refuses to enqueue over the protocol; this client does not.
await kv.enqueue({ hello: "queue" }, { keysIfUndelivered: [["undelivered"]] });
kv.close();
console.log("fine");
