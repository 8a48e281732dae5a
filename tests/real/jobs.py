"""Background requests in front of a real FastAPI service: nothing that was accepted is lost, nothing is invented.

Three parts, each with a gateway and a service of its own:

- `kill`: clients send jobs as fast as they are accepted while the gateway is killed (SIGKILL) at random moments and started
  again. In the end every accepted id must have succeeded with its own answer, everything the service did must have been
  sent, nothing that was refused may have been done, and the jobs of one session must have begun in their order.
- `incident`: 1000 requests of 100 clients at once for a service that takes 0.1 to 13 s for each and can do five at once.
  All that fit must be accepted, and done, and the service must never have more than five.
- `full`: the store is on a file system of 4 MiB, in a mount namespace of its own. What does not fit must be refused, and not
  done; once there is room again, all that was accepted must be done, also after a kill. Skipped where the system allows no
  such mounts.

    python tests/real/jobs.py --gateway target/release/turnwise                    # a minute
    python tests/real/jobs.py --gateway target/release/turnwise --kills 300        # a few minutes
    python tests/real/jobs.py --gateway target/release/turnwise --part incident --speed 1   # as slow as it was
"""

import argparse
import asyncio
import json
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from claims import soon_beside
from processes import free_address, start, stop, wait_for

HERE = pathlib.Path(__file__).parent
# No wait takes longer, however slow the machine is.
BOUND = 120


class Wire:
    """One HTTP/1.1 connection. Clients of a library would take more time than what they measure."""

    def __init__(self, address: str):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.reader = self.writer = None

    async def ask(self, method: str, path: str, fields: str = "", body: bytes = b"") -> tuple[int, dict, bytes]:
        """Raises `OSError` or `EOFError` when the connection breaks before there is an answer."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
            self.writer.write(head.encode() + body)
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            answer = await self.reader.readexactly(int(headers.get("content-length", 0)))
        except BaseException:
            self.close()
            raise
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split(" ")[1]), headers, answer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None


class House:
    """A service and a gateway in front of it, in a folder of their own."""

    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, service: list[str], background: str):
        self.binary, self.folder = binary, folder
        self.service_address, self.address, self.admin = free_address(), free_address(), free_address()
        command = [sys.executable, HERE / "memories.py", "--listen", self.service_address, *service]
        self.service = start(command, folder / "service.log")
        wait_for(f"http://{self.service_address}/health", self.service, folder / "service.log")
        (folder / "gateway.yaml").write_text(
            f"listen: {self.address}\nadmin: {{ listen: '{self.admin}' }}\n"
            f"upstreams: {{ memories: {{ servers: ['http://{self.service_address}'], concurrency: 5 }} }}\n"
            f"background: {{ {background} }}\n"
            "routes:\n  - name: memories\n    upstream: memories\n    background: prefer\n"
            "    timeouts: { response: 60s, total: 5m }\n"
            "    session: { key: [{ header: X-Session-Id }] }\n"
        )
        self.gateway = None
        self.started = 0
        self.start()

    def start(self) -> None:
        self.started += 1
        log = self.folder / f"gateway-{self.started}.log"
        command = [self.binary, "serve", "-c", self.folder / "gateway.yaml", "--log-format", "json"]
        self.gateway = start(command, log)
        wait_for(f"http://{self.admin}/-/ready", self.gateway, log)

    def kill(self) -> None:
        self.gateway.send_signal(signal.SIGKILL)
        self.gateway.wait(timeout=BOUND)

    async def status(self) -> dict:
        return json.loads((await Wire(self.admin).ask("GET", "/status"))[2])["jobs"]

    async def record(self) -> dict:
        return json.loads((await Wire(self.service_address).ask("GET", "/record"))[2])

    async def until_done(self, bound: float) -> dict:
        """Waits until no job waits or runs."""

        async def done() -> dict | None:
            jobs = await self.status()
            return jobs if jobs["queued"] + jobs["running"] + jobs["retrying"] == 0 else None

        return await soon_beside("no job waits or runs", done, bound, 0.1, evidence=self.status)

    def close(self) -> list[str]:
        """Ends both; says what went wrong."""
        wrong = []
        if (code := stop(self.gateway)) != 0:
            wrong.append(f"the gateway ended with {code}")
        stop(self.service)
        for log in self.folder.glob("gateway-*.log"):
            for line in log.read_text().splitlines():
                if "panicked" in line or '"ERROR"' in line:
                    wrong.append(f"{log.name}: {line}")
        return wrong


def job(session: str, tag: str, padding: int | None) -> tuple[str, str, str, bytes]:
    fields = f"Prefer: respond-async\r\nX-Session-Id: {session}\r\nContent-Type: application/json\r\n"
    # Of different lengths, so that transactions are of different lengths.
    text = "x" * (hash(tag) % 7 * 1000 if padding is None else padding)
    return "POST", "/memories", fields, json.dumps({"session": session, "tag": tag, "text": text}).encode()


class Sent:
    """What became of what was sent."""

    def __init__(self):
        self.accepted: dict[str, str] = {}  # tag: path
        self.refused: set[str] = set()
        self.unknown: set[str] = set()  # the connection broke before there was an answer
        self.latencies: list[float] = []

    async def send(self, wire: Wire, session: str, tag: str, padding: int | None = None) -> int:
        began = time.perf_counter()
        try:
            status, headers, body = await asyncio.wait_for(wire.ask(*job(session, tag, padding)), BOUND)
        except ConnectionRefusedError:
            return 0  # never sent
        except (OSError, EOFError):
            self.unknown.add(tag)
            return 0
        if status == 202:
            self.latencies.append(time.perf_counter() - began)
            assert headers["location"].endswith(json.loads(body)["id"])
            self.accepted[tag] = headers["location"]
        else:
            self.refused.add(tag)
        return status


async def judge(house: House, sent: Sent, at_once: int = 5) -> list[str]:
    """What was lost, invented, or done in the wrong order."""
    wrong = []
    wires = [Wire(house.address) for _ in range(8)]

    async def look(wire: Wire, tags: list[str]) -> None:
        for tag in tags:
            path = sent.accepted[tag]
            status, _, body = await wire.ask("GET", path)
            told = json.loads(body)
            if status != 200 or told.get("status") != "succeeded":
                wrong.append(f"{tag} was accepted as {path} and is {status} {told}")
                continue
            status, _, body = await wire.ask("GET", f"{path}/result")
            answer = json.loads(body)
            if status != 201 or answer["tag"] != tag or answer["key"] != path.rsplit("/", 1)[1]:
                wrong.append(f"{tag} at {path} has the answer {status} {answer}")

    tags = list(sent.accepted)
    await asyncio.gather(*(look(wire, tags[place :: len(wires)]) for place, wire in enumerate(wires)))
    record = await house.record()
    done = {tag for _, tag in record["began"]}
    lost = set(sent.accepted) - done
    invented = done - set(sent.accepted) - sent.unknown
    if lost:
        wrong.append(f"accepted, and never done: {sorted(lost)[:10]} ({len(lost)})")
    if invented:
        wrong.append(f"done, and never accepted: {sorted(invented)[:10]} ({len(invented)})")
    jobs = await house.status()
    kept = sum(jobs[status] for status in ("queued", "running", "retrying", "succeeded", "failed", "cancelled"))
    if not len(sent.accepted) <= kept <= len(sent.accepted) + len(sent.unknown):
        wrong.append(f"{kept} jobs are kept of {len(sent.accepted)} accepted and {len(sent.unknown)} unknown")
    if jobs["failed"] or jobs["cancelled"]:
        wrong.append(f"jobs ended badly: {jobs}")
    # A client sends the next of its session when it knows of the one before: so numbers never fall.
    last: dict[str, int] = {}
    for session, tag in record["began"]:
        number = int(tag.rsplit("-", 1)[1])
        if number < last.get(session, -1):
            wrong.append(f"{tag} began after {session}-{last[session]}")
        last[session] = max(number, last.get(session, -1))
    if record["most"] > at_once or record["refused"]:
        wrong.append(f"the service had {record['most']} at once and refused {record['refused']}")
    return wrong


async def killed(house: House, kills: int, seed: int) -> tuple[Sent, list[str]]:
    chance = random.Random(seed)
    sent = Sent()
    over = asyncio.Event()

    async def client(session: str) -> None:
        wire, number = Wire(house.address), 0
        while not over.is_set():
            status = await sent.send(wire, session, f"{session}-{number}")
            number += 1
            # Full, or not there: it comes back later.
            await asyncio.sleep(0.02 if status == 202 else 0.1)

    async def at_rest() -> bool:
        return (await house.record())["now"] == 0

    clients = [asyncio.create_task(client(f"s{number}")) for number in range(24)]
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0, 0.35))
        await asyncio.to_thread(house.kill)
        # What ran goes on at the service, of which the next gateway knows nothing: with its own it would be too much at once.
        await soon_beside("the service is at rest", at_rest, BOUND, evidence=house.record)
        await asyncio.to_thread(house.start)
    before = len(sent.accepted)

    async def more() -> bool:
        return len(sent.accepted) >= before + len(clients)

    await soon_beside("jobs are accepted after the last start, too", more, BOUND, evidence=house.status)
    over.set()
    await asyncio.gather(*clients)
    await house.until_done(BOUND + len(sent.accepted) * 0.02)
    return sent, await judge(house, sent)


async def incident(house: House, speed: float) -> tuple[Sent, list[str]]:
    sent = Sent()
    numbers = iter(range(1000))

    async def client() -> None:
        wire = Wire(house.address)
        for number in numbers:
            # Each in a session of its own: what holds them back is the service alone.
            await sent.send(wire, f"m{number}", f"m{number}-0")

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(100)))
    took = time.perf_counter() - began
    print(f"  1000 requests of 100 clients were answered in {took:.2f} s")
    if len(sent.accepted) != 1000:
        return sent, [f"{len(sent.accepted)} of 1000 were accepted"]
    await house.until_done(BOUND + 1000 / speed)
    print(f"  and done {time.perf_counter() - began:.0f} s after they began")
    return sent, await judge(house, sent)


async def full(house: House) -> tuple[Sent, list[str]]:
    sent, wrong = Sent(), []
    store = house.folder / "turnwise-jobs"

    async def fill(numbers: range) -> int:
        """Sends until something is refused; says how many were accepted."""
        wire = Wire(house.address)
        for count, number in enumerate(numbers):
            if await sent.send(wire, f"m{number}", f"m{number}-0", padding=60_000) != 202:
                return count
        return len(numbers)

    first = await fill(range(1000))
    if not 5 <= first < 200:
        wrong.append(f"{first} jobs of 60 kB were accepted on a disk of 4 MiB")
    # They have left room for what comes of them: they are done without more of it.
    await house.until_done(BOUND * 2)
    again = await fill(range(1000, 2000))
    print(f"  {first} jobs fit, and {again} when they were done; refused: {len(sent.refused)}")
    await asyncio.to_thread(house.kill)
    subprocess.run(["mount", "-o", "remount,size=64m", str(store)], check=True)
    await asyncio.to_thread(house.start)
    if (later := await fill(range(2000, 2020))) != 20:
        wrong.append(f"with more room, {later} of 20 were accepted")
    await house.until_done(BOUND * 2)
    for log in house.folder.glob("gateway-*.log"):
        # That the disk was full is to be in the log.
        text = log.read_text()
        if log.name == "gateway-1.log" and "job store cannot be written" not in text:
            wrong.append("the log does not tell of a full disk")
        log.write_text("\n".join(line for line in text.splitlines() if "job store cannot be" not in line))
    # What ran when the gateway was killed goes on at the service, which knows nothing of it.
    return sent, wrong + await judge(house, sent, at_once=10)


def apart(given: argparse.Namespace) -> list[str]:
    """Runs the part that mounts in a namespace of its own."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    try:
        probe = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except FileNotFoundError:
        probe = None
    if probe is None or probe.returncode:
        print("a disk that is full: skipped, this system allows no mounts of one's own")
        return []
    command = [*unshare, sys.executable, __file__, "--gateway", str(given.gateway), "--part", "full", "--inside"]
    return [] if subprocess.run(command).returncode == 0 else ["the part `full` has failed, see above"]


def told(sent: Sent) -> None:
    latencies = sorted(sent.latencies)
    mean, p50 = statistics.mean(latencies), latencies[len(latencies) // 2]
    p99 = latencies[len(latencies) * 99 // 100]
    print(
        f"  accepted {len(sent.accepted)}, refused {len(sent.refused)}, cut off by a kill {len(sent.unknown)}; "
        f"202 after mean {mean * 1000:.1f} ms, median {p50 * 1000:.1f} ms, 99% {p99 * 1000:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateway", type=pathlib.Path, required=True)
    parser.add_argument("--part", choices=["kill", "incident", "full"], action="append")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--speed", type=float, default=50, help="how much faster than in the incident the service is")
    parser.add_argument("--max-mean", type=float, help="fail if a 202 takes longer than so many ms on average")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    wrong = []
    for part in given.part or ["kill", "incident", "full"]:
        began = time.monotonic()
        if part == "full" and not given.inside:
            wrong += apart(given)
            continue
        with tempfile.TemporaryDirectory() as folder:
            if part == "kill":
                print(f"killed {given.kills} times at random moments under load (--seed {given.seed})")
                house = House(given.gateway, pathlib.Path(folder), ["--fast"], "queue: 2000, attempts: 10, retry_delay: 50ms")
                run = killed(house, given.kills, given.seed)
            elif part == "full":
                print("a disk that is full")
                store = pathlib.Path(folder) / "turnwise-jobs"
                store.mkdir(mode=0o700)
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(store)], check=True)
                house = House(given.gateway, pathlib.Path(folder), ["--speed", "10", "--at-once", "10"], "retry_delay: 50ms")
                run = full(house)
            else:
                print(f"the incident, {given.speed:g} times as fast")
                house = House(given.gateway, pathlib.Path(folder), ["--speed", str(given.speed)], "")
                run = incident(house, given.speed)
            try:
                sent, found = asyncio.run(run)
            finally:
                ended = house.close()
                if part == "full":
                    subprocess.run(["umount", str(store)], check=False)
            told(sent)
            print(f"  {time.monotonic() - began:.0f} s")
            mean = statistics.mean(sent.latencies) * 1000
            if part == "incident" and given.max_mean and mean > given.max_mean:
                found.append(f"a 202 took {mean:.1f} ms on average")
            wrong += found + ended
    for line in wrong[:50]:
        print(f"WRONG: {line}")
    if wrong:
        sys.exit(f"{len(wrong)} things are wrong")
    print("nothing was lost, nothing invented")


if __name__ == "__main__":
    main()
