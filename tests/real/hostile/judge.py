"""Sends the HTTP/1 cases and judges by what reached the upstream and what the client got."""

import re

from hostile.client import Client, Nonsense
from hostile.http1 import AFTER, CASES, SILENT, Case
from hostile.recorder import Recorder, Seen

POLICY = """\
server: { max_header_bytes: 16KiB, header_timeout: 5s }
upstreams:
  agents: { servers: ["http://{upstream}"] }
defaults:
  body_limit: 64KiB
  timeouts: { request: 700ms, response: 10s, idle: 10s, total: 20s }
routes:
  - name: all
    upstream: agents
    session: { key: [{ header: X-Session-Id }], within: [{ header: X-Api-Key }] }
"""

# How the octets are sent: in one piece with the request after them; in small pieces; and with the request after them only
# when the first answers have come, as a client that waits would.
WAYS = ("whole", "pieces", "apart")
PIECE = 3
MAX_PIECES = 400


def line_of(seen: Seen) -> str:
    body = " " + seen.body.decode("latin-1") if seen.body else ""
    return f"{seen.method} {seen.target}{body}"


def send(address: str, case: Case, way: str, seconds: float) -> tuple[list[int], list[str], list[str]]:
    """The statuses that came, the request lines that the upstream's answers name, and what is wrong."""
    statuses, named, problems = [], [], []
    client = Client(address, seconds)
    after = AFTER.encode() if case.followed else b""
    octets = case.octets + (after if way != "apart" else b"")
    methods = [line.split(" ")[0] for line in case.reached]
    # A refused HEAD is answered without a body too.
    methods += ["HEAD" if case.octets.startswith(b"HEAD ") else "GET"] * (len(methods) < 1)
    try:
        step = max(PIECE, len(octets) // MAX_PIECES) if way == "pieces" else max(1, len(octets))
        for start in range(0, len(octets), step):
            if not client.send(octets[start : start + step]):
                break
        if case.finishes:
            client.finish()
        # One more than there may be, so that one too many is seen.
        for place in range(len(case.answers) + 2):
            if way == "apart" and place == len(case.answers):
                client.send(after)
            answer = client.answer(methods[place] if place < len(methods) else "GET")
            if answer is None:
                break
            statuses.append(answer.status)
            if answer.status == 200:
                named.append(answer.body.decode("latin-1").strip())
            if any(name.startswith("injected") for name, _ in answer.fields):
                problems.append("an answer was split")
            if named[-1:] == ["GET /after"]:
                break
    except Nonsense as problem:
        problems.append(f"{problem}")
    except TimeoutError:
        if len(statuses) < len(case.answers) or not case.goes_on:
            problems.append(f"neither an answer nor an end after {statuses}")
    finally:
        client.close()
    return statuses, named, problems


def strictly(case: Case, statuses: list[int], named: list[str], seen: list[Seen], octets: bytes) -> list[str]:
    """What is not exactly as the case says."""
    problems = []
    expected = case.answers + [{200}] * case.goes_on
    # One that may be refused, and was, is closed.
    closed = case.goes_on and len(statuses) == len(case.answers) and statuses[-1] != 200 and statuses[-1] in case.answers[-1]
    if closed:
        expected = case.answers
    if len(statuses) < len(expected) and SILENT in expected[-1]:
        expected = expected[:-1]
    if len(statuses) != len(expected) or any(status not in right for status, right in zip(statuses, expected)):
        problems.append(f"answers {statuses}, not {[sorted(right) for right in expected]}")
    reached = [line_of(one) for one in seen]
    may = [[*case.reached, *["GET /after"] * case.goes_on]]
    if closed:
        may = [case.reached, *case.or_else]
    early = case.name.endswith("of an answered request")
    if early:
        # Whether the upstream gets the rest of what it has answered is not promised.
        may.append([line for line in may[0] if "/early" not in line])
    if reached not in may:
        problems.append(f"reached the upstream: {shown(reached)}, not {shown(may[0])}")
    lines = [f"{one.method} {one.target}" for one in seen if one.method != "HEAD"]
    if not early and named != lines and [name for name in named if name] != lines:
        problems.append(f"answers for {named}, not for {lines}")
    if seen:
        for name, value in case.has.items():
            if seen[0].all(name)[:1] != [value.encode("latin-1")]:
                problems.append(f"{name} is {seen[0].all(name)}, not {value!r}")
        for name in case.has_not:
            if seen[0].all(name):
                problems.append(f"{name} is {seen[0].all(name)}, which should not be there")
    if case.unseen and case.unseen.encode("latin-1") in octets:
        problems.append(f"{case.unseen!r} reached the upstream")
    return problems


def soundly(case: Case, named: list[str], seen: list[Seen]) -> list[str]:
    """What RFC 9112 does not allow any server: by this other proxies are judged."""
    # An absolute target is as good as its path (RFC 9112, section 3.2.2).
    reached = [re.sub(r"\A(\S+) http://a\.example/?", r"\1 /", line_of(one), count=1) for one in seen]
    without = reached[:-1] if reached[-1:] == ["GET /after"] else reached
    # `/early` is answered before its body is there, and need not get it.
    if any("/early" in line for line in case.reached):
        return []
    # Refusing more is sound, and so is answering what came before.
    prefixes = [case.reached[:count] for count in range(len(case.reached) + 1)]
    if without in prefixes or without in case.or_else:
        return []
    return [f"reached the upstream: {shown(reached)}"]


def shown(lines: list[str]) -> str:
    text = [line if len(line) < 100 else f"{line[:80]}… ({len(line)})" for line in lines[:4]]
    return f"{text}" + (f" and {len(lines) - 4} more" if len(lines) > 4 else "")


def run(address: str, recorder: Recorder, strict: bool = True, only: str = "") -> tuple[int, int, list[str]]:
    """How many cases, how many of them clean, and what was wrong with the others."""
    failures, clean = [], 0
    cases = [case for case in CASES if only in case.name]
    recorder.take()
    for case in cases:
        problems = []
        # What must time out is sent once.
        slow = any(408 in answers for answers in case.answers)
        for way in ("whole",) if slow or not case.followed else WAYS:
            statuses, named, wrong = send(address, case, way, 5 if strict else 2)
            octets = b"".join(recorder.octets) + b"".join(
                name + b": " + value + b"\r\n" for seen in recorder.heads for name, value in seen.fields
            )
            seen, unsound = recorder.take()
            wrong += unsound
            wrong += strictly(case, statuses, named, seen, octets) if strict else soundly(case, named, seen)
            if not strict:
                wrong = [one for one in wrong if not one.startswith("neither an answer")]
            problems += [f"{way}: {one}" for one in wrong]
            if problems:
                break
        if problems:
            failures.append(f"{case.name}: {'; '.join(problems)}")
        else:
            clean += 1
    return len(cases), clean, failures
