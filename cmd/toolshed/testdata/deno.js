// What Deno's own client does with a toolshed's KV. It ends with a line "fine",
// or an exception.
function same(got, want, what) {
  const a = Deno.inspect(got, { depth: 20 }), b = Deno.inspect(want, { depth: 20 });
  if (a !== b) throw new Error(`${what}: ${a}, want ${b}`);
}
async function refused(promise, what) {
  try {
    await promise;
  } catch {
    return;
  }
  throw new Error(`${what} was not refused`);
}
async function all(iterator) {
  const found = [];
  for await (const e of iterator) found.push(e);
  return found;
}

const kv = await Deno.openKv(Deno.args[0]);

// Values of every kind, whatever JSON thinks of them.
const values = {
  number: 1.5, text: "grün 日本", big: 12345678901234567890n, nothing: null, undefined: undefined,
  date: new Date(0), bytes: new Uint8Array([0, 1, 255]), map: new Map([["a", new Set([1])]]), u64: new Deno.KvU64(7n),
  deep: { a: [1, { b: "c" }] }, regexp: /a+/g,
};
for (const [name, value] of Object.entries(values)) {
  const r = await kv.set(["values", name], value);
  same(r.ok, true, name);
  same(/^[0-9a-f]{20}$/.test(r.versionstamp), true, "versionstamp");
  const e = await kv.get(["values", name]);
  same(e.value, value, name);
  same(e.versionstamp, r.versionstamp, name);
}
same(await kv.get(["missing"]), { key: ["missing"], value: null, versionstamp: null }, "missing");
same((await kv.getMany([["values", "number"], ["missing"]])).map((e) => e.value), [1.5, null], "getMany");

// Keys of every type, in order.
const keys = [new Uint8Array([1]), "a", "b", -5n, 300n, -1.5, 2, false, true];
for (const [i, k] of keys.entries()) await kv.set(["order", k], i);
const listed = await all(kv.list({ prefix: ["order"] }, { batchSize: 2 }));
same(listed.map((e) => e.value), [0, 1, 2, 3, 4, 5, 6, 7, 8], "order");
same(listed.map((e) => e.key[1]), keys, "keys");
same((await all(kv.list({ prefix: ["order"] }, { reverse: true, limit: 2 }))).map((e) => e.value), [8, 7], "reverse");
same((await all(kv.list({ start: ["order", "b"], end: ["order", 2] }))).map((e) => e.value), [2, 3, 4, 5], "range");
const first = kv.list({ prefix: ["order"] }, { limit: 3 });
await all(first);
same((await all(kv.list({ prefix: ["order"] }, { cursor: first.cursor, limit: 2 }))).map((e) => e.value), [3, 4], "cursor");

// Check and set.
const { versionstamp } = await kv.set(["cas"], 1);
same((await kv.atomic().check({ key: ["cas"], versionstamp: null }).set(["cas"], 2).commit()).ok, false, "a failed check");
same((await kv.atomic().check({ key: ["cas"], versionstamp }).set(["cas"], 2).delete(["values", "number"]).commit()).ok, true, "a check");
same((await kv.get(["cas"])).value, 2, "cas");
same((await kv.get(["values", "number"])).value, null, "deleted");

// A hundred at once add to one number, and none is lost.
await Promise.all(Array.from({ length: 100 }, () => kv.atomic().sum(["sum"], 2n).commit()));
same((await kv.get(["sum"])).value, new Deno.KvU64(200n), "sum");
await kv.atomic().max(["sum"], 500n).commit();
await kv.atomic().min(["sum"], 400n).commit();
same((await kv.get(["sum"])).value.value, 400n, "min and max");
await refused(kv.atomic().sum(["cas"], 1n).commit(), "a sum with something else");

// Watching.
const watched = kv.watch([["watched"], ["cas"]]).getReader();
same((await watched.read()).value.map((e) => e.value), [null, 2], "at first");
await kv.set(["watched"], "now");
same((await watched.read()).value.map((e) => e.value), ["now", 2], "after a change");
await kv.delete(["watched"]);
same((await watched.read()).value.map((e) => e.value), [null, 2], "after a delete");

// Expiry.
await kv.set(["watched"], "short", { expireIn: 300 });
same((await watched.read()).value[0].value, "short", "before it expires");
same((await watched.read()).value[0].value, null, "expired");
await watched.cancel();

await refused(kv.set(["big"], new Uint8Array(70000)), "too much");
await kv.set(["for", "http"], { from: "deno", list: [1, 2] });
same((await kv.get(["from", "http"])).value, { from: "http", list: [true, null] }, "what HTTP wrote");
kv.close();
console.log("fine");
