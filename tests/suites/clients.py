"""What people call an API with, each with the same tasks."""

import asyncio
import hashlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import tempfile
import time

import aiohttp
import httpx
import requests

from rig import HERE, Counts, Proxy, program

MIB = 1 << 20
BODY = b"turnwise" * (32 * MIB // 8)
DIGEST = hashlib.sha256(BODY).hexdigest()
SIZE = len(BODY)


def streamed(arrivals: list[tuple[float, float]]) -> str | None:
    """Pairs of when a piece was sent and when it came: the first must have come before the last was sent."""
    if len(arrivals) != 5:
        return f"{len(arrivals)} events, not 5"
    return None if arrivals[0][1] < arrivals[-1][0] else "the first event came only when the last had been sent"


def expect(got: object, wanted: object) -> str | None:
    return None if got == wanted else f"{str(got)[:100]} instead of {str(wanted)[:100]}"


def with_requests(base: str, ca: str):
    session = requests.Session()
    session.trust_env = False
    session.verify = ca

    def upload():
        return expect(session.post(base + "/upload", data=BODY).json(), {"size": SIZE, "digest": DIGEST})

    def events():
        arrivals = []
        with session.get(base + "/events", stream=True) as answer:
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    arrivals.append((float(line[5:]), time.time()))
        return streamed(arrivals)

    def keep_alive():
        own = requests.Session()
        own.trust_env = False
        own.verify = ca
        for _ in range(20):
            own.get(base + "/word")
        pools = own.get_adapter(base).poolmanager.pools
        return expect(sum(pools[key].num_connections for key in pools.keys()), 1)

    def cancel():
        answer = session.get(base + f"/download?size={SIZE}", stream=True)
        next(answer.iter_content(1000))
        answer.close()

    yield "get", lambda: expect(session.get(base + "/word").text, "a word\n")
    yield "post", lambda: expect(session.post(base + "/echo", json={"a": 1}).json(), {"a": 1})
    yield "upload", upload
    yield "chunked upload", lambda: expect(session.post(base + "/upload", data=iter([BODY[:MIB]] * 32)).json()["size"], SIZE)
    yield "download", lambda: expect(hashlib.sha256(session.get(base + f"/download?size={SIZE}").content).hexdigest(), DIGEST)
    yield "events", events
    yield "keep-alive", keep_alive
    yield "cancel", cancel


def with_httpx(base: str, ca: str, http2: bool):
    context = ssl.create_default_context(cafile=ca)
    options = {"verify": context, "timeout": 60, "http1": not http2 or base.startswith("https"), "http2": http2, "trust_env": False}
    version = "HTTP/2" if http2 else "HTTP/1.1"
    client = httpx.Client(**options)

    def get():
        answer = client.get(base + "/word")
        return expect((answer.text, answer.http_version), ("a word\n", version))

    def events():
        arrivals = []
        with client.stream("GET", base + "/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    arrivals.append((float(line[5:]), time.time()))
        return streamed(arrivals)

    def keep_alive():
        seen = []
        with httpx.Client(**options) as own:
            for _ in range(20):
                trace = {"trace": lambda name, _: seen.append(name) if name == "connection.connect_tcp.complete" else None}
                own.get(base + "/word", extensions=trace)
        return expect(len(seen), 1)

    def cancel():
        with client.stream("GET", base + f"/download?size={SIZE}") as answer:
            next(answer.iter_raw(1000))

    yield "get", get
    yield "post", lambda: expect(client.post(base + "/echo", json={"a": 1}).json(), {"a": 1})
    yield "upload", lambda: expect(
        # In pieces: over HTTP/2 the time that it takes for one grows with the square of its length.
        client.post(base + "/upload", content=iter([BODY[:MIB]] * 32), headers={"Content-Length": str(SIZE)}).json(),
        {"size": SIZE, "digest": DIGEST},
    )
    yield "chunked upload", lambda: expect(client.post(base + "/upload", content=iter([BODY[:MIB]] * 32)).json()["size"], SIZE)
    yield "download", lambda: expect(hashlib.sha256(client.get(base + f"/download?size={SIZE}").content).hexdigest(), DIGEST)
    yield "events", events
    yield "keep-alive", keep_alive
    yield "cancel", cancel
    yield "after a cancel", get
    yield "end", client.close


def with_aiohttp(base: str, ca: str):
    context = ssl.create_default_context(cafile=ca)

    def case(work):
        async def whole():
            connections = []
            trace = aiohttp.TraceConfig()

            async def connected(*_):
                connections.append(1)

            trace.on_connection_create_end.append(connected)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), trace_configs=[trace]) as session:
                return await work(session, connections)

        return lambda: asyncio.run(asyncio.wait_for(whole(), 120))

    async def get(session, _):
        async with session.get(base + "/word") as answer:
            return expect(await answer.text(), "a word\n")

    async def post(session, _):
        async with session.post(base + "/echo", json={"a": 1}) as answer:
            return expect(json.loads(await answer.text()), {"a": 1})

    async def upload(session, _):
        async with session.post(base + "/upload", data=BODY) as answer:
            return expect(json.loads(await answer.text()), {"size": SIZE, "digest": DIGEST})

    async def chunked(session, _):
        async def pieces():
            for _ in range(32):
                yield BODY[:MIB]

        async with session.post(base + "/upload", data=pieces(), expect100=True) as answer:
            return expect(json.loads(await answer.text())["size"], SIZE)

    async def download(session, _):
        async with session.get(base + f"/download?size={SIZE}&chunked") as answer:
            return expect(hashlib.sha256(await answer.read()).hexdigest(), DIGEST)

    async def events(session, _):
        arrivals = []
        async with session.get(base + "/events") as answer:
            async for line in answer.content:
                if line.startswith(b"data:"):
                    arrivals.append((float(line[5:]), time.time()))
        return streamed(arrivals)

    async def keep_alive(session, connections):
        for _ in range(20):
            async with session.get(base + "/word") as answer:
                await answer.read()
        return expect(len(connections), 1)

    async def cancel(session, _):
        async with session.get(base + f"/download?size={SIZE}") as answer:
            await answer.content.read(1000)
            answer.close()

    async def websocket(session, _):
        async with session.ws_connect(base + "/ws") as socket:
            await socket.send_str("hello")
            return expect((await socket.receive()).data, "hello")

    names = {"get": get, "post": post, "upload": upload, "chunked upload, 100-continue": chunked, "download": download}
    names |= {"events": events, "keep-alive": keep_alive, "cancel": cancel, "websocket": websocket}
    for name, work in names.items():
        yield name, case(work)


def with_curl(base: str, ca: str, folder: pathlib.Path, options: list[str], version: str):
    body = folder / "body"
    body.write_bytes(BODY)

    def curl(*words: str, limit: int = 120) -> subprocess.CompletedProcess:
        return subprocess.run(["curl", "-sS", "--cacert", ca, *options, *words], capture_output=True, timeout=limit)

    def output(*words: str) -> str:
        done = curl(*words)
        return done.stdout.decode() if done.returncode == 0 else done.stderr.decode()

    def events():
        command = ["curl", "-sSN", "--cacert", ca, *options, base + "/events"]
        arrivals = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("data:"):
                    arrivals.append((float(line[5:]), time.time()))
        return streamed(arrivals)

    def keep_alive():
        urls = [word for _ in range(20) for word in ("-o", "/dev/null", base + "/word")]
        return expect(output("-w", "%{num_connects}", *urls), "1" + "0" * 19)

    def cancel():
        done = curl("-m", "1", "--limit-rate", "1M", base + f"/download?size={SIZE}")
        return expect(done.returncode, 28)

    yield "get", lambda: expect(output("-w", "%{http_version}", base + "/word"), f"a word\n{version}")
    yield "head", lambda: expect(curl("-I", "-o", "/dev/null", "-w", "%{http_code}", base + "/word").stdout, b"200")
    yield "post", lambda: expect(output("-d", "a=1", base + "/echo"), "a=1")
    yield "upload", lambda: expect(output("-T", str(body), base + "/upload"), json.dumps({"size": SIZE, "digest": DIGEST}, separators=(",", ":")))
    yield "chunked upload", lambda: expect(
        output("-T", str(body), "-H", "Transfer-Encoding: chunked", base + "/upload"),
        json.dumps({"size": SIZE, "digest": DIGEST}, separators=(",", ":")),
    )
    yield "100-continue", lambda: expect(
        output("--data-binary", f"@{body}", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "-m", "20", base + "/upload")[:16],
        json.dumps({"size": SIZE}, separators=(",", ":"))[:16],
    )
    yield "download", lambda: expect(hashlib.sha256(curl(base + f"/download?size={SIZE}").stdout).hexdigest(), DIGEST)
    yield "events", events
    # curl 7.88 cannot use a connection of HTTP/2 without TLS a second time, whoever serves it.
    if "--http2-prior-knowledge" not in options:
        yield "keep-alive", keep_alive
    yield "cancel", cancel


def with_node(proxy: Proxy, kind: str, modules: pathlib.Path) -> dict[str, str | None]:
    command = [program("node"), str(HERE / "clients.mjs"), proxy.url(kind, ""), proxy.url("http2" if kind == "clear" else kind, "")]
    environment = {**os.environ, "MODULES": str(modules), "NODE_EXTRA_CA_CERTS": str(proxy.folder / "ca.pem")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    return json.loads(done.stdout) if done.returncode == 0 else {"node": done.stderr[-300:]}


def with_h2load(proxy: Proxy, kind: str) -> str | None:
    """Everything that is asked for is answered."""
    command = ["h2load", "-n", "5000", "-c", "20", "-m", "20", proxy.url(kind, "/word")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return None if "5000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout else done.stdout[-400:] + done.stderr[-200:]


def with_ab(proxy: Proxy, *options: str) -> str | None:
    command = [program("ab"), "-q", "-n", "3000", "-c", "50", *options, f"http://127.0.0.1:{proxy.ports['clear']}/word"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    good = re.search(r"Complete requests:\s+3000\nFailed requests:\s+0", done.stdout) and "Non-2xx" not in done.stdout
    return None if good else done.stdout[-400:] + done.stderr[-200:]


def with_chromium(proxy: Proxy, folder: pathlib.Path) -> dict[str, str | None]:
    """A page does the tasks itself and tells the server what came of them."""
    page = f"https://localhost:{proxy.ports['tls']}/page"
    command = [program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder / 'profile'}", "--ignore-certificate-errors", "--remote-debugging-port=0", page]
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if found := httpx.get(proxy.url("clear", "/finished"), timeout=30, trust_env=False, headers={"Connection": "close"}).text:
                return json.loads(found)
            time.sleep(0.5)
        return {"page": "nothing after two minutes: " + (folder / "chromium.log").read_text()[-300:]}
    finally:
        process.terminate()
        process.wait(30)


def run(proxy: Proxy, folder: pathlib.Path, modules: pathlib.Path, only: str = "") -> Counts:
    counts = Counts()
    ca = str(proxy.folder / "ca.pem")
    client = ["--cert", str(proxy.folder / "client.pem"), "--key", str(proxy.folder / "client.key")]
    # A browser that is ending may still write to its profile.
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        own = pathlib.Path(own)
        groups = {
            "requests": with_requests(proxy.url("clear", ""), ca),
            "requests, TLS": with_requests(proxy.url("tls", ""), ca),
            "httpx": with_httpx(proxy.url("clear", ""), ca, False),
            "httpx, TLS": with_httpx(proxy.url("tls", ""), ca, False),
            "httpx, HTTP/2": with_httpx(proxy.url("http2", ""), ca, True),
            "httpx, HTTP/2 over TLS": with_httpx(proxy.url("tls", ""), ca, True),
            "aiohttp": with_aiohttp(proxy.url("clear", ""), ca),
            "aiohttp, TLS": with_aiohttp(proxy.url("tls", ""), ca),
            "curl": with_curl(proxy.url("clear", ""), ca, own, ["--http1.1"], "1.1"),
            "curl, TLS": with_curl(proxy.url("tls", ""), ca, own, ["--http1.1"], "1.1"),
            "curl, HTTP/2": with_curl(proxy.url("http2", ""), ca, own, ["--http2-prior-knowledge"], "2"),
            "curl, HTTP/2 over TLS": with_curl(proxy.url("tls", ""), ca, own, ["--http2"], "2"),
            "curl, client certificate": with_curl(proxy.url("mutual", ""), ca, own, ["--http2", *client], "2"),
            "curl, PROXY protocol": with_curl(proxy.url("proxied", ""), ca, own, ["--haproxy-protocol", "--http1.1"], "1.1"),
        }
        for group, cases in groups.items():
            if only not in group:
                continue
            for name, case in cases:
                try:
                    problem = case()
                except Exception as error:  # whatever it is, it is the case's result
                    problem = repr(error)
                counts.check(f"{group}: {name}", problem)
            counts.check(f"{group}: at rest", "; ".join(proxy.unrest()) or None)
        if only in "node":
            for kind in ("clear", "tls"):
                for name, problem in with_node(proxy, kind, modules).items():
                    counts.check(f"{name}, {kind}", problem)
                counts.check(f"node, {kind}: at rest", "; ".join(proxy.unrest()) or None)
        if only in "load":
            for kind in ("http2", "tls"):
                counts.check(f"h2load, {kind}", with_h2load(proxy, kind))
            for options in ([], ["-k"]):
                counts.check(f"ab {' '.join(options)}", with_ab(proxy, *options))
            counts.check("loads: at rest", "; ".join(proxy.unrest()) or None)
        if only in "chromium":
            for name, problem in with_chromium(proxy, own).items():
                counts.check(f"chromium: {name}", problem)
            counts.check("chromium: at rest", "; ".join(proxy.unrest()) or None)
    return counts
