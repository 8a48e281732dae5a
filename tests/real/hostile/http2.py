"""Abuses of HTTP/2.

    bad(name, octets)      the stream is reset or answered with 4xx, or the connection ends: nothing reached the upstream
    wrong(name, octets)    the connection ends with an error
    fine(name, octets)     stream 1 is answered with 200
    flood(name)            a function that does more than send some octets, and says what is wrong

Where a connection goes on, it must serve one more request.
"""

import dataclasses
import struct
import time

from hostile.frames import (
    ACK, BOTH, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, Http2, block, frame, number, pseudo, request, setting, text,
)

PROTOCOL, INTERNAL, FLOW, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 1, 2, 3, 5, 6, 7, 8, 9, 11

POLICY = """\
server: { max_header_bytes: 16KiB, keep_alive_timeout: 2s, header_timeout: 2s }
limits: { concurrency: 8, queue: 400, queue_timeout: 20s, fair_by: null }
upstreams:
  agents: { servers: ["http://{upstream}"] }
defaults:
  body_limit: 64KiB
  abandoned_limit: 5s
  timeouts: { request: 2s, response: 5s, idle: 2s, total: 10s }
routes:
  - { name: all, upstream: agents }
"""


@dataclasses.dataclass
class Case:
    name: str
    octets: bytes
    kind: str
    reached: list[str]
    # The codes of errors that are right, beside PROTOCOL_ERROR, which is right for all. None: this gateway's contract refuses
    # it, RFC 9113 does not, so any will do, and other proxies may serve it.
    codes: tuple[int, ...] = ()
    # What must not, or must, be among the fields that reached the upstream.
    has: dict[str, str] = dataclasses.field(default_factory=dict)
    has_not: list[str] = dataclasses.field(default_factory=list)


CASES: list[Case] = []
FLOODS: list = []


def bad(name: str, octets: bytes, codes=(PROTOCOL,)) -> None:
    CASES.append(Case(name, octets, "bad", [], tuple(codes)))


def wrong(name: str, octets: bytes, codes=(PROTOCOL,), reached=()) -> None:
    CASES.append(Case(name, octets, "wrong", list(reached), tuple(codes)))


def fine(name: str, octets: bytes, reached=("GET /c",), **more) -> None:
    CASES.append(Case(name, octets, "fine", list(reached), **more))


def either(name: str, octets: bytes, reached=("GET /c",)) -> None:
    CASES.append(Case(name, octets, "either", list(reached)))


def flood(run):
    FLOODS.append((run.__doc__, run))
    return run


def with_fields(*fields, **own) -> bytes:
    return request(1, *fields, **own)


def posted(*fields, data: bytes = b"hello") -> bytes:
    return request(1, *fields, end=False, method="POST") + frame(DATA, END_STREAM, 1, data)


def long(octets: bytes) -> bytes:
    """A head in as many frames as it needs."""
    pieces = [octets[at : at + 16_000] for at in range(0, len(octets), 16_000)]
    first = frame(HEADERS, END_STREAM, 1, pieces[0])
    return first + b"".join(frame(CONTINUATION, END_HEADERS * (piece is pieces[-1]), 1, piece) for piece in pieces[1:])


def raw(*fields) -> bytes:
    return frame(HEADERS, BOTH, 1, block(*fields))


# Names and values.
bad("name: upper case", with_fields(("X-Upper", "y")))
bad("name: a space", with_fields(("x y", "z")))
bad("name: a colon", with_fields(("x:y", "z")))
bad("name: empty", with_fields(("", "z")))
bad("name: line ends", with_fields(("x: y\r\ninjected", "z")))
bad("name: nul", with_fields(("x\0", "z")))
bad("name: beyond ascii", with_fields(("x\xe9", "z")))
bad("value: CRLF and a field", with_fields(("x", "y\r\ninjected: z")))
bad("value: CRLF and a request", with_fields(("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n")))
bad("value: a line feed", with_fields(("x", "y\ninjected: z")))
bad("value: a carriage return", with_fields(("x", "y\rinjected: z")))
bad("value: nul", with_fields(("x", "y\0z")))
bad("value: an escape", with_fields(("x", "y\x1bz")), codes=())
bad("value: line ends in x-request-id", with_fields(("x-request-id", "y\r\ninjected: z")))
either("value: a blank before", with_fields(("x", " y")))
either("value: a blank behind", with_fields(("x", "y\t")))
fine("value: beyond ascii", with_fields(("x", "\xe9\xff")), has={"x": "\xe9\xff"})

# Pseudo-fields.
bad("pseudo: two methods", raw((":method", "POST"), *pseudo()))
bad("pseudo: two paths", raw(*pseudo(), (":path", "/d")))
bad("pseudo: two authorities", raw(*pseudo(), (":authority", "b.example")))
bad("pseudo: two schemes", raw(*pseudo(), (":scheme", "https")))
bad("pseudo: one after a regular field", raw(*pseudo(path=None), ("x", "y"), (":path", "/c")))
bad("pseudo: an unknown one", raw(*pseudo(), (":foo", "bar")))
bad("pseudo: a status", raw(*pseudo(), (":status", "200")))
bad("pseudo: upper case", raw(*pseudo(method=None), (":METHOD", "GET")))
bad("pseudo: no method", raw(*pseudo(method=None)))
bad("pseudo: no path", raw(*pseudo(path=None)))
bad("pseudo: no scheme", raw(*pseudo(scheme=None)))
bad("pseudo: none at all", raw(("x", "y")))
bad("pseudo: an empty block", frame(HEADERS, BOTH, 1))
bad("pseudo: a protocol that was not allowed", raw(*pseudo(method="CONNECT"), (":protocol", "websocket")))
either("pseudo: in trailers", request(1, end=False, method="POST") + frame(HEADERS, BOTH, 1, block((":path", "/d"))), reached=["POST /c"])
bad("method: empty", with_fields(method=""))
bad("method: a request line", with_fields(method="GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\nGET"))
bad("method: a space", with_fields(method="GET /x"))
bad("method: CONNECT", raw((":method", "CONNECT"), (":authority", "a.example:80")), codes=())
fine("method: lower case", with_fields(method="get"), reached=["get /c"])
bad("path: empty", with_fields(path=""))
bad("path: a space", with_fields(path="/c HTTP/1.1"))
bad("path: CRLF and a request", with_fields(path="/c HTTP/1.1\r\nHost: a.example\r\n\r\nGET /smuggled"))
bad("path: a line feed", with_fields(path="/c\n"))
bad("path: nul", with_fields(path="/c\0"))
bad("path: a tab", with_fields(path="/c\t"))
bad("path: delete", with_fields(path="/c\x7f"))
bad("path: no slash", with_fields(path="c"))
bad("path: only a query", with_fields(path="?x=y"))
bad("path: an asterisk with GET", with_fields(path="*"), codes=())
bad("path: a URL", with_fields(path="http://b.example/c"))
bad("path: an authority", with_fields(path="//b.example@c\\d/../e"), codes=())
# The HTTP library cuts it off before anybody sees it.
either("path: a fragment", with_fields(path="/c#d"))
bad("path: beyond ascii", with_fields(path="/k\xc3\xa4se"))
bad("path: dot segments", with_fields(path="/a/../c"), codes=())
bad("path: 20,000 octets", long(block(*pseudo(path="/" + "c" * 20_000))), codes=())
bad("scheme: another", with_fields(scheme="ftp"), codes=())
bad("scheme: empty", with_fields(scheme=""))
bad("scheme: more than one", with_fields(scheme="http://b.example/d?"))
bad("authority: empty", with_fields(authority=""), codes=())
bad("authority: none, and no host", with_fields(authority=None), codes=())
bad("authority: a user", with_fields(authority="u@a.example"))
bad("authority: a path", with_fields(authority="a.example/x"))
bad("authority: a space", with_fields(authority="a b"))
bad("authority: a comma", with_fields(authority="a.example,b.example"))
bad("authority: CRLF", with_fields(authority="a.example\r\nX: y"))
bad("authority: a quote", with_fields(authority='a";for=x'))
bad("authority: another host", with_fields(("host", "b.example")), codes=())
bad("authority: another port in host", with_fields(("host", "a.example:81")), codes=())
bad("authority: two hosts", with_fields(("host", "a.example"), ("host", "b.example")), codes=())
fine("authority: the same host", with_fields(("host", "a.example")), has={"host": "a.example"})
fine("authority: only a host", with_fields(("host", "a.example"), authority=None), has={"host": "a.example"})

# Fields about the connection, and framing.
for name, value in {"connection": "keep-alive", "transfer-encoding": "chunked", "upgrade": "websocket", "keep-alive": "timeout=5", "proxy-connection": "keep-alive", "te": "gzip"}.items():
    if name == "te":
        either("connection: te other than trailers", with_fields((name, value)))
    else:
        bad(f"connection: {name}", with_fields((name, value)))
bad("connection: names content-length", posted(("connection", "content-length")))
bad("connection: a chunked body", posted(("transfer-encoding", "chunked"), data=b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"))
fine("connection: te trailers", with_fields(("te", "trailers")))
fine("connection: http2-settings", with_fields(("http2-settings", "AAMAAABk")), has_not=["http2-settings"])
fine("underscores: fields that frame", posted(("transfer_encoding", "chunked"), ("content_length", "50")), reached=["POST /c hello"], has_not=["transfer_encoding", "content_length"])
bad("length: less than the data", posted(("content-length", "2")))
bad("length: more than the data", posted(("content-length", "50")))
bad("length: some, and no data", with_fields(("content-length", "5")))
# The head alone says that all of it is there.
either("length: zero, and data", posted(("content-length", "0")), reached=["POST /c"])
bad("length: signed", posted(("content-length", "+5")))
bad("length: a list", posted(("content-length", "5, 5")), codes=())
bad("length: twice", posted(("content-length", "5"), ("content-length", "5")), codes=())
bad("length: two", posted(("content-length", "5"), ("content-length", "6")))
bad("length: empty", posted(("content-length", "")))
bad("length: over 64 bits", posted(("content-length", "18446744073709551621")))
bad("length: over the limit", posted(("content-length", "70000")), codes=())
bad("length: more than the data, in trailers", request(1, ("content-length", "50"), end=False, method="POST") + frame(DATA, 0, 1, b"hello") + frame(HEADERS, BOTH, 1, block(("x", "y"))))
fine("length: right", posted(("content-length", "5")), reached=["POST /c hello"])
fine("body: like a request", posted(data=b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"), reached=["POST /c GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"])
fine("body: like chunks", posted(data=b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"), reached=["POST /c 0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"])
fine("body: empty, and a length of zero", posted(("content-length", "0"), data=b""), reached=["POST /c"])
fine("trailers: plain", request(1, end=False, method="POST") + frame(DATA, 0, 1, b"hello") + frame(HEADERS, BOTH, 1, block(("x", "y"))), reached=["POST /c hello"])
for name in ("content-length", "transfer-encoding", "host", "connection"):
    either(f"trailers: {name}", request(1, end=False, method="POST") + frame(DATA, 0, 1, b"hello") + frame(HEADERS, BOTH, 1, block((name, "5"))), reached=["POST /c hello"])
bad("trailers: that do not end the stream", request(1, end=False, method="POST") + frame(DATA, 0, 1, b"hello") + frame(HEADERS, END_HEADERS, 1, block(("x", "y"))))
bad("trailers: line ends", request(1, end=False, method="POST") + frame(DATA, 0, 1, b"hello") + frame(HEADERS, BOTH, 1, block(("x", "y\r\nz: a"))))
bad("fields: one of 20,000 octets", long(block(*pseudo(), ("x", "y" * 20_000))), codes=())
bad("fields: 20,000 octets of them", long(block(*pseudo(), *[("x", "y" * 1000)] * 20)), codes=())
bad("fields: 1,000 small ones", with_fields(*[("x", "y")] * 1000), codes=())
fine("cookies: in crumbs", with_fields(("cookie", "a=b"), ("cookie", "c=d")), has={"cookie": "a=b; c=d"})
fine("expect: and the body at once", posted(("expect", "100-continue")), reached=["POST /c hello"])

# Frames where they do not belong.
wrong("stream 0: DATA", frame(DATA, END_STREAM, 0, b"hello"))
wrong("stream 0: HEADERS", frame(HEADERS, BOTH, 0, block(*pseudo())))
wrong("stream 0: RST_STREAM", frame(RST_STREAM, 0, 0, b"\0\0\0\x08"))
wrong("stream 0: PRIORITY", frame(PRIORITY, 0, 0, b"\0\0\0\3\x10"))
wrong("stream 0: CONTINUATION", frame(CONTINUATION, END_HEADERS, 0, b""))
wrong("stream 1: SETTINGS", frame(SETTINGS, 0, 1))
wrong("stream 1: PING", frame(PING, 0, 1, b"12345678"))
wrong("stream 1: GOAWAY", frame(GOAWAY, 0, 1, b"\0" * 8))
wrong("stream 2: HEADERS", request(2))
either("stream ids: one less than before", request(5) + request(3), reached=["GET /c"])
wrong("idle: DATA", frame(DATA, END_STREAM, 7, b"hello"))
wrong("idle: WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 7, b"\0\0\0\1"))
wrong("idle: RST_STREAM", frame(RST_STREAM, 0, 7, b"\0\0\0\x08"))
either("half-closed: DATA", request(1) + frame(DATA, END_STREAM, 1, b"hello"))
either("half-closed: HEADERS", request(1) + request(1, path="/smuggled"))
wrong("window: nothing more for the connection", frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"))
bad("window: nothing more for a stream", request(1, end=False, method="POST") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"))
wrong("window: too much for the connection", frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2, [FLOW])
bad("window: too much for a stream", request(1, end=False, method="POST") + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2, [FLOW])
wrong("settings: a window too large", setting((4, 0x80000000)), [FLOW])
wrong("settings: a frame size too small", setting((5, 100)))
wrong("settings: a frame size too large", setting((5, 0x01000000)))
wrong("settings: push neither on nor off", setting((2, 2)))
wrong("settings: half of one", frame(SETTINGS, 0, 0, b"\0\1\0"), [FRAME_SIZE])
wrong("settings: an acknowledgement that says more", frame(SETTINGS, ACK, 0, b"\0\1\0\0\0\0"), [FRAME_SIZE])
fine("settings: unknown ones", setting((0xF00D, 1)) + request(1))
wrong("size: PING of 7", frame(PING, 0, 0, b"1234567"), [FRAME_SIZE])
wrong("size: WINDOW_UPDATE of 3", frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), [FRAME_SIZE])
wrong("size: RST_STREAM of 3", request(1, end=False, method="POST") + frame(RST_STREAM, 0, 1, b"\0\0\x08"), [FRAME_SIZE])
either("size: PRIORITY of 4", request(1) + frame(PRIORITY, 0, 1, b"\0\0\0\3"))
wrong("size: GOAWAY of 4", frame(GOAWAY, 0, 0, b"\0" * 4), [FRAME_SIZE])
bad("size: DATA over the limit", request(1, end=False, method="POST") + frame(DATA, END_STREAM, 1, b"x" * 20_000), [FRAME_SIZE])
wrong("size: HEADERS over the limit", frame(HEADERS, BOTH, 1, block(*pseudo(), ("x", "y" * 20_000))), [FRAME_SIZE])
wrong("size: a frame of 16 MiB announced", struct.pack(">I", 0xFFFFFF)[1:] + b"\0\1\0\0\0\1", [FRAME_SIZE])
wrong("padding: more than there is, DATA", request(1, end=False, method="POST") + frame(DATA, END_STREAM | PADDED, 1, b"\x09hello"))
wrong("padding: more than there is, HEADERS", frame(HEADERS, BOTH | PADDED, 1, b"\xff" + block(*pseudo())))
wrong("padding: no length of it", request(1, end=False, method="POST") + frame(DATA, END_STREAM | PADDED, 1, b""), [PROTOCOL, FRAME_SIZE])
fine("padding: right", request(1, end=False, method="POST") + frame(DATA, END_STREAM | PADDED, 1, b"\x04hello\0\0\0\0"), reached=["POST /c hello"])
wrong("continuation: of nothing", frame(CONTINUATION, END_HEADERS, 1, block(*pseudo())))
wrong("continuation: of another stream", frame(HEADERS, END_STREAM, 1, block(*pseudo())) + frame(CONTINUATION, END_HEADERS, 3, b""))
wrong("continuation: something between", frame(HEADERS, END_STREAM, 1, block(*pseudo())) + frame(PING, 0, 0, b"12345678") + frame(CONTINUATION, END_HEADERS, 1, b""))
wrong("continuation: a request between", frame(HEADERS, END_STREAM, 1, block(*pseudo())) + request(3))
fine("continuation: in single octets", frame(HEADERS, END_STREAM, 1, b"") + b"".join(frame(CONTINUATION, 0, 1, block(*pseudo())[at : at + 16]) for at in range(0, len(block(*pseudo())), 16)) + frame(CONTINUATION, END_HEADERS, 1, b""))
wrong("push promise: from a client", frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(*pseudo())))
either("priority: on itself", frame(HEADERS, BOTH | HAS_PRIORITY, 1, b"\0\0\0\1\x10" + block(*pseudo())))
either("priority: a frame on itself", request(1) + frame(PRIORITY, 0, 1, b"\0\0\0\1\x10"))
fine("unknown: a type of frame", frame(0xEE, 0xFF, 0, b"x" * 100) + frame(0xEE, 0, 1, b"") + request(1))
fine("unknown: flags", frame(HEADERS, BOTH | 0x52, 1, block(*pseudo())))
either("goaway: and then a request", frame(GOAWAY, 0, 0, b"\0" * 8) + request(1))
fine("reset: with an unknown code", request(1) + request(3, end=False, method="POST") + frame(RST_STREAM, 0, 3, b"\xde\xad\xbe\xef"))

# Header compression.
NAMED = block(*pseudo())
wrong("hpack: index 0", frame(HEADERS, BOTH, 1, b"\x80" + NAMED), [COMPRESSION])
wrong("hpack: an index beyond the table", frame(HEADERS, BOTH, 1, number(200, 7, 0x80) + NAMED), [COMPRESSION])
wrong("hpack: a name beyond the table", frame(HEADERS, BOTH, 1, number(200, 4) + text("x") + NAMED), [COMPRESSION])
wrong("hpack: an integer without end", frame(HEADERS, BOTH, 1, b"\xff" * 40), [COMPRESSION])
wrong("hpack: a string longer than the block", frame(HEADERS, BOTH, 1, NAMED + b"\0" + text("x") + number(4000, 7) + b"y"), [COMPRESSION])
wrong("hpack: half a field", frame(HEADERS, BOTH, 1, NAMED + b"\0" + text("x")), [COMPRESSION])
wrong("hpack: padding of Huffman codes that are none", frame(HEADERS, BOTH, 1, NAMED + b"\0" + text("x") + b"\x81\x00"), [COMPRESSION])
wrong("hpack: a whole octet of Huffman padding", frame(HEADERS, BOTH, 1, NAMED + b"\0" + text("x") + b"\x82\x1f\xff"), [COMPRESSION])
wrong("hpack: the end of Huffman codes", frame(HEADERS, BOTH, 1, NAMED + b"\0" + text("x") + b"\x84\xff\xff\xff\xff"), [COMPRESSION])
wrong("hpack: a table larger than allowed", frame(HEADERS, BOTH, 1, number(1 << 20, 5, 0x20) + NAMED), [COMPRESSION])
wrong("hpack: a table size amid fields", frame(HEADERS, BOTH, 1, NAMED + number(0, 5, 0x20)), [COMPRESSION])

# What stands behind the preface, where settings should.
BEGINNINGS = {
    "preface: HTTP/1 behind it": b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "preface: twice": PREFACE,
    "preface: garbage behind it": b"\xff" * 100,
}


def judge(address: str, recorder, case: Case, strict: bool = True) -> list[str]:
    """Sends one case, and says what is wrong with what came of it."""
    connection = Http2(address)
    try:
        connection.pump(lambda: connection.greeted)
        connection.send(case.octets)
        broken = case.kind == "wrong"
        # A connection error may come after an answer; an answer alone is no end then.
        connection.pump(connection.broken if broken else connection.over, 5)
        outcome, problems = connection.outcome(), []
        own = connection.at(1)
        status, reset, goaway, closed = own.status, own.reset, connection.goaway, connection.closed
        refused = (status is not None and 400 <= status < 500) or reset is not None or bool(goaway)
        code = goaway or reset
        if not strict and (case.kind == "fine" or not case.codes or closed):
            # Refusing more is sound, and so is an end without a word.
            pass
        elif case.kind == "fine" and status != 200:
            problems.append(f"got {outcome}, not status 200")
        elif case.kind == "bad" and not refused and (strict or status):
            problems.append(f"got {outcome}, not a refusal")
        elif case.kind == "either" and not refused and status != 200 and not closed:
            problems.append(f"got {outcome}, neither an answer nor a refusal")
        elif broken and not goaway:
            problems.append(f"got {outcome}, not the end of the connection with an error")
        # INTERNAL_ERROR is no word for what a client does wrong.
        if strict and case.codes and code and code not in (*case.codes, PROTOCOL) and not (case.kind == "bad" and status):
            problems.append(f"got {outcome}, not the code {' or '.join(map(str, case.codes))}")
        served = 200 in (status, connection.at(3).status, connection.at(5).status)
        if not connection.broken():
            connection.send(request(101, path="/after"))
            connection.pump(lambda: connection.over(101), 5)
            if connection.at(101).status != 200 and connection.goaway is None and not connection.closed:
                problems.append(f"the next request got {connection.outcome(101)}")
    finally:
        connection.close()
    seen, unsound = recorder.take()
    problems += unsound
    reached = [f"{one.method} {one.target}" + (" " + one.body.decode("latin-1") if one.body else "") for one in seen]
    reached = [line for line in reached if line != "GET /after"]
    may = [case.reached] if case.kind == "fine" and strict else [[], case.reached]
    if case.kind == "either" and served:
        may = [case.reached]
    if case.kind == "bad":
        may = [[]]
    if case.kind == "bad" and not case.codes and not strict:
        return unsound
    if reached not in may:
        problems.append(f"reached the upstream: {reached}, not {case.reached}")
    if seen and strict:
        for name, value in case.has.items():
            if seen[0].all(name) != [value.encode("latin-1")]:
                problems.append(f"{name} is {seen[0].all(name)}, not {value!r}")
        for name in case.has_not:
            if seen[0].all(name):
                problems.append(f"{name} is {seen[0].all(name)}, which should not be there")
        for trailer, value in seen[0].trailers:
            if trailer.lower() in (b"content-length", b"transfer-encoding", b"host", b"connection"):
                problems.append(f"the trailer {trailer.decode()} came through")
    return problems


def begin(address: str, octets: bytes, recorder) -> list[str]:
    """A connection that begins wrongly ends, and nothing of it reaches the upstream."""
    connection = Http2(address, settings=octets)
    try:
        connection.pump(connection.broken, 5)
        problems = [] if connection.broken() else [f"got {connection.outcome()}, not the end of the connection"]
    finally:
        connection.close()
    seen, unsound = recorder.take()
    return problems + unsound + [f"reached the upstream: {one}" for one in seen]


# Floods. Each is given what makes connections, and says what is wrong.
REQUESTS = 3000
PIECES = 200


def pour(connection: Http2, octets: bytes, times: int) -> int:
    """Sends the same again and again, without reading, until the other side does not take it or ends; how often."""
    batch = octets * PIECES
    for sent in range(0, times, PIECES):
        connection.pump(lambda: True)
        if connection.broken() or not connection.send(batch):
            return sent
        connection.pump(connection.broken, 0.0005)
    return times


def serves(connection: Http2, stream: int) -> list[str]:
    """Whether a connection that was not ended still serves."""
    if connection.broken():
        return []
    connection.send(request(stream, path="/after"))
    connection.pump(lambda: connection.over(stream), 10)
    if connection.broken() or connection.at(stream).status == 200:
        return []
    return [f"the next request got {connection.outcome(stream)}"]


def with_half_a_head(connect) -> Http2:
    """A connection on which a header block is begun."""
    connection = connect()
    # Its settings are acknowledged first: nothing may stand within a header block.
    connection.pump(lambda: connection.greeted)
    connection.send(frame(HEADERS, END_STREAM, 1, block(*pseudo())))
    return connection


def each_reset(connect, cause) -> list[str]:
    """So many requests on one connection, each with a frame behind it that makes it end at once."""
    connection = connect()
    for stream in range(1, 2 * REQUESTS, 2):
        if not connection.send(request(stream, path="/slow") + cause(stream)):
            break
        if stream % 400 == 1:
            connection.pump(connection.broken, 0.001)
    return serves(connection, 2 * REQUESTS + 1)


@flood
def resets(connect):
    """rapid reset: 3,000 requests, each reset at once"""
    return each_reset(connect, lambda stream: frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))


@flood
def induced_resets(connect):
    """made to reset: 3,000 requests, each followed by a frame for which the server must reset it"""
    return each_reset(connect, lambda stream: frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff"))


@flood
def streams(connect):
    """too many streams: 2,000 requests with unfinished bodies on one connection"""
    connection = connect()
    connection.pump(lambda: connection.greeted)
    for stream in range(1, 4000, 2):
        if not connection.send(request(stream, path="/c", method="POST", end=False)):
            break
    left = connection.not_over(range(1, 4000, 2), 8)
    return [f"{left} of 2,000 unfinished requests got no answer"] if left and not connection.broken() else []


@flood
def continuations(connect):
    """CONTINUATION flood: a header block of 64 MiB that does not end"""
    connection = with_half_a_head(connect)
    taken = pour(connection, frame(CONTINUATION, 0, 1, block(("x", "y" * 16_000))), 4000)
    return [] if connection.pump(connection.broken, 5) else [f"took {taken} frames without a word: {connection.outcome()}"]


@flood
def empty_continuations(connect):
    """CONTINUATION flood: 100,000 empty ones"""
    connection = with_half_a_head(connect)
    taken = pour(connection, frame(CONTINUATION, 0, 1), 100_000)
    return [] if connection.pump(connection.broken, 5) else [f"took {taken} frames without a word: {connection.outcome()}"]


@flood
def unfinished_head(connect):
    """a header block that is begun and never continued"""
    connection = with_half_a_head(connect)
    began = time.monotonic()
    connection.pump(lambda: connection.closed or connection.goaway is not None, 12)
    return [] if connection.closed or connection.goaway is not None else [f"held for {time.monotonic() - began:.0f} s: {connection.outcome()}"]


def pour_blindly(connection: Http2, octets: bytes, times: int) -> None:
    """Sends the same again and again, and reads nothing at all."""
    connection.stream.settimeout(1)
    try:
        for _ in range(times):
            connection.stream.sendall(octets)
    except OSError:
        # It does not read on while its answers are not read, or has ended: either is a bound.
        pass


@flood
def settings(connect):
    """SETTINGS flood: up to 1,000,000, and none of the acknowledgements read"""
    pour_blindly(connect(receive_buffer=4096), setting((3, 100)) * 1000, 1000)
    return []


@flood
def pings(connect):
    """PING flood: up to 1,000,000, and none of the answers read"""
    pour_blindly(connect(receive_buffer=4096), frame(PING, 0, 0, b"12345678") * 1000, 1000)
    return []


@flood
def empty_data(connect):
    """empty DATA flood: 50,000 on one stream"""
    connection = connect()
    connection.send(request(1, end=False, method="POST"))
    pour(connection, frame(DATA, 0, 1), 50_000)
    connection.send(frame(DATA, END_STREAM, 1))
    connection.pump(connection.over, 10)
    own = connection.at(1)
    return [] if own.status or own.reset is not None or connection.broken() else ["no answer and no refusal"]


@flood
def updates(connect):
    """WINDOW_UPDATE flood: 100,000 of one octet"""
    connection = connect()
    pour(connection, frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), 100_000)
    return serves(connection, 1)


@flood
def priorities(connect):
    """PRIORITY flood: 100,000 for streams that do not exist"""
    connection = connect()
    octets = b"".join(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in range(3, 2003, 2))
    for _ in range(100):
        if connection.broken() or not connection.send(octets):
            break
        connection.pump(connection.broken, 0.0005)
    return serves(connection, 4001)


@flood
def closed_streams(connect):
    """RST_STREAM flood: 50,000 for a stream that has ended"""
    connection = connect()
    connection.send(request(1))
    connection.pump(connection.over)
    pour(connection, frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), 50_000)
    return serves(connection, 3)


@flood
def unknown_frames(connect):
    """unknown frames: 32 MiB of them"""
    connection = connect()
    pour(connection, frame(0xEE, 0, 0, b"x" * 16_000), 2000)
    return serves(connection, 1)


@flood
def bomb(connect):
    """HPACK bomb: a field of 4,000 octets, put in the table once and named 16,000 times, on 20 streams"""
    connection = connect()
    stored = b"\x40" + text("x") + text("y" * 3900)
    connection.send(frame(HEADERS, BOTH, 1, block(*pseudo()) + stored))
    for stream in range(3, 43, 2):
        connection.send(frame(HEADERS, BOTH, stream, block(*pseudo()) + b"\xbe" * 16_000))
    connection.not_over(range(1, 43, 2), 10)
    served = [stream for stream in range(3, 43, 2) if connection.at(stream).status == 200]
    return ([f"{len(served)} of 20 were served"] if served else []) + serves(connection, 101)


@flood
def stalled(connect):
    """window stall: 20 large answers, none of which the client takes"""
    connection = connect(settings=setting((4, 0)), window=False)
    for stream in range(1, 41, 2):
        connection.send(request(stream, path="/large"))
    left = connection.not_over(range(1, 41, 2), 25)
    return [f"{left} of 20 stalled answers were never ended"] if left else []


@flood
def dripping(connect):
    """window drip: 8 large answers, taken one octet at a time"""
    connection = connect(settings=setting((4, 0)), window=False)
    for stream in range(1, 17, 2):
        connection.send(request(stream, path="/large"))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not connection.broken():
        for stream in range(1, 17, 2):
            if not connection.over(stream):
                connection.send(frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1"))
        if all(connection.over(stream) for stream in range(1, 17, 2)):
            break
        connection.pump(connection.broken, 0.2)
    left = sum(not connection.over(stream) for stream in range(1, 17, 2))
    # `timeouts.total` is 10 s.
    return [f"{left} of 8 dripping answers outlived the time for all of it"] if left else []


@flood
def half_bodies(connect):
    """bodies that do not end: 24 of them, one octet each"""
    connection = connect()
    for stream in range(1, 49, 2):
        connection.send(request(stream, end=False, method="POST") + frame(DATA, 0, stream, b"x"))
    connection.not_over(range(1, 49, 2), 25)
    statuses = {connection.at(stream).status for stream in range(1, 49, 2)}
    return [] if statuses <= {408, 503, 429} else [f"statuses {statuses}"]


@flood
def many_connections(connect):
    """300 connections with a preface and nothing more"""
    connections = [connect() for _ in range(300)]
    problems = []
    deadline = time.monotonic() + 15
    for connection in connections:
        if not connection.pump(lambda: connection.closed or connection.goaway is not None, max(0.1, deadline - time.monotonic())):
            problems = ["connections on which nothing is asked are never ended"]
    return problems


# A flood may cost so much at the most: a machine that does other work too is slow, but a bound that is none is seen.
MOST_CPU = 20.0
MOST_MEMORY = 96.0


def run(gateway, recorder, strict: bool = True) -> tuple[int, int, list[str], list[str]]:
    """As `judge.run`, and what the floods cost."""
    failures, clean, notes = [], 0, []
    recorder.take()
    for case in CASES:
        problems = judge(gateway.http2, recorder, case, strict)
        if problems:
            failures.append(f"{case.name}: {'; '.join(problems)}")
        clean += not problems
    for name, octets in BEGINNINGS.items():
        problems = begin(gateway.http2, octets, recorder)
        if problems:
            failures.append(f"{name}: {'; '.join(problems)}")
        clean += not problems
    if not strict:
        return len(CASES) + len(BEGINNINGS), clean, failures, notes
    for name, attack in FLOODS:
        gateway.forget_peak()
        cpu, memory, began = gateway.cpu_seconds(), gateway.resident(), time.monotonic()
        connections: list[Http2] = []

        def connect(**more) -> Http2:
            connections.append(Http2(gateway.http2, **more))
            return connections[-1]

        recorder.peak = 0
        problems = attack(connect)
        outcome = connections[-1].outcome()
        for connection in connections:
            connection.close()
        problems += gateway.afterwards()
        cpu, peak = gateway.cpu_seconds() - cpu, gateway.peak() - memory
        notes.append(f"{name}: {cpu:.2f} s of CPU, {peak:+.1f} MiB at its peak, {time.monotonic() - began:.1f} s; {outcome}; {len(recorder.heads)} reached the upstream")
        if cpu > MOST_CPU:
            problems.append(f"cost {cpu:.1f} s of CPU")
        if peak > MOST_MEMORY:
            problems.append(f"cost {peak:.0f} MiB")
        # Where the gateway cuts an answer, the upstream hears of it a little later than the next request.
        if attack in (resets, induced_resets) and recorder.peak > 8:
            problems.append(f"{recorder.peak} requests were at the upstream at once, and the limit is 8")
        problems += recorder.take()[1]
        if problems:
            failures.append(f"{name}: {'; '.join(problems)}")
        clean += not problems
    return len(CASES) + len(BEGINNINGS) + len(FLOODS), clean, failures, notes
