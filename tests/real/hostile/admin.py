"""The operators' door: who may not come in by it, and who is sent to it by a page of another site."""

import json
import pathlib

from hostile.client import Client, Nonsense, ask
from hostile.gateway import Gateway

POLICY = """\
upstreams:
  agents: { servers: ["http://{upstream}"] }
"""

TOKEN = "correct-horse-battery-staple"

OPEN = ["/metrics", "/-/healthy", "/-/ready", "/health"]
GUARDED = [
    ("GET", "/status"), ("GET", "/sessions"), ("GET", "/sessions/nobody"), ("GET", "/config"), ("HEAD", "/config"),
    ("DELETE", "/sessions/nobody"), ("POST", "/-/reload"), ("POST", "/-/drain"),
]
# What is no token.
WRONG = {
    "none": "", "another": "Authorization: Bearer wrong\r\n", "empty": "Authorization: Bearer \r\n", "no scheme": f"Authorization: {TOKEN}\r\n",
    "another scheme": f"Authorization: Basic {TOKEN}\r\n", "a beginning of it": f"Authorization: Bearer {TOKEN[:-1]}\r\n", "more than it": f"Authorization: Bearer {TOKEN}x\r\n",
    "a nul behind it": f"Authorization: Bearer {TOKEN}%00\r\n", "in other case": f"Authorization: Bearer {TOKEN.upper()}\r\n", "in another field": f"X-Authorization: Bearer {TOKEN}\r\n",
    "with an underscore": f"Authorization_: Bearer {TOKEN}\r\n", "for a proxy": f"Proxy-Authorization: Bearer {TOKEN}\r\n", "in a cookie": f"Cookie: token={TOKEN}\r\n",
    "a long one": f"Authorization: Bearer {'x' * 8000}\r\n",
}
# Spellings of a guarded path; each is refused or not there.
SPELLINGS = ["//config", "/./config", "/config/", "/%63onfig", "/metrics/../config", "/metrics/..%2fconfig", "/config;", "/config%00", "/CONFIG", "/-/healthy/../../config", "/metrics%2f..%2fconfig", "http://a.example/config"]

# Heads that a browser sends for a page of another origin, by which that page would change something.
FOREIGN = {
    "another origin": "Origin: http://evil.example\r\n",
    "another port": "Origin: http://{name}:1\r\n",
    "no origin that it would tell": "Origin: null\r\n",
    "an empty origin": "Origin:\r\n",
    "two origins": "Origin: http://{host}\r\nOrigin: http://evil.example\r\n",
    "an origin that begins like ours": "Origin: http://{host}.evil.example\r\n",
    "an origin with a user": "Origin: http://{host}@evil.example\r\n",
    "another site": "Sec-Fetch-Site: cross-site\r\n",
    "the same site, another origin": "Sec-Fetch-Site: same-site\r\n",
    "another site, without an origin, as a form": "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nContent-Type: application/x-www-form-urlencoded\r\n",
}
# Names that a page can make lead here (DNS rebinding): its origin is then the very host that it asks. Somebody on the internet can
# own them; under .example nobody can.
REBOUND = ["evil.net", "evil.net:{port}", "127.0.0.1.evil.net:{port}", "localhost.evil.net:{port}", "evil.localhost.net:{port}"]
# What every browser sends, and no page can make it leave out. What is no browser may come by any name.
BROWSER = "Accept-Language: en\r\n"
WELCOME = ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}", "10.0.0.1:{port}"]


def tokens(gateway: Gateway) -> list[tuple[str, list[str]]]:
    results = []
    right = f"Authorization: Bearer {TOKEN}\r\n"
    for target in OPEN:
        status = gateway.ask_admin(target).status
        results.append((f"open: {target}", [] if status == 200 else [f"got {status}"]))
    for method, target in GUARDED:
        problems = []
        for name, fields in WRONG.items():
            answer = gateway.ask_admin(target, method, fields)
            if answer.status != 401 or answer.field("www-authenticate") is None:
                problems.append(f"with a token that is {name}: {answer.status}")
        for query in (f"?token={TOKEN}", f"?access_token={TOKEN}"):
            if (status := gateway.ask_admin(target + query, method).status) != 401:
                problems.append(f"with a token in the query: {status}")
        if target not in ("/-/drain",):
            answer = gateway.ask_admin(target, method, right)
            if answer.status not in (200, 404):
                problems.append(f"with the token: {answer.status}")
            elif TOKEN.encode() in answer.body:
                problems.append("the token is shown")
        results.append((f"token: {method} {target}", problems))
    for target in SPELLINGS:
        answer = gateway.ask_admin(target)
        good = answer.status in (400, 401, 403, 404, 421)
        results.append((f"spelt {target}", [] if good else [f"got {answer.status}"]))
    status = gateway.ask_admin("/config", "GET", "Authorization: bearer " + TOKEN + "\r\n").status
    results.append(("the scheme in another case", [] if status == 200 else [f"got {status}"]))
    return results


def public(gateway: Gateway, recorder) -> list[tuple[str, list[str]]]:
    """The public port knows no admin endpoints: whatever is asked of it goes to the upstream, which answers in its own words."""
    results = []
    for host in ("a.example", gateway.admin, "localhost"):
        for method, target in [("GET", one) for one in OPEN] + [one for one in GUARDED if one[0] != "HEAD"]:
            for asked in (target, f"http://{host}{target}"):
                answer = ask(gateway.public, asked, "", method, host=host)
                seen = recorder.take()[0]
                own = answer is not None and answer.status == 200 and answer.body == f"{method} {target}\n".encode()
                results.append((f"public: {method} {asked} for {host}", [] if own and len(seen) == 1 else [f"got {answer and (answer.status, answer.body[:100])}"]))
    return results


def cross_site(gateway: Gateway) -> list[tuple[str, list[str]]]:
    results = []
    name, port = gateway.admin.rsplit(":", 1)
    changing = [("POST", "/-/reload"), ("DELETE", "/sessions/nobody")]

    def check(what: str, method: str, target: str, fields: str, host: str, right: tuple[int, ...]) -> bool:
        answer = ask(gateway.admin, target, fields, method, host=host)
        status = answer.status if answer else None
        results.append((f"{method} {target} with {what}", [] if status in right else [f"got {status}, not {' or '.join(map(str, right))}"]))
        return status in right

    for what, fields in FOREIGN.items():
        for method, target in changing:
            check(what, method, target, fields.format(name=name, host=gateway.admin), gateway.admin, (400, 403))
    for host in REBOUND:
        host = host.format(port=port)
        # Reading is as bad: the policy, the sessions.
        for method, target in changing + [("GET", "/config"), ("GET", "/sessions"), ("GET", "/status")]:
            check(f"the host {host}", method, target, BROWSER, host, (403, 421))
            check(f"the host and origin {host}", method, target, f"{BROWSER}Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n", host, (403, 421))
    for host in WELCOME:
        host = host.format(port=port)
        check(f"the host {host}", "POST", "/-/reload", "", host, (200,))
        check(f"the host and origin {host}", "POST", "/-/reload", f"Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n", host, (200,))
    # Scrapers and probes come by names that only their own network knows.
    for target in OPEN:
        check("the host turnwise.monitoring.svc", "GET", target, "", "turnwise.monitoring.svc:9180", (200,))
    # Last, and no more once one of them has worked: then there is nothing left to ask.
    drains = [(what, fields.format(name=name, host=gateway.admin), gateway.admin) for what, fields in FOREIGN.items()]
    for host in REBOUND:
        host = host.format(port=port)
        drains += [(f"the host {host}", BROWSER, host), (f"the host and origin {host}", f"Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n", host)]
    all(check(what, "POST", "/-/drain", fields, host, (400, 403, 421)) for what, fields, host in drains)
    return results


RAW = [
    b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET /config HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\0" * 1000, b"\x16\x03\x01\x02\0\x01\0", b"GET /" + b"x" * 500_000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", b"GET /sessions/%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /sessions/" + b"%41" * 3000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /sessions?limit=99999999999999999999 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /sessions?limit=-1&sort=x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"TRACE /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
]


def raw(gateway: Gateway) -> list[tuple[str, list[str]]]:
    """Nonsense on the admin port ends there."""
    results = []
    for octets in RAW:
        client, problems = Client(gateway.admin, 15), []
        client.send(octets)
        client.finish()
        try:
            answer = client.answer()
            if answer and (answer.status >= 500 or (answer.status == 200 and answer.body and octets.startswith((b"CONNECT", b"TRACE", b"POST")))):
                problems.append(f"got {answer.status}")
        except (Nonsense, TimeoutError) as problem:
            problems.append(repr(problem))
        client.close()
        try:
            if (status := gateway.ask_admin("/-/healthy").status) != 200:
                problems.append(f"the next one got {status}")
        except OSError as problem:
            problems.append(repr(problem))
        results.append((f"raw: {octets[:60]!r}", problems))
    return results


def run(gateway: Gateway, recorder, binary: str, folder: pathlib.Path) -> tuple[int, int, list[str], list[str]]:
    """`gateway` has no token; another one is started that has."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    recorder.take()
    with_token = Gateway(binary, folder, "token", f"admin: token_file: {json.dumps(str(token))}\n" + POLICY, recorder.address)
    results = []
    for part, given in ((tokens, (with_token,)), (public, (with_token, recorder)), (raw, (gateway,)), (cross_site, (gateway,))):
        try:
            results += part(*given)
        except (OSError, Nonsense, ValueError) as problem:
            results.append((part.__name__, [repr(problem)]))
    for one in (gateway, with_token):
        results.append(("afterwards", one.afterwards()))
    recorder.take()
    failures = with_token.close()
    failures += [f"{name}: {'; '.join(problems)}" for name, problems in results if problems]
    return len(results), len(results) - sum(bool(problems) for _, problems in results), failures, []
