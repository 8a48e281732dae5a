"""WebSocket: the cases of Autobahn's fuzzing client, and two other clients."""

import asyncio
import json
import os
import pathlib
import subprocess

import websockets

from rig import HERE, Counts, Proxy, program

# Of the compressed ones, which are many and long, the first three of each kind.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
CASES += [f"{kind}.{group}.{case}" for kind, groups in ((12, 5), (13, 7)) for group in range(1, groups + 1) for case in (1, 2, 3)]
RIGHT = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED")


def autobahn(name: str, port: int, wstest: str, folder: pathlib.Path) -> Counts:
    counts, file = Counts(), folder / f"{name}.json"
    server = {"agent": name, "url": f"ws://127.0.0.1:{port}/ws"}
    reports = {"outdir": str(folder / name), "servers": [server], "cases": CASES}
    file.write_text(json.dumps({**reports, "exclude-cases": [], "exclude-agent-cases": {}}))
    with (folder / f"{name}.log").open("w") as log:
        subprocess.run([wstest, "-m", "fuzzingclient", "-s", str(file)], stdout=log, stderr=log, timeout=600)
    for case, result in json.loads((folder / name / "index.json").read_text())[name].items():
        right = result["behavior"] in RIGHT and result["behaviorClose"] in RIGHT
        counts.check(case, None if right else f"{result['behavior']}, closed {result['behaviorClose']}")
    return counts


async def python_cases(url: str) -> dict[str, str | None]:
    """Each of them: what is wrong, or nothing."""

    async def echoes(message, **options) -> str | None:
        async with websockets.connect(url, max_size=None, **options) as socket:
            await socket.send(message)
            got = await asyncio.wait_for(socket.recv(), 60)
            return None if got == (message if isinstance(message, (str, bytes)) else "".join(message)) else "another message came back"

    async def pings() -> str | None:
        async with websockets.connect(url) as socket:
            for _ in range(20):
                await asyncio.wait_for(await socket.ping(), 30)

    async def code(number: int) -> str | None:
        socket = await websockets.connect(url)
        await socket.close(number, "so")
        return None if (socket.close_code, socket.close_reason) == (number, "so") else f"{socket.close_code} {socket.close_reason}"

    async def in_order() -> str | None:
        async with websockets.connect(url) as socket:
            for number in range(2000):
                await socket.send(str(number))
            got = [await asyncio.wait_for(socket.recv(), 30) for _ in range(2000)]
            return None if got == [str(number) for number in range(2000)] else "out of order"

    async def many() -> str | None:
        problems = await asyncio.gather(*(echoes(f"{number}") for number in range(80)))
        return next(filter(None, problems), None)

    async def dropped() -> str | None:
        socket = await websockets.connect(url)
        await socket.send("x")
        socket.transport.abort()

    cases = {
        "text": echoes("hello, world"),
        "octets": echoes(bytes(range(256))),
        "empty": echoes(""),
        "unicode": echoes("ünïcödé 🚦" * 100),
        "fragments": echoes(["one ", "two ", "three"]),
        "without compression": echoes("x" * 100_000, compression=None),
        "1 MiB": echoes(os.urandom(1 << 20)),
        "32 MiB": echoes(os.urandom(32 << 20)),
        "pings": pings(),
        "2000 messages in order": in_order(),
        "80 at once": many(),
        "dropped without a close": dropped(),
        **{f"close code {number}": code(number) for number in (1000, 1001, 1008, 1011, 3000, 4999)},
    }
    results = {}
    for name, case in cases.items():
        try:
            results[name] = await asyncio.wait_for(case, 90)
        except Exception as error:  # whatever it is, it is the case's result
            results[name] = repr(error)
    return results


def clients(proxy: Proxy, modules: pathlib.Path) -> Counts:
    counts = Counts()
    for name, problem in asyncio.run(python_cases(f"ws://127.0.0.1:{proxy.ports['clear']}/ws")).items():
        counts.check(f"websockets: {name}", problem)
    for kind, scheme in (("clear", "ws"), ("tls", "wss")):
        command = [program("node"), str(HERE / "sockets.mjs"), f"{scheme}://localhost:{proxy.ports[kind]}/ws"]
        environment = {**os.environ, "MODULES": str(modules), "NODE_EXTRA_CA_CERTS": str(proxy.folder / "ca.pem")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        if done.returncode:
            counts.check(f"ws over {scheme}", done.stderr[-300:])
            continue
        for name, problem in json.loads(done.stdout).items():
            counts.check(f"ws over {scheme}: {name}", problem)
    return counts
