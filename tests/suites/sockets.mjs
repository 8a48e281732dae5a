// Cases of the `ws` package: JSON of name to problem, or null.
import { createRequire } from "node:module";

const { WebSocket } = createRequire(process.env.MODULES + "/")("ws");
const url = process.argv[2];

const opened = (options = {}) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { maxPayload: 64 << 20, ...options });
    socket.on("open", () => resolve(socket));
    socket.on("error", reject);
  });
const event = (socket, name) => new Promise((go) => socket.once(name, (...all) => go(all)));

const echoes = (message, options) => async () => {
  const socket = await opened(options);
  const answer = event(socket, "message");
  socket.send(message);
  const [data, binary] = await answer;
  socket.close();
  const same = binary === (typeof message !== "string") && Buffer.compare(data, Buffer.from(message)) === 0;
  return same ? null : "another message came back";
};

const cases = {
  text: echoes("hello"),
  octets: echoes(Buffer.from([0, 1, 254, 255])),
  "without compression": echoes("x".repeat(100_000), { perMessageDeflate: false }),
  "8 MiB": echoes(Buffer.alloc(8 << 20, "z")),
  fragments: async () => {
    const socket = await opened();
    const answer = event(socket, "message");
    for (const piece of ["a", "b", "c"]) socket.send(piece, { fin: piece === "c" });
    const [data] = await answer;
    socket.close();
    return data.toString() === "abc" ? null : `${data}`;
  },
  pong: async () => {
    const socket = await opened();
    socket.ping("beat");
    const [data] = await event(socket, "pong");
    socket.close();
    return data.toString() === "beat" ? null : `${data}`;
  },
  "close code": async () => {
    const socket = await opened();
    socket.close(4001, "why");
    const [code, reason] = await event(socket, "close");
    return code === 4001 && reason.toString() === "why" ? null : `${code} ${reason}`;
  },
  terminated: async () => {
    const socket = await opened();
    socket.terminate();
    const [code] = await event(socket, "close");
    return code === 1006 ? null : `${code}`;
  },
};

const results = {};
for (const [name, run] of Object.entries(cases)) {
  const late = new Promise((go) => setTimeout(go, 60_000, "not within a minute").unref());
  results[name] = await Promise.race([run().catch(String), late]);
}
console.log(JSON.stringify(results));
process.exit(0);
