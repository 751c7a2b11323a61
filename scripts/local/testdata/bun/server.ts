// A payload for tests: it keeps what it is given, and says what it is.
const file = process.env.SHED_DATA + "/kept";

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.SHED_PORT),
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/keep":
        await Bun.write(file, url.searchParams.get("text") ?? "");
        return new Response(Bun.file(file));
      case "/kept":
        return new Response(Bun.file(file));
    }
    return new Response("Bun " + Bun.version);
  },
});
