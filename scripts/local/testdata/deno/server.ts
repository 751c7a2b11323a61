// A payload for tests: it keeps what it is given, and says what it is.
const file = Deno.env.get("SHED_DATA") + "/kept";

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("SHED_PORT")) }, async (request) => {
  const url = new URL(request.url);
  if (url.pathname === "/keep") {
    await Deno.writeTextFile(file, url.searchParams.get("text") ?? "");
  }
  if (url.pathname === "/reach") {
    try {
      await Deno.connect({ hostname: "10.0.2.2", port: 443 });
      return new Response("reached");
    } catch (e) {
      return new Response(String(e));
    }
  }
  if (url.pathname === "/kept" || url.pathname === "/keep") {
    return new Response(await Deno.readTextFile(file));
  }
  return new Response("Deno " + Deno.version.deno);
});
