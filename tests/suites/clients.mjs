// Node's own clients and undici: JSON of name to problem, or null. Arguments: the address for HTTP/1.1, the one for HTTP/2.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const undici = createRequire(process.env.MODULES + "/")("undici");
const [, , base, second] = process.argv;
const body = Buffer.alloc(32 << 20, "turnwise");
const sha = (octets) => createHash("sha256").update(octets).digest("hex");
const digest = sha(body);
const expect = (got, wanted) => (got === wanted ? null : `${String(got).slice(0, 100)} instead of ${wanted}`);
const uploaded = JSON.stringify({ size: body.length, digest });
const ca = readFileSync(process.env.NODE_EXTRA_CA_CERTS);

const withFetch = (fetch, options = {}) => ({
  get: async () => expect(await (await fetch(base + "/word", options)).text(), "a word\n"),
  post: async () => expect(await (await fetch(base + "/echo", { ...options, method: "POST", body: "a=1" })).text(), "a=1"),
  upload: async () => expect(await (await fetch(base + "/upload", { ...options, method: "POST", body })).text(), uploaded),
  "chunked upload": async () => {
    const stream = new ReadableStream({ start: (to) => (to.enqueue(body.subarray(0, 16 << 20)), to.enqueue(body.subarray(16 << 20)), to.close()) });
    return expect(await (await fetch(base + "/upload", { ...options, method: "POST", body: stream, duplex: "half" })).text(), uploaded);
  },
  download: async () => expect(sha(Buffer.from(await (await fetch(base + `/download?size=${body.length}`, options)).arrayBuffer())), digest),
  events: async () => {
    const sent = [], came = [];
    for await (const piece of (await fetch(base + "/events", options)).body)
      for (const found of Buffer.from(piece).toString().matchAll(/data: (\S+)/g)) (sent.push(Number(found[1])), came.push(Date.now() / 1000));
    return sent.length === 5 && came[0] < sent[4] ? null : `${sent.length} events, not streamed`;
  },
  cancel: async () => {
    const stop = new AbortController();
    const answer = await fetch(base + `/download?size=${body.length}`, { ...options, signal: stop.signal });
    await answer.body.getReader().read();
    stop.abort();
    return null;
  },
  "fifty at once": async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, async (_, n) => (await fetch(base + "/echo", { ...options, method: "POST", body: `${n}` })).text()));
    return expect(answers.join(), Array.from({ length: 50 }, (_, n) => `${n}`).join());
  },
});

const withAgent = {
  "keep-alive": async () => {
    const { Agent, request } = base.startsWith("https") ? https : http;
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca });
    const ports = new Set();
    for (let count = 0; count < 20; count++)
      await new Promise((resolve, reject) =>
        request(base + "/word", { agent }, (answer) => (ports.add(answer.socket.localPort), answer.resume().on("end", resolve))).on("error", reject).end());
    agent.destroy();
    return expect(ports.size, 1);
  },
};

const withHttp2 = () => {
  const session = http2.connect(second, { ca });
  const ask = (path, headers = {}, content) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":path": path, ...headers });
      const pieces = [];
      stream.on("data", (piece) => pieces.push(piece)).on("end", () => resolve(Buffer.concat(pieces))).on("error", reject);
      stream.end(content);
    });
  return {
    get: async () => expect((await ask("/word")).toString(), "a word\n"),
    upload: async () => expect((await ask("/upload", { ":method": "POST" }, body)).toString(), uploaded),
    download: async () => expect(sha(await ask(`/download?size=${body.length}`)), digest),
    "fifty at once": async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => ask("/echo", { ":method": "POST" }, `${n}`)));
      return expect(answers.join(), Array.from({ length: 50 }, (_, n) => `${n}`).join());
    },
    cancel: async () => {
      const stream = session.request({ ":path": `/download?size=${body.length}` });
      await new Promise((go) => stream.once("data", go));
      stream.close(http2.constants.NGHTTP2_CANCEL);
      return expect((await ask("/word")).toString(), "a word\n");
    },
    cookies: async () => {
      const stream = session.request({ ":path": "/saw", cookie: ["a=1", "b=2"] });
      const saw = await new Promise((go) => stream.once("response", (headers) => go(headers["x-saw"])));
      stream.close();
      return expect(JSON.parse(saw).cookie, "a=1; b=2");
    },
    end: async () => (session.close(), null),
  };
};

const results = {};
const groups = {
  fetch: withFetch(fetch),
  undici: withFetch(undici.fetch, { dispatcher: new undici.Agent({ connect: { ca } }) }),
  "node http": withAgent,
  "node http2": withHttp2(),
};
if (base.startsWith("https")) groups["undici, HTTP/2"] = withFetch(undici.fetch, { dispatcher: new undici.Agent({ allowH2: true, connect: { ca } }) });
for (const [group, cases] of Object.entries(groups))
  for (const [name, run] of Object.entries(cases))
    results[`${group}: ${name}`] = await Promise.race([run().catch(String), sleep(60_000, "not within a minute", { ref: false })]);
console.log(JSON.stringify(results));
process.exit(0);
