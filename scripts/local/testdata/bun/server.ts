// A payload for tests: it keeps what it is given, and says what it is.
import { connect } from "node:net";

const file = process.env.SHED_DATA + "/kept";

function reach(): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(443, "10.0.2.2", () => resolve("reached"));
    socket.on("error", (e) => resolve(String(e)));
  });
}

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
      case "/reach":
        return new Response(await reach());
    }
    return new Response("Bun " + Bun.version);
  },
});
