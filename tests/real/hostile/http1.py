"""Raw HTTP/1 requests that servers read differently.

A case is a piece of octets, what of it may reach an upstream, and which answers its client gets. Behind each stands one
more request, `GET /after`: a connection that goes on must serve it, one that is refused must not.

    refused(name, octets)                 400, closed, nothing whole reached the upstream
    served(name, octets, reached…)        200 for each request that is named, in that order, and these alone reached it
    case(name, octets, answers, reached)  anything else

`or_else` lists what RFC 9112 leaves other servers to do instead: a list of requests that may reach the upstream.
"""

import dataclasses

SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
AFTER = "GET /after HTTP/1.1\r\nHost: a.example\r\n\r\n"
HOST = "Host: a.example\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
END = "0\r\n\r\n"


@dataclasses.dataclass
class Case:
    name: str
    octets: bytes
    # The status of each answer; a set where several are right.
    answers: list[set[int]]
    # `METHOD target body`, without what follows where it is empty.
    reached: list[str]
    or_else: list[list[str]]
    # Whether `/after` is served as well.
    goes_on: bool
    # Whether `/after` is sent: where a body is missing, it would be taken for it.
    followed: bool = True
    # Whether the client finishes sending then.
    finishes: bool = False
    # Fields of the first request that reached the upstream: which must be there (or which value), which must not.
    has: dict[str, str] = dataclasses.field(default_factory=dict)
    has_not: list[str] = dataclasses.field(default_factory=list)
    # A word that stands nowhere in the octets that reached the upstream.
    unseen: str = ""


# Closed without an answer: nothing in HTTP/1 would be understood by a client that speaks HTTP/2.
SILENT = 0

CASES: list[Case] = []


def case(name, octets, answers, reached=(), or_else=(), goes_on=False, **more) -> None:
    answers = [{answer} if isinstance(answer, int) else set(answer) for answer in answers]
    assert name not in {known.name for known in CASES}, name
    CASES.append(Case(name, octets.encode("latin-1"), answers, list(reached), [list(one) for one in or_else], goes_on, **more))


def refused(name, octets, status=400, or_else=(), **more) -> None:
    case(name, octets, [status], (), or_else, **more)


def served(name, octets, *reached, or_else=(), **more) -> None:
    case(name, octets, [200] * len(reached), reached, or_else, goes_on=True, **more)


def get(fields: str = "", target: str = "/c", version: str = "HTTP/1.1") -> str:
    return f"GET {target} {version}\r\n{HOST}{fields}\r\n"


def post(fields: str, body: str = "", target: str = "/c", version: str = "HTTP/1.1") -> str:
    return f"POST {target} {version}\r\n{HOST}{fields}\r\n{body}"


def chunks(body: str) -> str:
    return post(CHUNKED, body)


# Both framings at once. RFC 9112, section 6.1, lets a server go by the chunks, if it closes the connection then.
refused("cl.te", post("Content-Length: 6\r\n" + CHUNKED, END + "G"), or_else=[["POST /c"]])
refused("te.cl", post(CHUNKED + "Content-Length: 4\r\n", f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n{END}"), or_else=[["POST /c " + SMUGGLED]])
refused("cl.te, length 0", post("Content-Length: 0\r\n" + CHUNKED, "5\r\nhello\r\n" + END), or_else=[["POST /c hello"]])
refused("te.cl, length 0", post(CHUNKED + "Content-Length: 0\r\n", "5\r\nhello\r\n" + END), or_else=[["POST /c hello"]])
refused("cl.te, of the whole body", post("Content-Length: 5\r\n" + CHUNKED, END), or_else=[["POST /c"]])
refused("cl.te, other case", post("content-LENGTH: 6\r\ntransfer-ENCODING: CHUNKED\r\n", END + "G"), or_else=[["POST /c"]])
refused("cl.te with GET", get("Content-Length: 5\r\n" + CHUNKED) + END, or_else=[["GET /c"]])
refused("cl.te, two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n" + CHUNKED, END), or_else=[["POST /c"]])
refused("cl.te, a smuggled request in the last chunk", post(f"Content-Length: {5 + len(SMUGGLED)}\r\n" + CHUNKED, END + SMUGGLED), or_else=[["POST /c"], ["POST /c", "GET /smuggled"]])
refused("cl.te with an unknown coding", post("Content-Length: 5\r\nTransfer-Encoding: x\r\n", "hello"))
refused("cl.te with identity", post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl.te with an empty coding", post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"), or_else=[["POST /c hello"]])

# Transfer-Encoding, in disguise.
for name, coding in {
    "twice chunked, in a list": "chunked, chunked",
    "chunked, identity": "chunked, identity",
    "identity, chunked": "identity, chunked",
    "gzip, chunked": "gzip, chunked",
    "chunked, gzip": "chunked, gzip",
    "gzip": "gzip",
    "identity": "identity",
    "cow": "cow",
    "xchunked": "xchunked",
    "chunkedx": "chunkedx",
    "quoted": '"chunked"',
    "single quotes": "'chunked'",
    "with a parameter": "chunked;q=1",
    "empty first member": ", chunked",
    "empty last member": "chunked,",
    "empty": "",
    "nul behind": "chunked\0",
    "nul before": "\0chunked",
    "vertical tab before": "\x0bchunked",
    "form feed before": "\x0cchunked",
    "form feed behind": "chunked\x0c",
    "no-break space before": "\xa0chunked",
    "delete behind": "chunked\x7f",
    "broken in two": "chun ked",
    "backspace": "chunkedx\x08",
    "escape": "%63hunked",
    "dotless look-alike": "chun\xc4\xb7ed",
}.items():
    refused(f"te: {name}", post(f"Transfer-Encoding: {coding}\r\n", END), {400, 501} if coding == "gzip" else 400, or_else=[["POST /c"]] if name.startswith(("empty", "identity, c")) else [])
    if name in ("xchunked", "quoted", "vertical tab before", "empty first member", "identity, chunked", "nul behind"):
        refused(f"te: {name}, beside a length", post(f"Transfer-Encoding: {coding}\r\nContent-Length: 6\r\n", END + "G"), or_else=[["POST /c"]] if name.startswith(("empty", "id")) else [])
served("te: tab before", post("Transfer-Encoding:\tchunked\r\n", END), "POST /c")
served("te: tab and space behind", post("Transfer-Encoding: chunked \t\r\n", "1\r\na\r\n" + END), "POST /c a")
served("te: no space", post("Transfer-Encoding:chunked\r\n", "1\r\na\r\n" + END), "POST /c a")
served("te: other case", post("TRANSFER-ENCODING: ChUnKeD\r\n", "1\r\na\r\n" + END), "POST /c a")
served("te: with GET", get(CHUNKED) + "1\r\na\r\n" + END, "GET /c a")
refused("te: twice", post(CHUNKED + CHUNKED, END), or_else=[["POST /c"]])
refused("te: twice, other case", post("TRANSFER-ENCODING: chunked\r\ntransfer-encoding: chunked\r\n", END), or_else=[["POST /c"]])
refused("te: chunked and x", post(CHUNKED + "Transfer-Encoding: x\r\n", END))
refused("te: x and chunked", post("Transfer-Encoding: x\r\n" + CHUNKED, END))
refused("te: chunked and identity", post(CHUNKED + "Transfer-Encoding: identity\r\n", END))
refused("te: chunked and nothing", post(CHUNKED + "Transfer-Encoding:\r\n", END), or_else=[["POST /c"]])
refused("te: space before the colon", post("Transfer-Encoding : chunked\r\n", END))
refused("te: tab before the colon", post("Transfer-Encoding\t: chunked\r\n", END))
refused("te: nul in the name", post("Transfer-Encoding\0: chunked\r\n", END))
refused("te: a name beyond ASCII", post("Transfer-Encoding\xff: chunked\r\n", END))
refused("te: a quoted name", post('"Transfer-Encoding": chunked\r\n', END))
refused("te: no colon", post("Transfer-Encoding chunked\r\n", END))
refused("te: a space before the name", post("X: y\r\n Transfer-Encoding: chunked\r\n", END), or_else=[["POST /c"]])
refused("te: folded", post("Transfer-Encoding:\r\n chunked\r\n", END), or_else=[["POST /c"]])
refused("te: folded behind", post("Transfer-Encoding: chunked\r\n\t\r\n", END), or_else=[["POST /c"]])
refused("te: folded into another's value", post("X: y\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", END), or_else=[["POST /c " + END]])
refused("te: behind a bare line feed", post("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", END), or_else=[["POST /c"]])
refused("te: behind a bare carriage return", post("X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", END))
refused("te: in http/1.0", post(CHUNKED, END, version="HTTP/1.0"), or_else=[["POST /c"]])
refused("te: in http/1.0, kept alive", post("Connection: keep-alive\r\n" + CHUNKED, END, version="HTTP/1.0"), or_else=[["POST /c"]])
refused("te: in http/1.0, beside a length", post("Content-Length: 5\r\n" + CHUNKED, END, version="HTTP/1.0"), or_else=[["POST /c"], ["POST /c " + END]])
served("te: with an underscore, beside a length", post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", END), "POST /c " + END, has_not=["transfer_encoding", "transfer-encoding"])
served("te: as a content coding", post("Content-Encoding: chunked\r\nContent-Length: 5\r\n", END), "POST /c " + END)
served("te: with a prefix", post("X-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", END), "POST /c " + END)

# Content-Length.
for name, length in {
    "signed +": "+5", "signed -": "-5", "minus zero": "-0", "hexadecimal": "0x5", "octal prefix": "0o5", "fraction": "5.0",
    "exponent": "5e0", "a word": "five", "two words": "5 5", "empty": "", "a parameter": "5;", "underscore": "1_0",
    "nul behind": "5\0", "vertical tab": "\x0b5", "form feed": "5\x0c", "other digits": "\xd9\xa5", "no-break space": "\xa05",
    "a list of others": "5, 6", "comma behind": "5,", "comma before": ",5", "quoted": '"5"',
    "twenty-three nines": "99999999999999999999999", "two to the 64th": "18446744073709551616",
    "two to the 64th and five": "18446744073709551621",
}.items():
    refused(f"cl: {name}", post(f"Content-Length: {length}\r\n", "hello"), {400, 413} if len(length) > 15 else 400, or_else=[["POST /c hello"]] if "comma" in name else [])
refused("cl: a list of equals", post("Content-Length: 5, 5\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: twice the same", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: twice the same, other case", post("Content-Length: 5\r\ncontent-length: 5\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: two, first less", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"))
refused("cl: two, first more", post("Content-Length: 6\r\nContent-Length: 5\r\n", "hello!"))
refused("cl: two, one empty", post("Content-Length:\r\nContent-Length: 5\r\n", "hello"))
refused("cl: two, one zero", post(f"Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n", SMUGGLED))
refused("cl: two equal numbers written differently", post("Content-Length: 5\r\nContent-Length: 05\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: space before the colon", post("Content-Length : 5\r\n", "hello"))
refused("cl: a space for the dash", post("Content Length: 5\r\n", "hello"))
refused("cl: no colon", post("Content-Length 5\r\n", "hello"))
refused("cl: folded", post("Content-Length:\r\n 5\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: folded digits", post("Content-Length: 1\r\n 0\r\n", "hello"))
refused("cl: behind a bare line feed", post("X: y\nContent-Length: 5\r\n", "hello"), or_else=[["POST /c hello"]])
refused("cl: behind a bare carriage return", post("X: y\rContent-Length: 5\r\n", "hello"))
served("cl: leading zeros", post("Content-Length: 0005\r\n", "hello"), "POST /c hello")
served("cl: blanks around", post("Content-Length: \t 5 \t\r\n", "hello"), "POST /c hello")
served("cl: with an underscore", post("Content_Length: 50\r\nContent-Length: 5\r\n", "hello"), "POST /c hello", has_not=["content_length"])
served("cl: none, and a POST", post("", ""), "POST /c")
served("cl: zero, and a POST", post("Content-Length: 0\r\n", ""), "POST /c")
# The library takes it for no number at all, and says so in its own words.
case("cl: the most that fits in 64 bits", post("Content-Length: 18446744073709551615\r\n", "hello"), [413, 431])
case("cl: the most that fits in 63 bits", post("Content-Length: 9223372036854775807\r\n", "hello"), [413])
case("cl: over the limit", post("Content-Length: 70000\r\n", "hello"), [413])
# A body that looks like a request is a body, whatever the method.
for method in ("GET", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "HEAD"):
    served(f"cl: {method} with a body like a request", f"{method} /c HTTP/1.1\r\n{HOST}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", f"{method} /c {SMUGGLED}")
served("cl: http/1.0 with a body like a request", f"POST /c HTTP/1.0\r\n{HOST}Connection: keep-alive\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", f"POST /c {SMUGGLED}")
case("cl: less than was sent", post("Content-Length: 5\r\n", "hello(("), [200, 400], ["POST /c hello"])
case("cl: more than was sent", post("Content-Length: 500\r\n", "hello"), [408], followed=False)
case("cl: more than was sent, and no more to come", post("Content-Length: 500\r\n", SMUGGLED), [400], followed=False, finishes=True)

# Line ends, folds and control octets.
refused("lf: all lines", get("X: y\r\n").replace("\r\n", "\n"), or_else=[["GET /c"]])
refused("lf: the request line", f"GET /c HTTP/1.1\n{HOST}\r\n", or_else=[["GET /c"]])
refused("lf: one field", get("X: y\n"), or_else=[["GET /c"]])
refused("lf: the Host field", "GET /c HTTP/1.1\r\nHost: a.example\n\r\n", or_else=[["GET /c"]])
refused("lf: the empty line", f"GET /c HTTP/1.1\r\n{HOST}\n", or_else=[["GET /c"]])
refused("lf: two at the end of a head with a body", f"POST /c HTTP/1.1\r\n{HOST}Content-Length: {len(SMUGGLED)}\n\n{SMUGGLED}", or_else=[[f"POST /c {SMUGGLED}"]])
refused("lf: an empty line before the request", "\n" + get(), or_else=[["GET /c"]])
served("lf: CRLF before the request", "\r\n" + get(), "GET /c")
served("lf: CRLF between requests", get() + "\r\n\r\n" + get(), "GET /c", "GET /c")
refused("cr: before the request", "\r" + get())
refused("cr: twice before a line feed", get("X: y\r\r\n"))
refused("cr: in a value", get("X: y\rz\r\n"))
refused("cr: in a name", get("X\ry: z\r\n"))
refused("cr: in the target", get(target="/c\rd"))
refused("cr: for line ends", get("X: y\r\n").replace("\r\n", "\r") + "\r\n\r\n")
refused("cr: alone in the empty line", f"GET /c HTTP/1.1\r\n{HOST}\r\r\n")
refused("fold: a space", get("X: y\r\n z\r\n"), or_else=[["GET /c"]])
refused("fold: a tab", get("X: y\r\n\tz\r\n"), or_else=[["GET /c"]])
refused("fold: of the request line", f"GET /c HTTP/1.1\r\n X: y\r\n{HOST}\r\n", or_else=[["GET /c"]])
refused("fold: a line of blanks", get("X: y\r\n \t\r\n"), or_else=[["GET /c"]])
refused("fold: of the Host field", "GET /c HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n", or_else=[["GET /c"]])
refused("fold: a hidden Host", get("X: y\r\n Host: b.example\r\n"), or_else=[["GET /c"]])
for name, octet in {"nul": "\0", "start of heading": "\x01", "backspace": "\x08", "vertical tab": "\x0b", "form feed": "\x0c", "escape": "\x1b", "unit separator": "\x1f", "delete": "\x7f"}.items():
    refused(f"control: {name} in a value", get(f"X: y{octet}z\r\n"), or_else=[["GET /c"]] if name != "nul" else [])
for name, octet in {"nul": "\0", "escape": "\x1b", "delete": "\x7f", "tab": "\t"}.items():
    refused(f"control: {name} in the target", get(target=f"/c{octet}d"))
    refused(f"control: {name} in a name", get(f"X{octet}y: z\r\n"))
    refused(f"control: {name} in the method", f"GE{octet}T /c HTTP/1.1\r\n{HOST}\r\n")
refused("control: nul behind the version", f"GET /c HTTP/1.1\0\r\n{HOST}\r\n")
refused("control: nul in Host", "GET /c HTTP/1.1\r\nHost: a.example\0b\r\n\r\n")
served("control: a tab in a value", get("X: y\tz\r\n"), "GET /c", has={"x": "y\tz"})
served("beyond ascii: in a value", get("X: \xe9\xff\r\n"), "GET /c", has={"x": "\xe9\xff"})
refused("beyond ascii: in a name", get("X\xe9: y\r\n"))
refused("beyond ascii: in the method", f"G\xc3\x8bT /c HTTP/1.1\r\n{HOST}\r\n")
refused("beyond ascii: in the target, no UTF-8", get(target="/c\xff"))
refused("beyond ascii: in the target, UTF-8", get(target="/k\xc3\xa4se"))
refused("beyond ascii: in the query", get(target="/c?q=\xc3\xa4"))
refused("beyond ascii: a byte order mark", "\xef\xbb\xbf" + get())

# Field lines.
refused("field: no colon", get("X\r\n"))
refused("field: no name", get(": y\r\n"))
refused("field: a space in the name", get("X y: z\r\n"))
refused("field: a space before the colon", get("X : y\r\n"))
refused("field: a space before the first one", f"GET /c HTTP/1.1\r\n Host: a.example\r\n{HOST}\r\n", or_else=[["GET /c"]])
for octet in "(),/;<=>?@[\\]{}\"":
    refused(f"field: {octet} in the name", get(f"X{octet}Y: z\r\n"))
served("field: no value", get("X:\r\n"), "GET /c", has={"x": ""})
served("field: odd but sound names", get("!#$%&'*+-.^`|~: y\r\n"), "GET /c")
served("field: the same name twice", get("X: a\r\nX: b\r\n"), "GET /c", has={"x": "a"})
refused("field: 101 of them", get("X: y\r\n" * 100), 431, or_else=[["GET /c"]])
refused("field: one too long", get(f"X: {'y' * 20_000}\r\n"), 431, or_else=[["GET /c"]])
refused("field: a name too long", get(f"{'x' * 20_000}: y\r\n"), 431)
refused("field: a name of 40,000 octets without a colon", get("x" * 40_000 + "\r\n"), {400, 431})

# Chunks.
DATA = "5\r\nhello\r\n"
for name, size in {
    "0x": "0x5", "signed +": "+5", "signed -": "-5", "a blank before": " 5", "a tab before": "\t5", "none": "", "no digit": "g",
    "two": "5 5", "a comma": "5,5", "underscore": "0_5", "quoted": '"5"', "fraction": "5.0", "nul behind": "5\0", "vertical tab": "5\x0b",
    "over 64 bits": "10000000000000005", "all ones and one more digit": "fffffffffffffffff",
    "a bare carriage return behind": "5\r", "a form feed before": "\x0c5", "other digits": "\xd9\xa5",
}.items():
    refused(f"chunk size: {name}", chunks(f"{size}\r\nhello\r\n{END}"))
# Not in the grammar, but nobody reads them in another way.
for name, size in {"a blank": "5 ", "a tab": "5\t"}.items():
    case(f"chunk size: {name} behind", chunks(f"{size}\r\nhello\r\n{END}"), [{200, 400}], ["POST /c hello"], [[]], goes_on=True)
case("chunk size: all ones", chunks("ffffffffffffffff\r\nhello"), [{400, 408, 413}], followed=False)
case("chunk size: the most that is positive", chunks("7fffffffffffffff\r\nhello"), [{400, 408, 413}], followed=False)
served("chunk size: leading zeros", chunks("0005\r\nhello\r\n000\r\n\r\n"), "POST /c hello")
served("chunk size: upper and lower case", chunks("A\r\n0123456789\r\na\r\n0123456789\r\n" + END), "POST /c 01234567890123456789")
refused("chunk: a line feed behind the size", chunks("5\nhello\r\n" + END), or_else=[["POST /c hello"]])
refused("chunk: a line feed behind the data", chunks("5\r\nhello\n" + END), or_else=[["POST /c hello"]])
refused("chunk: nothing behind the data", chunks("5\r\nhello" + END))
refused("chunk: more data than its size", chunks("5\r\nhello!\r\n" + END))
refused("chunk: a smuggled request for its end", chunks("5\r\nhello" + SMUGGLED))
refused("chunk: carriage return and another octet behind the data", chunks("5\r\nhello\rX" + END))
refused("chunk: a line feed behind the last size", chunks(DATA + "0\n\r\n"), or_else=[["POST /c hello"]])
refused("chunk: a line feed for the last line", chunks(DATA + "0\r\n\n"), or_else=[["POST /c hello"]])
refused("chunk: no last line", chunks(DATA + "0\r\n"), {400, 408})
case("chunk: no last chunk, and no more to come", chunks(DATA), [400], followed=False, finishes=True)
case("chunk: no last chunk", chunks(DATA), [408], followed=False)
case("chunk: half a size, and no more to come", chunks("5"), [400], followed=False, finishes=True)
served("chunk extension: a name and a value", chunks("5;a=b\r\nhello\r\n0;c=d\r\n\r\n"), "POST /c hello", unseen="a=b")
served("chunk extension: a name", chunks("5;a\r\nhello\r\n" + END), "POST /c hello")
served("chunk extension: quoted", chunks('5;a="b;c"\r\nhello\r\n' + END), "POST /c hello")
case("chunk extension: blanks around", chunks("5 ; a = b\r\nhello\r\n" + END), [{200, 400}], ["POST /c hello"], [[]], goes_on=True)
refused("chunk extension: a line feed in it", chunks("5;a\nhello\r\n" + END), or_else=[["POST /c hello"]])
refused("chunk extension: a carriage return in it", chunks("5;a\rb\r\nhello\r\n" + END))
refused("chunk extension: a nul in it", chunks("5;a=\0\r\nhello\r\n" + END), or_else=[["POST /c hello"]])
refused("chunk extension: a smuggled request behind a line feed", chunks(f"5;\n{SMUGGLED}{END}"))
refused("chunk extension: 20,000 octets", chunks(f"5;{'a' * 20_000}\r\nhello\r\n{END}"), or_else=[["POST /c hello"]])
refused("chunk extension: 1,000 times 100 octets for one", chunks(f"1;{'a' * 100}\r\na\r\n" * 1000 + END), or_else=[["POST /c " + "a" * 1000]])
case("chunks over the limit", chunks("1000\r\n" + "a" * 4096 + "\r\n" + ("1000\r\n" + "a" * 4096 + "\r\n") * 16 + END), [413], or_else=[["POST /c " + "a" * 4096 * 17]])

# Trailers.
served("trailer: a plain one", chunks(DATA + "0\r\nX: y\r\n\r\n"), "POST /c hello")
for name, field in {"Content-Length": "Content-Length: 50", "Transfer-Encoding": "Transfer-Encoding: chunked", "Host": "Host: b.example", "Connection": "Connection: close", "Trailer": "Trailer: X"}.items():
    case(f"trailer: {name}", chunks(f"{DATA}0\r\n{field}\r\n\r\n"), [{200, 400}], ["POST /c hello"], [[]], goes_on=True, unseen="b.example" if name == "Host" else "")
served("trailer: one that identifies", chunks(DATA + "0\r\nX-Session-Id: b\r\nAuthorization: b\r\n\r\n"), "POST /c hello", has_not=["x-session-id", "authorization"])
refused("trailer: no colon", chunks(DATA + "0\r\nX\r\n\r\n"))
refused("trailer: a space before the colon", chunks(DATA + "0\r\nX : y\r\n\r\n"), or_else=[["POST /c hello"]])
refused("trailer: folded", chunks(DATA + "0\r\nX: y\r\n z\r\n\r\n"), or_else=[["POST /c hello"]])
refused("trailer: a line feed", chunks(DATA + "0\r\nX: y\n\r\n"), or_else=[["POST /c hello"]])
refused("trailer: a carriage return", chunks(DATA + "0\r\nX: y\rz\r\n\r\n"), or_else=[["POST /c hello"]])
refused("trailer: a nul", chunks(DATA + "0\r\nX: y\0z\r\n\r\n"), or_else=[["POST /c hello"]])
refused("trailer: 1,000 of them", chunks(DATA + "0\r\n" + "X: y\r\n" * 1000 + "\r\n"), {400, 431}, or_else=[["POST /c hello"]])
refused("trailer: 100,000 octets", chunks(f"{DATA}0\r\nX: {'y' * 100_000}\r\n\r\n"), {400, 431}, or_else=[["POST /c hello"]])

# Host and target.
for name, host in {
    "empty": "", "a space": "a b", "a comma": "a.example, b.example", "user": "u@a.example", "user and password": "u:p@a.example:80",
    "a path": "a.example/x", "a port that is a word": "a.example:http", "a port out of range": "a.example:99999", "a negative port": "a.example:-1",
    "half an address": "[::1", "an address without brackets": "::1", "a backslash": "a\\b", "a fragment": "a#b", "a query": "a?b", "an escape": "a%00b",
    "a scheme": "http://a.example", "two ports": "a.example:80:80", "octets beyond ascii": "\xe4.example", "a quote": 'a"b', "angle brackets": "<a>", "a tab": "a\tb",
}.items():
    refused(f"host: {name}", f"GET /c HTTP/1.1\r\nHost: {host}\r\n\r\n", or_else=[["GET /c"]] if name in ("empty", "an escape", "a port out of range", "two ports", "an address without brackets") else [])
refused("host: none", "GET /c HTTP/1.1\r\n\r\n")
refused("host: twice the same", get(HOST), or_else=[["GET /c"]])
refused("host: two", get("Host: b.example\r\n"))
refused("host: two, other case", get("hOsT: b.example\r\n"))
refused("host: two, one empty", get("Host:\r\n"))
refused("host: a space before the colon", "GET /c HTTP/1.1\r\nHost : a.example\r\n\r\n")
refused("host: with an underscore for two", "GET /c HTTP/1.1\r\nHost_: a.example\r\n\r\n")
served("host: a port", "GET /c HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "GET /c")
served("host: an address", "GET /c HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /c")
served("absolute: the same host", get(target="http://a.example/c"), "GET /c")
served("absolute: no path", get(target="http://a.example"), "GET /")
served("absolute: no path but a query", get(target="http://a.example?x=y"), "GET /?x=y")
refused("absolute: another host", get(target="http://b.example/c"), or_else=[["GET /c"]])
refused("absolute: another port", get(target="http://a.example:81/c"), or_else=[["GET /c"]])
refused("absolute: a user", get(target="http://u@a.example/c"), or_else=[["GET /c"]])
refused("absolute: a user like a host", get(target="http://a.example@b.example/c"), or_else=[["GET /c"]])
refused("absolute: another scheme", get(target="ftp://a.example/c"), or_else=[["GET /c"]])
refused("absolute: a file", get(target="file:///etc/passwd"))
refused("absolute: no host", get(target="http:///c"))
refused("absolute: a space", get(target="http://a.example /c"))
refused("absolute: a backslash for the host's end", get(target="http://a.example\\c"))
refused("absolute: no Host field", "GET http://a.example/c HTTP/1.1\r\n\r\n", or_else=[["GET /c"]])
refused("absolute: an empty Host field", "GET http://a.example/c HTTP/1.1\r\nHost:\r\n\r\n", or_else=[["GET /c"]])
refused("absolute: two Host fields", get(HOST, target="http://a.example/c"), or_else=[["GET /c"]])
refused("authority: with GET", get(target="a.example:80"))
refused("connect: an authority", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", {400, 405, 501})
refused("connect: the gateway's neighbour", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", {400, 405, 501})
refused("connect: a path", f"CONNECT /c HTTP/1.1\r\n{HOST}\r\n", {400, 405, 501})
refused("connect: with a body", f"CONNECT a.example:80 HTTP/1.1\r\n{HOST}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", {400, 405, 501})
served("asterisk: with OPTIONS", f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", "OPTIONS *")
refused("asterisk: with GET", get(target="*"))
refused("asterisk: and more", f"OPTIONS *x HTTP/1.1\r\n{HOST}\r\n")
refused("target: none", f"GET  HTTP/1.1\r\n{HOST}\r\n")
refused("target: no slash", get(target="c"))
refused("target: a space", get(target="/c d"))
refused("target: a fragment", get(target="/c#d"), or_else=[["GET /c"]])
refused("target: a fragment behind a query", get(target="/c?d#e"), or_else=[["GET /c?d"]])
case("target: half an escape", get(target="/c%4"), [400], [], [["GET /c%4"]], goes_on=True)
case("target: no escape", get(target="/c%zz"), [400], [], [["GET /c%zz"]], goes_on=True)
refused("target: 20,000 octets", get(target="/" + "c" * 20_000), {414, 431}, or_else=[["GET /" + "c" * 20_000]])
served("target: line ends as escapes", get(target="/c%0d%0aX:%20y?q=%0d%0a"), "GET /c%0d%0aX:%20y?q=%0d%0a")

# Request lines.
refused("line: http/0.9", "GET /c\r\n")
refused("line: http/0.9 and an empty line", "GET /c\r\n\r\n")
refused("line: version 0.9", get(version="HTTP/0.9"), {400, 505})
refused("line: version 1.2", get(version="HTTP/1.2"), {400, 505}, or_else=[["GET /c"]])
refused("line: version 2.0", get(version="HTTP/2.0"), {400, 505}, or_else=[["GET /c"]])
refused("line: version 2", get(version="HTTP/2"), {400, 505})
refused("line: version 1.10", get(version="HTTP/1.10"), {400, 505})
refused("line: version 01.1", get(version="HTTP/01.1"), {400, 505})
refused("line: version 1.", get(version="HTTP/1."), {400, 505})
refused("line: version 1,1", get(version="HTTP/1,1"), {400, 505})
refused("line: version 1.1x", get(version="HTTP/1.1x"), {400, 505})
refused("line: version in lower case", get(version="http/1.1"), {400, 505})
refused("line: another protocol", get(version="HTP/1.1"), {400, 505})
refused("line: a space in the version", get(version="HTTP /1.1"), {400, 505})
refused("line: a space behind the version", get(version="HTTP/1.1 "), {400, 505}, or_else=[["GET /c"]])
refused("line: two spaces before the target", get(target=" /c"), or_else=[["GET /c"]])
refused("line: two spaces behind the target", get(target="/c "), or_else=[["GET /c"]])
refused("line: tabs for spaces", f"GET\t/c\tHTTP/1.1\r\n{HOST}\r\n", or_else=[["GET /c"]])
refused("line: a space before the method", " " + get())
refused("line: no method", f"/c HTTP/1.1\r\n{HOST}\r\n")
refused("line: two requests in one", f"GET /c HTTP/1.1 GET /d HTTP/1.1\r\n{HOST}\r\n")
for octet in "(),/:;<=>?@[\\]{}\"":
    refused(f"line: {octet} in the method", f"GE{octet}T /c HTTP/1.1\r\n{HOST}\r\n")
served("line: a method in lower case", f"get /c HTTP/1.1\r\n{HOST}\r\n", "get /c")
served("line: a method that nobody knows", f"FROB /c HTTP/1.1\r\n{HOST}\r\n", "FROB /c")
served("line: a method like a version", f"HTTP /c HTTP/1.1\r\n{HOST}\r\n", "HTTP /c")
refused("line: a method of 20,000 letters", f"{'G' * 20_000} /c HTTP/1.1\r\n{HOST}\r\n", {400, 431, 501})
refused("line: TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "x" * 32 + "\r\n\r\n")
refused("line: SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n")
refused("line: the PROXY protocol", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + get())
refused("line: the PROXY protocol, version 2", "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\1\x0a\0\0\2\0\1\0\2" + get())
refused("line: half the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")

# HTTP/1.0 and connections.
case("http/1.0: its connection ends", get(version="HTTP/1.0"), [200], ["GET /c"])
served("http/1.0: kept alive", get("Connection: keep-alive\r\n", version="HTTP/1.0"), "GET /c")
case("http/1.0: no Host", "GET /c HTTP/1.0\r\n\r\n", [200], ["GET /c"])
refused("http/1.0: two Hosts", get("Host: b.example\r\n", version="HTTP/1.0"))
case("close: what follows is not served", get("Connection: close\r\n") + SMUGGLED, [200], ["GET /c"])
case("close: in a list", get("Connection: x, CLOSE ,y\r\n") + SMUGGLED, [200], ["GET /c"])
case("close: in a second line", get("Connection: keep-alive\r\nConnection: close\r\n") + SMUGGLED, [200], ["GET /c"])

# What Connection may not take away, and what it must.
for name, value in {"Content-Length": "content-length", "Host": "host", "Transfer-Encoding": "transfer-encoding", "Cookie": "cookie", "X-Request-Id": "x-request-id", "X-Forwarded-For": "x-forwarded-for"}.items():
    served(f"connection: names {name}", post(f"Connection: {name}\r\nCookie: k=v\r\nX-Request-Id: mine\r\nContent-Length: 5\r\n", "hello"), "POST /c hello",
           has={"cookie": "k=v", "x-request-id": "mine", "x-forwarded-for": "127.0.0.1"}, has_not=["connection"])
served("connection: names the chunked coding", post("Connection: Transfer-Encoding\r\n" + CHUNKED, "5\r\nhello\r\n" + END), "POST /c hello", has_not=["connection"])
served("connection: names the fields of the policy", post("Connection: X-Session-Id, X-Api-Key, Authorization\r\nX-Session-Id: s\r\nX-Api-Key: k\r\nAuthorization: a\r\nContent-Length: 5\r\n", "hello"), "POST /c hello", has={"x-session-id": "s", "x-api-key": "k", "authorization": "a"}, has_not=["connection"])
served("connection: names a field of its own", get("Connection: X-Hop\r\nX-Hop: y\r\n"), "GET /c", has_not=["x-hop", "connection"])
served("connection: is no list of names", get("Connection: ,, @, keep-alive,\r\n"), "GET /c", has_not=["connection"])
served("connection: fields that end here", get("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip, deflate;q=0.5\r\nProxy-Authorization: Basic x\r\n"), "GET /c", has_not=["keep-alive", "proxy-connection", "te", "proxy-authorization"])
served("underscores: fields that the gateway reads", get("X_Forwarded_For: 10.0.0.1\r\nX_Session_Id: s\r\nX_Request_Id: r\r\nX_Api_Key: k\r\n"), "GET /c", has_not=["x_forwarded_for", "x_session_id", "x_request_id", "x_api_key"])
served("underscores: mixed with dashes", get("X_Forwarded-For: 10.0.0.1\r\nX-Session_Id: s\r\n"), "GET /c", has_not=["x_forwarded-for", "x-session_id"])
served("spoofed: the way here", get("X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-Host: b.example\r\nX-Forwarded-Proto: https\r\n"), "GET /c", has={"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "a.example", "x-forwarded-proto": "http"}, unseen="10.0.0.1")
served("spoofed: the gateway's own fields", get("Turnwise-Turn: x\r\nTurnwise-Session: y\r\n"), "GET /c", has_not=["turnwise-turn", "turnwise-session"])
case("spoofed: a choice that the policy does not leave", get("Turnwise-When-Busy: interrupt\r\n"), [400], goes_on=True, or_else=[["GET /c"]])

# Upgrades.
H2C = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
served("upgrade: h2c", get("Connection: Upgrade, HTTP2-Settings\r\n" + H2C), "GET /c", has_not=["upgrade", "http2-settings", "connection"])
served("upgrade: h2c, half said", get("Connection: Upgrade\r\n" + H2C), "GET /c", has_not=["upgrade", "http2-settings"])
served("upgrade: h2c, not said", get(H2C), "GET /c", has_not=["upgrade", "http2-settings"])
served("upgrade: h2c with a body", post("Connection: Upgrade, HTTP2-Settings\r\nContent-Length: 5\r\n" + H2C, "hello"), "POST /c hello", has_not=["upgrade", "http2-settings"])
served("upgrade: h2c in a list", get("Connection: Upgrade, HTTP2-Settings\r\n" + H2C.replace("h2c", "websocket, h2c")), "GET /c", has_not=["http2-settings"], unseen="h2c")
served("upgrade: H2C", get("Connection: upgrade\r\nUpgrade: H2C\r\n"), "GET /c", unseen="H2C")
served("upgrade: websocket, which the upstream declines", get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"), "GET /c")
served("upgrade: websocket with a body like a request", post(f"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {len(SMUGGLED)}\r\n", SMUGGLED), f"POST /c {SMUGGLED}")
served("upgrade: websocket, not said", get("Upgrade: websocket\r\n"), "GET /c", has_not=["upgrade"])
served("upgrade: in http/1.0", get("Connection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n", version="HTTP/1.0"), "GET /c")
case("upgrade: prior knowledge in mid-connection", get() + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", [200, {400, 505, SILENT}], ["GET /c"])
case("upgrade: prior knowledge behind an upgrade", get("Connection: Upgrade, HTTP2-Settings\r\n" + H2C) + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", [200, {400, 505, SILENT}], ["GET /c"])
case("upgrade: prior knowledge inside a body", post("Content-Length: 24\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), [200], ["POST /c PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], goes_on=True)

# Expect.
served("expect: and the body at once", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), "POST /c hello")
served("expect: other case", post("Expect: 100-CONTINUE\r\nContent-Length: 5\r\n", "hello"), "POST /c hello")
served("expect: and no body", get("Expect: 100-continue\r\n"), "GET /c")
case("expect: something else", post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"), [{200, 417}], ["POST /c hello"], [[]], goes_on=True)
case("expect: twice", post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello"), [{200, 400, 417}], ["POST /c hello"], [[]], goes_on=True)
case("expect: in a list", post("Expect: 100-continue, x\r\nContent-Length: 5\r\n", "hello"), [{200, 400, 417}], ["POST /c hello"], [[]], goes_on=True)
served("expect: in http/1.0", post("Connection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello", version="HTTP/1.0"), "POST /c hello")
refused("expect: and both framings", post("Expect: 100-continue\r\nContent-Length: 5\r\n" + CHUNKED, END), or_else=[["POST /c"]])
case("expect: and a body over the limit", post("Expect: 100-continue\r\nContent-Length: 70000\r\n", "hello"), [413])

# One after the other.
served("pipeline: fifty", get() * 50, *["GET /c"] * 50)
served("pipeline: bodies between", post("Content-Length: 5\r\n", "hello") + chunks(DATA + END) + get(), "POST /c hello", "POST /c hello", "GET /c")
FORGIVING = {
    "both framings": [["GET /c", "POST /c"]], "two lengths": [["GET /c", "POST /c hello", "GET /smuggled"]],
    "two codings": [["GET /c", "POST /c"]],
    **{name: [["GET /c", "GET /c", "GET /smuggled"]] for name in ("a bare line feed", "a fold", "an empty line of a bare line feed")},
}
for name, bad in {
    "both framings": post("Content-Length: 5\r\n" + CHUNKED, END), "two lengths": post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    "a bare line feed": get("X: y\n"), "no host": "GET /c HTTP/1.1\r\n\r\n", "a fold": get("X: y\r\n z\r\n"), "nonsense": "nonsense\r\n\r\n",
    "two codings": post(CHUNKED + CHUNKED, END), "an empty line of a bare line feed": "\n" + get(),
}.items():
    case(f"pipeline: the second has {name}", get() + bad + SMUGGLED, [200, 400], ["GET /c"], FORGIVING.get(name, []))
case("pipeline: the fifty-first has both framings", get() * 50 + post("Content-Length: 5\r\n" + CHUNKED, END) + SMUGGLED, [200] * 50 + [400], ["GET /c"] * 50, [["GET /c"] * 50 + ["POST /c"]])
case("pipeline: the second is too large", get() + get(f"X: {'y' * 20_000}\r\n"), [200, 431], ["GET /c"])
case("pipeline: a broken body, then a smuggled request", chunks("zz\r\n") + SMUGGLED, [400])
case("pipeline: a broken body of an answered request", post(CHUNKED, "1\r\na\r\nzz\r\n", target="/early") + SMUGGLED, [{200, 400}], [], goes_on=False)
case("pipeline: a long rest of an answered request", post("Content-Length: 60000\r\n", "a" * 60000, target="/early"), [200], ["POST /early " + "a" * 60000], goes_on=True)

# What is echoed.
served("echo: a request id with escaped line ends", get("X-Request-Id: a%0d%0aInjected:%20yes\r\n"), "GET /c", has={"x-request-id": "a%0d%0aInjected:%20yes"})
served("echo: a request id with blanks", get("X-Request-Id: a b\r\n"), "GET /c", unseen="a b")
served("echo: a request id beyond ascii", get("X-Request-Id: \xc4\x8d\xc4\x8a\r\n"), "GET /c", unseen="\xc4\x8d")
served("echo: a request id that is too long", get(f"X-Request-Id: {'r' * 200}\r\n"), "GET /c", unseen="r" * 150)
served("echo: two request ids", get("X-Request-Id: one\r\nX-Request-Id: two\r\n"), "GET /c")
refused("echo: a request id behind a bare carriage return", get("X-Request-Id: a\rInjected: yes\r\n"))
refused("echo: a request id behind a bare line feed", get("X-Request-Id: a\nInjected: yes\r\n"), or_else=[["GET /c"]])
