"""Session keys: those of others, those of many, and those that are made to be something else than text."""

import hashlib
import itertools
import json
import pathlib
import selectors
import socket
import subprocess
import sys
import time
import urllib.parse

from claims import comes_true
from hostile.client import Answer, Client, Nonsense, ask, get
from hostile.gateway import Gateway

POLICY = """\
limits: { concurrency: 100, fair_by: null }
upstreams:
  agents: { servers: ["http://{upstream}"] }
routes:
  - name: busy
    match: { path_prefix: /busy }
    upstream: agents
    session:
      key: [{ header: X-Session-Id }, { json: /session_id }, { query: session_id }, { cookie: sid }, { form: session_id }]
      within: [{ header: X-Api-Key }]
      when_busy: reject
  - name: waiting
    match: { path_prefix: /waiting }
    upstream: agents
    session: { key: [{ header: X-Session-Id }] }
  - name: assigned
    match: { path_prefix: /assigned }
    upstream: agents
    session: { key: [{ header: X-Session-Id }], assign: { header: X-Session-Id } }
  - name: joined
    match: { path_prefix: /joined }
    upstream: agents
    session: { key: [{ header: X-Session-Id }], duplicates: join, replay_for: 10s }
  - { name: free, upstream: agents }
"""

JSON = "Content-Type: application/json\r\n"
LONG = "l" * 300


def header(key: str, tenant: str | None = None) -> tuple[str, str, str]:
    """Fields, query and body that name a session."""
    return f"X-Session-Id: {key}\r\n" + (f"X-Api-Key: {tenant}\r\n" if tenant is not None else ""), "", ""


def document(text: str) -> tuple[str, str, str]:
    return JSON, "", text


def query(text: str) -> tuple[str, str, str]:
    return "", "?" + text, ""


def octets(text: str, encoding: str) -> tuple[str, str, str]:
    """A document in another encoding; `get` makes octets of it one for one."""
    return document(text.encode(encoding, "surrogatepass").decode("latin-1"))


def part(fields: str, value: str = "s") -> str:
    return f"--X\r\n{fields}\r\n\r\n{value}\r\n"


def multipart(*parts: str) -> tuple[str, str, str]:
    return "Content-Type: multipart/form-data; boundary=X\r\n", "", "".join(parts) + "--X--\r\n"


NAMED = 'Content-Disposition: form-data; name="session_id"'
# Python's `json.loads` reads all of these, and so do the applications that use it. They are of the session that it finds
# in them, or refused; not of none, for then they would run beside others of it.
READ_BY_PYTHON = (400, 409)

# Two requests, and whether they are of one session: while the first runs, the second gets 409 then, and 200 otherwise.
PAIRS = {
    "the same": (header("s"), header("s"), 409),
    "another": (header("s"), header("t"), 200),
    "another case": (header("s"), header("S"), 200),
    "blanks around it": (header("s"), header(" s\t "), 409),
    "the same tenant": (header("s", "a"), header("s", "a"), 409),
    "another tenant": (header("s", "a"), header("s", "b"), 200),
    "a tenant and none": (header("s", "a"), header("s"), 200),
    "an empty tenant and one": (header("s", ""), header("s", "a"), 200),
    "a tenant that moves into the key": (header("b:c", "a"), header("c", "a:b"), 200),
    "a tenant that is the key": (header("b", "a"), header("a", "b"), 200),
    "long, and another at its end": (header(LONG + "a"), header(LONG + "b"), 200),
    "long, the same": (header(LONG), header(LONG), 409),
    "long, and its digest": (header(LONG), header("sha256:" + hashlib.sha256(LONG.encode()).hexdigest()), 200),
    "long, and its escaped digest": (header(LONG), header("=sha256:" + hashlib.sha256(LONG.encode()).hexdigest()), 200),
    "escaped, and escaped twice": (header("=s"), header("==s"), 200),
    "composed and decomposed letters": (header("\xc3\xa9"), header("e\xcc\x81"), 200),
    "with line ends as escapes": (header("s%0d%0a"), header("s"), 200),
    "no octets of it are escapes in a field": (header("%73"), header("s"), 200),
    "in the body and in a field": (header("s"), document('{"session_id": "s"}'), 409),
    "escapes in the body": (header("s"), document('{"session_\\u0069d": "\\u0073"}'), 409),
    "twice in the body: the last": (header("t"), document('{"session_id": "s", "session_id": "t"}'), 409),
    "twice in the body: not the first": (header("s"), document('{"session_id": "s", "session_id": "t"}'), 200),
    "nul in the body": (header("s"), document('{"session_id": "s\\u0000"}'), 200),
    "line ends in the body": (header("s"), document('{"session_id": "s\\r\\nX: y"}'), 200),
    "half a surrogate in the body": (header("s"), document('{"session_id": "\\ud800"}'), 200),
    "deep in the body": (header("s"), document('{"x": ' + "[" * 20_000 + "]" * 20_000 + ', "session_id": "s"}'), 409),
    "in the query": (header("s"), query("session_id=%73"), 409),
    "twice in the query, different": (header("s"), query("session_id=s&session_id=t"), 400),
    "line ends in the query": (header("s"), query("session_id=s%0d%0a"), 400),
    "nul in the query": (header("s"), query("session_id=s%00"), 400),
    "no text in the query": (header("s"), query("session_id=%ff"), 400),
    "in a cookie": (header("s"), ("Cookie: a=b; sid=s\r\n", "", ""), 409),
    "twice in cookies, different": (header("s"), ("Cookie: sid=s; sid=t\r\n", "", ""), 400),
    "in two lines, different": (header("s"), ("X-Session-Id: s\r\nX-Session-Id: t\r\n", "", ""), 400),
    "in two lines, one empty": (header("s"), ("X-Session-Id:\r\nX-Session-Id: s\r\n", "", ""), 400),
    "no text": (header("s"), ("X-Session-Id: \xff\xfe\r\n", "", ""), 400),
    "in a field with an underscore": (header("s"), ("X_Session_Id: s\r\n", "", ""), 200),
    "empty, and in the body": (header("s"), ("X-Session-Id:\r\n" + JSON, "", '{"session_id": "s"}'), 409),
    "in UTF-16": (header("s"), octets('{"session_id": "s"}', "utf-16"), READ_BY_PYTHON),
    "in UTF-16, no mark": (header("s"), octets('{"session_id": "s"}', "utf-16-le"), READ_BY_PYTHON),
    "in UTF-16, the other order": (header("s"), octets('{"session_id": "s"}', "utf-16-be"), READ_BY_PYTHON),
    "in UTF-32": (header("s"), octets('{"session_id": "s"}', "utf-32"), READ_BY_PYTHON),
    "in UTF-8 with a mark": (header("s"), octets('{"session_id": "s"}', "utf-8-sig"), READ_BY_PYTHON),
    "beside a surrogate in UTF-8": (header("s"), octets('{"session_id": "s", "x": "\ud800"}', "utf-8"), READ_BY_PYTHON),
    "beside NaN": (header("s"), document('{"session_id": "s", "x": NaN}'), READ_BY_PYTHON),
    "beside Infinity": (header("s"), document('{"x": -Infinity, "session_id": "s"}'), READ_BY_PYTHON),
    "beside half a surrogate": (header("s"), document('{"x": "\\ud800", "session_id": "s"}'), READ_BY_PYTHON),
    "beside a number too large": (header("s"), document('{"x": 1e999, "session_id": "s"}'), READ_BY_PYTHON),
    "in a form": (header("s"), ("Content-Type: application/x-www-form-urlencoded\r\n", "", "session_id=%73"), 409),
    "twice in a form, different": (header("s"), ("Content-Type: application/x-www-form-urlencoded\r\n", "", "session_id=s&session_id=t"), 400),
    "in a part": (header("s"), multipart(part(NAMED)), 409),
    "in a part, no quotes": (header("s"), multipart(part(NAMED.replace('"', ""))), 409),
    "in a part, other case": (header("s"), multipart(part(NAMED.replace("Content-Disposition: form-data", "CONTENT-DISPOSITION:FORM-DATA"))), 409),
    "in a part, the parameter in other case": (header("s"), multipart(part(NAMED.replace("name=", "NAME="))), READ_BY_PYTHON),
    "in a part, the parameter extended": (header("s"), multipart(part(NAMED.replace('name="session_id"', "name*=utf-8''session_id"))), READ_BY_PYTHON),
    "in a part with a type": (header("s"), multipart(part(NAMED + "\r\nContent-Type: text/plain; charset=utf-8")), 409),
    "in two parts, different": (header("s"), multipart(part(NAMED), part(NAMED, "t")), 400),
    "in a part behind a file of that name": (header("s"), multipart(part(NAMED + '; filename="f"', "t"), part(NAMED)), 409),
    "two tenants at once": (header("s", "a"), ("X-Session-Id: s\r\nX-Api-Key: a\r\nX-Api-Key: b\r\n", "", ""), 400),
}


def pairs(gateway, recorder) -> list[tuple[str, list[str]]]:
    results = []
    for name, (first, second, status) in PAIRS.items():
        problems = pair(gateway, recorder, first, second, status)
        problems += recorder.take()[1]
        results.append((f"pair: {name}", problems))
    return results


def post(target: str, named: tuple[str, str, str]) -> bytes:
    fields, more, body = named
    return get(target + more, fields, "POST", body)


def pair(gateway, recorder, first, second, status: int) -> list[str]:
    recorder.release.clear()
    holder, other = Client(gateway.public), Client(gateway.public, 20)
    try:
        before = len(recorder.heads)
        holder.send(post("/busy/hold", first))
        if not recorder.wait(lambda it: len(it.heads) > before):
            return ["the first did not reach the upstream"]
        other.send(post("/busy/quick", second))
        answer = other.answer()
        right = status if isinstance(status, tuple) else (status,)
        problems = [] if answer and answer.status in right else [f"the second got {answer and answer.status}, not {status}"]
        recorder.release.set()
        held = holder.answer()
        return problems + ([] if held and held.status == 200 else [f"the first got {held and held.status}"])
    finally:
        recorder.release.set()
        holder.close()
        other.close()


def forged(gateway, recorder) -> list[tuple[str, list[str]]]:
    """A client without a tenant that names a tenant's session as the gateway itself names it."""
    recorder.release.clear()
    holder = Client(gateway.public)
    holder.send(post("/busy/hold", header("mine", "secret-of-a")))
    recorder.wait(lambda it: it.heads)
    sessions = json.loads(gateway.ask_admin("/sessions").body)
    listed = sessions if isinstance(sessions, list) else sessions.get("sessions", [])
    name = next((one["key"] for one in listed if one["key"].endswith("mine")), None)
    problems = [] if name else [f"the session is not listed: {sessions}"]
    if name:
        for forgery in (name, "=" + name, name.partition(":")[0]):
            answer = ask(gateway.public, "/busy/quick", f"X-Session-Id: {forgery}\r\n", "POST")
            if answer is None or answer.status != 200:
                problems.append(f"{forgery} got {answer and answer.status}: it is another's session")
        if "secret-of-a" in json.dumps(sessions):
            problems.append("the tenant's key is shown")
    recorder.release.set()
    holder.answer()
    holder.close()
    recorder.take()
    return [("a tenant's session by its name in the gateway", problems)]


# Keys that are to stay keys wherever they are shown.
HOSTILE = ['"', "\\", "'", "{}", "</script><script>alert(1)</script>", "../../etc/passwd", "a/b", "?running=true", "#", "%", "%00", "%2e%2e", "key\tkey", "\xf0\x9f\x92\xa9", "\xe2\x80\xae", "a" * 256, "\"}\nturnwise_up 1", "null", "true", "0", "[]", "anonymous", "=anonymous", "*", ";", ",", "key=value", "${PATH}", "{agent}"]


def hostile(gateway, recorder) -> list[tuple[str, list[str]]]:
    results = []
    for key in HOSTILE:
        key = key.replace("\n", " ")
        problems = []
        recorder.release.clear()
        holder, waiter = Client(gateway.public), Client(gateway.public)
        before = len(recorder.heads)
        holder.send(get("/waiting/hold", f"X-Session-Id: {key}\r\n"))
        if "\t" in key:
            # A control character is none that a key may have.
            answer = holder.answer()
            if answer is None or answer.status != 400:
                problems.append(f"got {answer and answer.status}")
        else:
            recorder.wait(lambda it: len(it.heads) > before)
            waiter.send(get("/waiting/next", f"X-Session-Id: {key}\r\n"))
            if not comes_true(lambda: gateway.sum("turnwise_waiting_requests") == 1, 10):
                problems.append("the second does not wait")
            own = key.encode("latin-1").decode()
            listed = json.loads(gateway.ask_admin("/sessions").body)
            if len(listed) != 1 or listed[0]["key"].lstrip("=") != own.lstrip("="):
                problems.append(f"listed as {listed}")
            else:
                path = f"/sessions/{urllib.parse.quote(listed[0]['key'], safe='')}"
                shown = gateway.ask_admin(path)
                if shown.status != 200:
                    problems.append(f"shown with {shown.status}")
                deleted = gateway.ask_admin(path, "DELETE")
                answer = waiter.answer()
                if deleted.status != 200 or answer is None or answer.status != 409:
                    problems.append(f"ended with {deleted.status}, and the one that waits got {answer and answer.status}")
                elif json.loads(answer.body)["reason"] != "interrupted":
                    problems.append(f"the one that waited got {answer.body}")
            if len(own) > 4 and own in gateway.metrics():
                problems.append("the key is in the metrics")
            recorder.release.set()
            answer = holder.answer()
            if answer is None or answer.status != 200:
                problems.append(f"the one that ran got {answer and answer.status}")
        holder.close()
        waiter.close()
        problems += recorder.take()[1]
        results.append((f"key: {key[:40]}", problems))
    return results


def echoed(gateway, recorder) -> list[tuple[str, list[str]]]:
    """What comes back of what a client sent: one head, and the fields that the contract names."""
    results = []

    def check(name: str, answer: Answer | None, problems: list[str]) -> None:
        results.append((f"echo: {name}", problems + recorder.take()[1] + ([] if answer else ["no answer"])))

    for fields in ("", "Turnwise-Session: mine\r\n", "Turnwise-Session: a%0d%0ab\r\n", "Turnwise_Session: mine\r\n"):
        answer = ask(gateway.public, "/assigned", fields)
        made = answer.all("turnwise-session") if answer else []
        sent = recorder.requests[-1].all("x-session-id") if recorder.requests else []
        good = len(made) == 1 and len(made[0]) == 32 and made == sent
        check(f"a made-up key, with {fields!r}", answer, [] if good else [f"made {made}, sent {sent}"])
    answer = ask(gateway.public, "/assigned", "X-Session-Id: a%0d%0aInjected:%20yes\r\n")
    check("a key of the client's own", answer, [] if answer and not answer.all("turnwise-session") else ["it is named as made up"])
    for value in ('"quoted"', "a%0d%0aInjected: yes", "\xff\xfe", "", "a" * 5000, "a, b", "a\tb"):
        first = ask(gateway.public, "/joined", f"X-Session-Id: s\r\nIdempotency-Key: {value}\r\n", "POST", "one")
        second = ask(gateway.public, "/joined", f"X-Session-Id: s\r\nIdempotency-Key: {value}\r\n", "POST", "two")
        statuses = [answer and answer.status for answer in (first, second)]
        # Without a key the bodies tell them apart.
        right = statuses in ([200, 422], [400, 400]) if value else statuses == [200, 200]
        problems = [] if right else [f"got {statuses}"]
        if any(name.startswith("injected") for answer in (first, second) if answer for name, _ in answer.fields):
            problems.append("an answer was split")
        if second and second.status == 422 and second.field("x-should-retry") != b"false":
            problems.append("a client may repeat it by itself")
        check(f"an idempotency key {value[:30]!r}", second, problems)
    for value in ('a"b\\c', "{}", "</script>", "a" * 128):
        answer = ask(gateway.public, "/busy", f"X-Request-Id: {value}\r\nX-Session-Id: a\r\nX-Session-Id: b\r\n")
        problems = []
        if answer is None or answer.status != 400 or json.loads(answer.body)["request_id"] != value or answer.field("x-request-id") != value.encode():
            problems.append(f"got {answer and (answer.status, answer.body)}")
        check(f"a request id {value[:20]!r} in a problem", answer, problems)
    return results


# Many keys.
def ride(address: str, keys, connections: int = 16, batch: int = 64, path: str = "/keyed", seconds: float = 300) -> dict[bytes, int]:
    """One request for each key, pipelined over a few connections; how often each status came."""
    host, port = address.rsplit(":", 1)
    selector, counts, keys = selectors.DefaultSelector(), {}, iter(keys)
    tails: dict[socket.socket, bytes] = {}
    owed: dict[socket.socket, int] = {}

    def send(stream: socket.socket) -> bool:
        mine = list(itertools.islice(keys, batch))
        if mine:
            stream.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: a.example\r\nX-Session-Id: %s\r\n\r\n" % (path.encode(), key) for key in mine))
        owed[stream] = len(mine)
        return bool(mine)

    for _ in range(connections):
        stream = socket.create_connection((host, int(port)))
        tails[stream] = b""
        if send(stream):
            selector.register(stream, selectors.EVENT_READ)
    deadline = time.monotonic() + seconds
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(1):
            stream = key.fileobj
            octets = stream.recv(262144)
            if not octets:
                selector.unregister(stream)
                counts[b"closed"] = counts.get(b"closed", 0) + owed[stream]
                continue
            # Status lines, also those that were cut in two.
            octets = tails[stream] + octets
            parts = octets.split(b"HTTP/1.1 ")
            for part in parts[1:]:
                if len(part) >= 3:
                    counts[part[:3]] = counts.get(part[:3], 0) + 1
                    owed[stream] -= 1
            tails[stream] = b"HTTP/1.1 " + parts[-1] if len(parts) > 1 and len(parts[-1]) < 3 else octets[-8:] if not octets.endswith(b"\n") else b""
            if len(parts) > 1 and len(parts[-1]) >= 3:
                tails[stream] = parts[-1][3:][-8:]
            if owed[stream] <= 0 and not send(stream):
                selector.unregister(stream)
    for stream in tails:
        stream.close()
    return counts


MANY = """\
limits: { concurrency: 100, fair_by: null, keys: 1000000 }
upstreams:
  agents: { servers: ["http://{upstream}"], pool: { max_idle: 128 } }
routes:
  - name: keyed
    match: { path_prefix: /keyed }
    upstream: agents
    session: { key: [{ header: X-Session-Id }] }
    rate_limits: [{ per: session, rate: 1000/s, burst: 10 }]
  - { name: free, upstream: agents }
"""

FULL = 20_000
TABLE = f"""\
limits: {{ concurrency: 100, fair_by: null, keys: {FULL} }}
upstreams:
  agents: {{ servers: ["http://{{upstream}}"], pool: {{ max_idle: 128 }} }}
routes:
  - name: keyed
    match: {{ path_prefix: /keyed }}
    upstream: agents
    rate_limits: [{{ per: {{ header: X-Session-Id }}, rate: 1/h, burst: 1 }}]
  - {{ name: free, upstream: agents }}
"""


def colliding(count: int):
    """Keys with one and the same hash in Java, and in all that hash with 31 as it does."""
    return (b"".join(pair) for pair in itertools.islice(itertools.product((b"Aa", b"BB"), repeat=14), count))


def many(binary: str, folder: pathlib.Path, count: int) -> tuple[list[tuple[str, list[str]]], list[str]]:
    quick = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).parent / "quick.py")], stdout=subprocess.PIPE, text=True)
    upstream = quick.stdout.readline().strip()
    results, notes = [], []
    try:
        gateway = Gateway(binary, folder, "many", MANY, upstream)
        gateway.forget_peak()
        memory, began = gateway.resident(), time.monotonic()
        counts = ride(gateway.public, (b"session-%d" % number for number in range(count)))
        took = time.monotonic() - began
        problems = [] if counts == {b"200": count} else [f"statuses {counts}"]
        problems += gateway.afterwards()
        if not comes_true(lambda: gateway.sum("turnwise_rate_limit_keys") == 0, 20, 0.2):
            problems.append(f"{gateway.sum('turnwise_rate_limit_keys'):g} rate-limit keys are left")
        if gateway.peak() - memory > 256:
            problems.append(f"took {gateway.peak() - memory:.0f} MiB")
        notes.append(f"{count:,} session keys over 16 connections: {took:.1f} s, {gateway.peak() - memory:+.0f} MiB at the peak, {gateway.resident() - memory:+.0f} MiB after it")
        problems += gateway.close()
        results.append((f"{count} keys", problems))

        gateway = Gateway(binary, folder, "table", TABLE, upstream)
        cpu = [gateway.cpu_seconds()]
        half = 8000
        counts = ride(gateway.public, (hashlib.sha256(b"%d" % number).hexdigest()[:28].encode() for number in range(half)))
        cpu.append(gateway.cpu_seconds())
        colliders = ride(gateway.public, colliding(half))
        cpu.append(gateway.cpu_seconds())
        usual, flooded = cpu[1] - cpu[0], cpu[2] - cpu[1]
        problems = [] if counts == colliders == {b"200": half} else [f"statuses {counts} and {colliders}"]
        # Each key would be compared with half of those before it: hundreds of times the work, not some.
        if flooded > 5 * usual + 0.5:
            problems.append(f"keys with one hash cost {flooded:.2f} s, others {usual:.2f} s")
        notes.append(f"{half:,} keys with one hash: {flooded:.2f} s of CPU, as many others: {usual:.2f} s")
        results.append(("keys with one hash", problems))

        ride(gateway.public, (b"more-%d" % number for number in range(FULL - 2 * half)))
        problems = []
        beyond = ask(gateway.public, "/keyed", "X-Session-Id: one-too-many\r\n")
        if beyond is None or beyond.status != 503 or json.loads(beyond.body)["reason"] != "key_table_full" or int(beyond.field("retry-after") or 0) < 1:
            problems.append(f"one key too many got {beyond and (beyond.status, beyond.body)}")
        known = ride(gateway.public, itertools.islice(colliding(half), 500))
        if known != {b"429": 500}:
            problems.append(f"keys that are limited were forgotten to make room: {known}")
        others = ask(gateway.public, "/other")
        if others is None or others.status != 200:
            problems.append(f"another route got {others and others.status}")
        problems += gateway.afterwards() + gateway.close()
        results.append(("a full table", problems))
    finally:
        quick.terminate()
        quick.wait(10)
    return results, notes


def run(gateway, recorder, binary: str, folder: pathlib.Path, count: int) -> tuple[int, int, list[str], list[str]]:
    recorder.take()
    results = []
    for part in (pairs, forged, hostile, echoed):
        try:
            results += part(gateway, recorder)
        except (Nonsense, OSError, ValueError) as problem:
            results.append((part.__name__, [repr(problem)]))
        finally:
            recorder.release.set()
        results.append((f"{part.__name__}: afterwards", gateway.afterwards()))
        recorder.take()
    more, notes = many(binary, folder, count)
    results += more
    failures = [f"{name}: {'; '.join(problems)}" for name, problems in results if problems]
    return len(results), len(results) - len(failures), failures, notes
