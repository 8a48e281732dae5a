// The server behind every proxy: it echoes, counts, streams and speaks WebSocket.
import { createHash } from "node:crypto";
import http from "node:http";
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(process.env.MODULES + "/")("ws");

const paths = {
  // The size and the digest of what came.
  "/upload": (request, response) => {
    const digest = createHash("sha256");
    let size = 0;
    request.on("data", (piece) => ((size += piece.length), digest.update(piece)));
    request.on("end", () => response.end(JSON.stringify({ size, digest: digest.digest("hex") })));
  },
  // `size` octets, as fast as they are read, with a length or without.
  "/download": async (request, response, query) => {
    let left = Number(query.get("size"));
    if (!query.has("chunked")) response.setHeader("Content-Length", left);
    const piece = Buffer.alloc(65536, "turnwise");
    while (left > 0 && !response.destroyed) {
      const now = piece.subarray(0, Math.min(left, piece.length));
      left -= now.length;
      if (!response.write(now)) await new Promise((go) => (response.once("drain", go), response.once("close", go)));
    }
    response.end();
  },
  // Five events with the time at which each was sent.
  "/events": async (request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    for (let count = 0; count < 5; count++) {
      response.write(`data: ${Date.now() / 1000}\n\n`);
      await new Promise((go) => setTimeout(go, 300));
    }
    response.end();
  },
  // Reads the whole request and says a word.
  "/word": (request, response) => request.resume().on("end", () => response.end("a word\n")),
  "/slow": (request, response, query) => setTimeout(() => response.end("slow"), Number(query.get("ms"))),
};

// Does in a browser what the other clients do, and shows what came of it.
const page = `<!doctype html><title>wait</title><pre>wait</pre><script type="module">
const results = {};
const body = new Uint8Array(32 << 20).map((_, at) => "turnwise".charCodeAt(at % 8));
const hex = async (octets) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", octets)), (one) => one.toString(16).padStart(2, "0")).join("");
const expect = (got, wanted) => (got === wanted ? null : String(got).slice(0, 100) + " instead of " + wanted);
const digest = await hex(body);
const cases = {
  version: async () => (await fetch("/word"), expect(performance.getEntriesByType("resource").at(-1).nextHopProtocol, "h2")),
  get: async () => expect(await (await fetch("/word")).text(), "a word\\n"),
  post: async () => expect(await (await fetch("/echo", { method: "POST", body: "a=1" })).text(), "a=1"),
  upload: async () => expect((await (await fetch("/upload", { method: "POST", body })).json()).digest, digest),
  download: async () => expect(await hex(await (await fetch("/download?size=" + body.length)).arrayBuffer()), digest),
  "fifty at once": async () => expect((await Promise.all(Array.from({ length: 50 }, async () => (await fetch("/word")).status))).every((one) => one === 200), true),
  cookies: async () => {
    document.cookie = "a=1"; document.cookie = "b=2";
    return expect(JSON.parse((await fetch("/saw")).headers.get("x-saw")).cookie, "a=1; b=2");
  },
  EventSource: () => new Promise((go) => {
    const source = new EventSource("/events"), sent = [], came = [];
    source.onmessage = (event) => (sent.push(Number(event.data)), came.push(Date.now() / 1000));
    source.onerror = () => (source.close(), go(sent.length === 5 && came[0] < sent[4] ? null : sent.length + " events, not streamed"));
  }),
  cancel: async () => {
    const stop = new AbortController();
    const answer = await fetch("/download?size=" + body.length, { signal: stop.signal });
    await answer.body.getReader().read();
    stop.abort();
    return expect(await (await fetch("/word")).text(), "a word\\n");
  },
  WebSocket: () => new Promise((go) => {
    const socket = new WebSocket("wss://" + location.host + "/ws");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => (socket.close(), go(expect(event.data, "hello")));
    socket.onerror = () => go("an error");
  }),
};
for (const [name, run] of Object.entries(cases)) {
  try { results[name] = await run(); } catch (error) { results[name] = String(error); }
}
document.querySelector("pre").textContent = JSON.stringify(results);
await fetch("/finished", { method: "POST", body: JSON.stringify(results) });
</script>`;
paths["/page"] = (request, response) => (response.setHeader("Content-Type", "text/html"), response.end(page));

// Anything else: the body comes back as it came.
const echo = (request, response) => {
  response.setHeader("X-Method", request.method);
  response.setHeader("X-Saw", JSON.stringify(request.headers).slice(0, 4000));
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const body = Buffer.concat(pieces);
    if (request.method !== "HEAD") response.setHeader("Content-Length", body.length);
    response.end(body);
  });
};

const server = http.createServer({ keepAliveTimeout: 120_000, requestTimeout: 0 }, (request, response) => {
  const url = new URL(request.url, "http://site");
  request.on("error", () => {});
  response.on("error", () => {});
  (paths[url.pathname] ?? echo)(request, response, url.searchParams);
});
const sockets = new WebSocketServer({ server, maxPayload: 64 << 20, maxFragments: 0, perMessageDeflate: { threshold: 0 } });
sockets.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (message, binary) => socket.send(message, { binary }));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
