"""One request on a connection of its own, and the answer to it."""

import http.client
import typing
import urllib.parse


class Answer(typing.NamedTuple):
    status: int
    text: str
    fields: http.client.HTTPMessage | None = None


def ask(url: str, method: str = "GET", body: bytes | None = None, within: float = 20, **fields: str) -> Answer:
    """Raises `OSError` or `http.client.HTTPException` where there is no answer. A `_` in a name stands for `-`."""
    address = urllib.parse.urlsplit(url)
    target = address.path + (f"?{address.query}" if address.query else "")
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=within)
    try:
        connection.request(method, target or "/", body, {"Connection": "close", **named})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(), answer.headers)
    finally:
        connection.close()
