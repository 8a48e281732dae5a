"""Paths that an upstream might read as a limited route's, though they are spelt so that a gateway may not.

Beside the limited route stands one that takes everything and limits nothing. No spelling that a common server takes for
the limited route may get there: it is limited too, or refused.
"""

import re
import urllib.parse

from hostile.client import Client, get
from hostile.frames import Http2, request

POLICY = """\
upstreams:
  agents: { servers: ["http://{upstream}"] }
routes:
  - name: limited
    match: { path: "/api/v1/agent/{agent}/run" }
    upstream: agents
    session: { key: [{ header: X-Session-Id }], anonymous: reject }
  - name: below
    match: { path_prefix: /admin }
    upstream: agents
    session: { key: [{ header: X-Session-Id }], anonymous: reject }
  - name: free
    upstream: agents
"""

LIMITED = re.compile(r"/api/v1/agent/[^/]+/run\Z|/admin(/.*)?\Z")

# Spellings of a path of the limited routes; what of them is not read so by any server is sorted out by `readings`.
SPELLINGS = """
/api/v1/agent/x/run
/api/v1/agent/x/run?
/api/v1/agent/x/run?a=b
/api/v1/agent/x/run?/../free
/api/v1/agent/x/run??
//api/v1/agent/x/run
/api//v1/agent/x/run
/api/v1/agent/x//run
///api///v1///agent///x///run
/./api/v1/agent/x/run
/api/./v1/agent/x/run
/api/v1/agent/x/./run
/api/v1/agent/x/run/.
/api/v1/agent/x/run/..
/free/../api/v1/agent/x/run
/api/v1/agent/x/y/../run
/api/v1/agent/../agent/x/run
/../api/v1/agent/x/run
/api/v1/agent/x/run/y/..
/.//api/v1/agent/x/run
/%2e/api/v1/agent/x/run
/%2E/api/v1/agent/x/run
/free/%2e%2e/api/v1/agent/x/run
/free/.%2e/api/v1/agent/x/run
/free/%2e./api/v1/agent/x/run
/free/%2E%2E/api/v1/agent/x/run
/free%2f..%2fapi/v1/agent/x/run
/free/..%2fapi/v1/agent/x/run
/free/..%5capi/v1/agent/x/run
/free\\..\\api/v1/agent/x/run
/free/..;/api/v1/agent/x/run
/free/..;a=b/api/v1/agent/x/run
/free/.;/../api/v1/agent/x/run
/free/%2e%2e;/api/v1/agent/x/run
/%61pi/v1/agent/x/run
/api/v1/%61gent/x/run
/api/v1/agent/x/ru%6e
/api/v1/agent/x/%72%75%6e
/%61%70%69/v1/agent/x/run
/api/%76%31/agent/x/run
/api/v1/agent/%78/run
/api/v1/agent/x%20y/run
/api/v1/agent/%2e%2e/run
/api/v1/agent/%2e/run
/api%2fv1/agent/x/run
/api%2Fv1/agent/x/run
/api/v1%2fagent/x/run
/api/v1/agent%2fx/run
/api/v1/agent/x%2frun
/api%2fv1%2fagent%2fx%2frun
/%2fapi/v1/agent/x/run
/api/v1/agent/x/%2frun
/api/v1/agent/x%2f%2frun
/api%5cv1/agent/x/run
/api\\v1/agent/x/run
/api\\v1\\agent\\x\\run
/api/v1/agent/x%5crun
/api/v1/agent/x\\run
/api/v1/agent/x/run;
/api/v1/agent/x/run;a=b
/api/v1/agent/x/run;a=b/c
/api;a=b/v1/agent/x/run
/api/v1;/agent/x/run
/;a/api/v1/agent/x/run
/api/v1/agent/x/run%3ba=b
/api/v1/agent/x/run%3f
/api/v1/agent/x/run%23
/api/v1/agent/x/run%00
/api/v1/agent/x/run%0a
/api/v1/agent/x/run%20
/api/v1/agent/x/run%
/api/v1/agent/x/ru%n
/api/v1/agent/x/run#
/api/v1/agent/x/run#/free
/api/v1/agent/x/run/#
/%2561pi/v1/agent/x/run
/api%252fv1/agent/x/run
/free/%252e%252e/api/v1/agent/x/run
/free/..%252fapi/v1/agent/x/run
/api/v1/agent/x/ru%c1%ae
/api/v1/agent/x/r\xc5\xb3n
/free/%c0%ae%c0%ae/api/v1/agent/x/run
/api%c0%afv1/agent/x/run
/api/v1/agent/x/%u0072un
http://a.example/api/v1/agent/x/run
http://a.example//api/v1/agent/x/run
http://a.example/free/../api/v1/agent/x/run
http://a.example/api%2fv1/agent/x/run
http://a.example:80/api/v1/agent/x/run
HTTP://A.EXAMPLE/api/v1/agent/x/run
/admin
/admin/
/admin/x
//admin
//admin//
/./admin
/%61dmin
/admin%2f
/admin%2fx
/admin%2Fx/y
/%2fadmin
/admin%5cx
/admin\\x
/admin;
/admin;a=b/x
/admin/..
/admin/../admin
/free/../admin
/free/..%2fadmin
/free%2f..%2fadmin
/admin?x
/admin#x
/admin%00
/admin/%2e%2e/free
/admin/..;/free
""".strip().replace("\\\\", "\\").split("\n")

# What other routes' paths look like; they must stay free.
FREE = ["/", "/free", "/api/v1/agent/x", "/api/v1/agent/run", "/api/v1/agents/x/run", "/administrator", "/api/v1/agent/x/run/more", "/x/admin", "/a%2fb", "/free;a=b", "/%7euser", "/a//b"]


def merged(path: str) -> str:
    return re.sub("/+", "/", path)


def resolved(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    out: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            out = out[:-1]
        elif segment != ".":
            out.append(segment)
    return "/" + "/".join(out) + ("/" if path.endswith(("/.", "/..")) and out else "")


def unquoted(path: str) -> str:
    return urllib.parse.unquote(path, "latin-1")


def without_parameters(path: str) -> str:
    return "/".join(segment.split(";")[0] for segment in path.split("/"))


def readings(target: str) -> dict[str, str]:
    """The paths for which servers in use take a target. Those that decode twice, ignore case or fall for overlong UTF-8 are
    wrong in themselves: no gateway knows what they do."""
    if target.lower().startswith("http://"):
        target = re.sub(r"(?i)\Ahttp://[^/]*", "", target)
    path = re.split(r"[?#]", target)[0]
    whole = {"as it is": path, "fragment and all": target.split("?")[0]}
    found = {}
    for how, one in whole.items():
        found[how] = one
        found[f"{how}, dots resolved"] = resolved(merged(one))
        # uvicorn, and so every ASGI application, and WSGI servers: decoded whole before it is routed.
        found[f"{how}, decoded"] = unquoted(one)
        found[f"{how}, decoded, slashes merged, dots resolved"] = resolved(merged(unquoted(one)))
        # Java servers.
        found[f"{how}, without parameters"] = resolved(merged(unquoted(without_parameters(one))))
        # Servers on Windows, and browsers' reading of URLs.
        found[f"{how}, backslashes as slashes"] = resolved(merged(unquoted(one).replace("\\", "/")))
    return found


def limited(target: str) -> list[str]:
    return [how for how, path in readings(target).items() if LIMITED.match(path)]


def ask(address: str, target: str) -> tuple[int | None, str]:
    client = Client(address)
    try:
        client.send(get(target, method="POST"))
        answer = client.answer()
        return (answer.status, answer.body.decode("latin-1")) if answer else (None, "")
    finally:
        client.close()


def ask_http2(address: str, target: str) -> tuple[int | None, str]:
    connection = Http2(address)
    try:
        connection.send(request(1, method="POST", path=target))
        connection.pump(connection.over)
        return connection.at(1).status, connection.at(1).data.decode("latin-1")
    finally:
        connection.close()


def run(gateway, recorder) -> tuple[int, int, list[str], list[str]]:
    failures, clean, total = [], 0, 0
    recorder.take()
    for version, asks in {"HTTP/1": ask, "HTTP/2": ask_http2}.items():
        for target in SPELLINGS + FREE:
            if version == "HTTP/2" and not target.startswith("/"):
                continue
            total += 1
            status, body = asks(gateway.public, target)
            seen, problems = recorder.take()
            how = limited(target)
            if target in FREE:
                if status != 200 or how:
                    problems.append(f"got {status}, and it is nobody's but the free route's {how}")
            elif seen and how:
                problems.append(f"reached the upstream past the limit; it is the limited route's when read {how[0]}")
            elif how and not (status == 400 or (status is None and version == "HTTP/2")):
                problems.append(f"got {status} {body}")
            if seen and seen[0].target != re.sub(r"(?i)\Ahttp://[^/]*", "", target) and seen[0].target not in (target + "?", target.rstrip("?")):
                problems.append(f"went upstream as {seen[0].target!r}")
            if problems:
                failures.append(f"{version} {target}: {'; '.join(problems)}")
            clean += not problems
    problems = gateway.afterwards()
    failures += problems
    return total, clean, failures, []
