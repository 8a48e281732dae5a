"""Real clients against what a session does with a newer, an equal, a nested or a waiting call.

The clients are the SDKs of OpenAI and of Anthropic, a headless Chromium and httpx; the agent is FastAPI on uvicorn, and
the judge is the agent's own record of what it executed. Each function below whose name is a claim shows it and prints
what it has seen. Exit code 1 when one does not hold.

    python tests/real/strategies.py --gateway target/release/turnwise

With `--direct` only what needs no gateway runs: that the SDKs, the browser and the agent are what the claims take them for.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import typing

import anthropic
import httpx
import openai

from browser import chromium
from claims import Failed, soon_beside
from metrics import samples, total
from processes import free_address, start, start_application, stop, wait_for

# From a connection's end to a handler that hears of it are a few rounds of the agent's event loop.
HEARING = 0.05
# Of what has not happened yet: later than all that has.
NEVER = math.inf
# The waits that cross the 60 seconds after which many a proxy cuts a silent connection.
LONG = 65

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}" }}
limits: {{ queue_timeout: 2m }}
upstreams:
  agents: {{ servers: ["http://{agent}"] }}
defaults:
  timeouts: {{ response: 2m }}
routes:
  - {{ name: interrupt, match: {{ path_prefix: /interrupt }}, abandoned: auto, session: {{ key: {header}, when_busy: interrupt }} }}
  - {{ name: reject, match: {{ path_prefix: /reject }}, session: {{ key: {header}, when_busy: reject }} }}
  - {{ name: replace, match: {{ path_prefix: /replace }}, session: {{ key: {header}, when_busy: replace }} }}
  - {{ name: choose, match: {{ path_prefix: /choose }}, session: {{ key: {header}, when_busy_choices: [interrupt, replace] }} }}
  - {{ name: finish, match: {{ path_prefix: /finish }}, session: {{ key: {header} }}, abandoned: finish }}
  - {{ name: finish-place, match: {{ path_prefix: /finish-place }}, concurrency: 1, abandoned: finish }}
  - name: finish-504
    match: {{ path_prefix: /finish-504 }}
    session: {{ key: {header} }}
    timeouts: {{ response: 1s }}
    abandoned: finish
  - name: finish-cut
    match: {{ path_prefix: /finish-cut }}
    session: {{ key: {header} }}
    abandoned: finish
    abandoned_limit: 1s
  - {{ name: cancel, match: {{ path_prefix: /cancel }}, session: {{ key: {header} }}, abandoned: cancel }}
  - {{ name: auto, match: {{ path_prefix: /auto }}, session: {{ key: {header} }}, abandoned: auto }}
  - {{ name: auto-stream, match: {{ path_prefix: /auto-stream }}, session: {{ key: {header} }}, abandoned: auto }}
  - {{ name: plain, match: {{ path_prefix: /plain }}, session: {{ key: {header} }} }}
  - {{ name: crossing, match: {{ path_prefix: /crossing }}, session: {{ key: {header}, reentrant: true }} }}
  - name: comments
    match: {{ path_prefix: /comments }}
    session: {{ key: {header}, queue_timeout: 2m, while_waiting: comments }}
  - name: listening
    match: {{ path_prefix: /listening }}
    session: {{ key: [{{ query: session }}], queue_timeout: 2m, while_waiting: comments }}
  - name: impatient
    match: {{ path_prefix: /impatient }}
    session: {{ key: [{{ header: X-Session-Id }}, {{ query: session }}], queue_timeout: 3s, while_waiting: comments }}
  - name: join
    match: {{ path_prefix: /join }}
    session: {{ key: {header}, duplicates: join, replay_for: 10s }}
  - {{ name: browser, match: {{ path_prefix: /browser }}, exempt: true }}
"""

# One place for all: a parent that holds it would wait for its children for ever if they needed one of their own.
NESTED = """\
listen: {public}
admin: {{ listen: "{admin}" }}
limits: {{ concurrency: 1, queue_timeout: 20s }}
upstreams:
  agents: {{ servers: ["http://{agent}"] }}
routes:
  - {{ name: nested, match: {{ path_prefix: /nested }}, session: {{ key: {header}, reentrant: true, queue_timeout: 20s }} }}
"""


def require(holds: object, what: str, *evidence: object) -> None:
    if not holds:
        raise Failed(" | ".join([what, *(shown(item) for item in evidence)]))


def shown(item: object) -> str:
    if isinstance(item, httpx.Response):
        fields = {name: value for name, value in item.headers.items() if name not in ("date", "server", "via")}
        return f"{item.request.method} {item.request.url} -> {item.status_code} {fields} {item.text[:400]}"
    if isinstance(item, BaseException):
        return f"{type(item).__name__}: {item}"
    return str(item)


def now() -> float:
    return time.monotonic()


class Side:
    """The agent, directly or through a gateway, and its record."""

    def __init__(self, base: str, agent: str, admin: str | None):
        self.base = base
        self.agent = agent
        self.admin = admin
        # No connection is used twice: a client that leaves closes its own, and no other request is behind it.
        self.client = httpx.AsyncClient(timeout=100, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        self.observer = httpx.AsyncClient(timeout=10, verify=False)

    async def close(self) -> None:
        await self.client.aclose()
        await self.observer.aclose()

    async def judge(self, path: str, **query: str) -> typing.Any:
        return (await self.observer.get(f"http://{self.agent}{path}", params=query)).json()

    async def executions(self, session: str, message: str | None = None) -> list[dict]:
        """The calls of a session as the agent executed them, in the order in which it began with them."""
        record = await self.judge("/record", session=session)
        for call in record:
            call.update({moment: NEVER for moment in ("end", "gone") if call[moment] is None})
        return [call for call in record if message in (None, call["message"])]

    async def until(self, session: str, message: str, moment: str) -> dict:
        """The first such call, as soon as the agent has got to its `start`, `end` or `gone`."""

        async def reached() -> dict | None:
            return next((call for call in await self.executions(session, message) if call[moment] != NEVER), None)

        what = f"the {moment} of {message} in session {session}"
        return await soon_beside(what, reached, evidence=lambda: self.executions(session))

    async def known(self, session: str) -> list[dict]:
        """The requests of a session, as the gateway knows them."""
        answer = await self.observer.get(f"http://{self.admin}/sessions/{session}")
        return answer.json()["requests"] if answer.status_code == 200 else []

    async def until_known(self, session: str, number: int, what: str, which: typing.Callable[[dict], object]) -> None:
        """The gateway knows of so many such requests of a session."""

        async def there() -> bool:
            return sum(bool(which(one)) for one in await self.known(session)) == number

        await soon_beside(f"{number} of session {session} {what}", there, evidence=lambda: self.known(session))

    async def until_one_waits(self, session: str) -> None:
        await self.until_known(session, 1, "wait for a turn", lambda one: one["waiting_for"] == "turn")

    async def post(self, path: str, session: str, body: dict | bytes, **headers: str) -> httpx.Response:
        """One request on a connection of its own. A `_` in a name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if session:
            named["X-Session-Id"] = session
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named["Content-Type"] = "application/json"
        return await self.client.post(f"http://{self.base}{path}", content=content, headers=named)

    def begin(self, path: str, session: str, message: str, seconds: float, **headers: str) -> asyncio.Task:
        return asyncio.create_task(self.post(path, session, {"message": message, "seconds": seconds}, **headers))

    async def begun(self, path: str, session: str, message: str, seconds: float, **headers: str) -> asyncio.Task:
        """A request that the agent has begun to execute."""
        task = self.begin(path, session, message, seconds, **headers)
        await self.until(session, message, "start")
        return task

    async def count(self, name: str, **labels: str) -> float:
        """The sum of a counter's samples that have these labels."""
        return total(samples((await self.observer.get(f"http://{self.admin}/metrics")).text), name, **labels)

    async def counted(self, expected: float, name: str, **labels: str) -> float:
        """The sum of a counter, once it is what it should be or two seconds later."""

        async def reached() -> bool:
            return await self.count(name, **labels) == expected

        with contextlib.suppress(Failed):
            await soon_beside(f"{expected} {name}", reached, 2, 0.1)
        return await self.count(name, **labels)


def problem(answer: httpx.Response, status: int, reason: str, repeat: bool = True) -> None:
    """Requires that an answer is the gateway's own, for this reason."""
    held = answer.status_code == status and answer.headers.get("content-type") == "application/problem+json"
    held = held and answer.json().get("reason") == reason and answer.json().get("status") == status
    require(held, f"not a {status} {reason}", answer)
    if not repeat:
        require(answer.headers.get("x-should-retry") == "false", "without X-Should-Retry: false", answer)


async def leave(task: asyncio.Task) -> float:
    """The client hangs up; says when."""
    left = now()
    task.cancel()
    await asyncio.wait([task])
    return left


class Sdk:
    """What the SDKs have in common for the claims below."""

    name: str
    # Below the base of the agent's paths.
    below = ""
    http_client: type[httpx.AsyncClient]
    api_client: type

    def __init__(self, side: Side, strategy: str, **options: typing.Any):
        # The requests that really went out, and how long the head of a stream took.
        self.attempts = 0
        self.head_after = NEVER
        http = self.http_client(verify=False, event_hooks={"request": [self.note]})
        base = f"http://{side.base}/{strategy}{self.below}"
        self.client = self.api_client(base_url=base, api_key="k", http_client=http, **options)

    async def note(self, _request: object) -> None:
        self.attempts += 1

    def call(self) -> typing.Callable:
        """The function of the SDK that makes a call."""
        raise NotImplementedError

    def said(self, answer: typing.Any) -> str:
        raise NotImplementedError

    def heard(self, event: typing.Any) -> tuple[str | None, bool]:
        """The word in an event of a stream, if any, and whether it says that the stream is whole."""
        raise NotImplementedError

    def create(self, session: str, message: str, seconds: float, stream: bool = False, **headers: str) -> typing.Awaitable:
        said = [{"role": "user", "content": message}]
        named = {"X-Session-Id": session, **headers}
        return self.call()(model="m", messages=said, stream=stream, extra_body={"seconds": seconds}, extra_headers=named)

    async def ask(self, session: str, message: str, seconds: float) -> str:
        return self.said(await self.create(session, message, seconds))

    async def stream(self, session: str, message: str, seconds: float, **headers: str) -> typing.AsyncIterator[str]:
        """The words as they come; ends only if the stream said that it was whole."""
        whole, sent = False, now()
        events = await self.create(session, message, seconds, True, **headers)
        self.head_after = now() - sent
        async for event in events:
            word, last = self.heard(event)
            whole = whole or last
            if word is not None:
                yield word
        require(whole, "the stream ended without its last event, and nothing was raised")


class OpenAI(Sdk):
    name = "openai"
    below = "/v1"
    http_client = openai.DefaultAsyncHttpxClient
    api_client = openai.AsyncOpenAI

    def call(self) -> typing.Callable:
        return self.client.chat.completions.create

    def said(self, answer: typing.Any) -> str:
        return answer.choices[0].message.content

    def heard(self, event: typing.Any) -> tuple[str | None, bool]:
        require(event.choices, "a chunk that is none", event)
        return event.choices[0].delta.content or None, event.choices[0].finish_reason == "stop"


class Anthropic(Sdk):
    name = "anthropic"
    http_client = anthropic.DefaultAsyncHttpxClient
    api_client = anthropic.AsyncAnthropic

    def call(self) -> typing.Callable:
        return functools.partial(self.client.messages.create, max_tokens=9)

    def said(self, answer: typing.Any) -> str:
        return answer.content[0].text

    def heard(self, event: typing.Any) -> tuple[str | None, bool]:
        return event.delta.text if event.type == "content_block_delta" else None, event.type == "message_stop"


SDKS = (OpenAI, Anthropic)
CONFLICTS = (openai.ConflictError, anthropic.ConflictError)


async def outcome(call: typing.Awaitable) -> typing.Any:
    """What a call returned or raised."""
    try:
        return await call
    except Exception as error:
        return error


def conflict(error: object, reason: str) -> None:
    """Requires that an SDK raised its own error for a 409, for this reason and not to be repeated."""
    require(isinstance(error, CONFLICTS), f"not a ConflictError ({reason})", error)
    response = error.response
    evidence = f"{response.status_code} {dict(response.headers)} {response.text}"
    require(response.status_code == 409 and response.json().get("reason") == reason, f"not for {reason}", evidence)
    require(response.headers.get("x-should-retry") == "false", "without X-Should-Retry: false", evidence)


# Without a gateway: that these clients and this agent are what the claims take them for.


async def without_a_word_the_sdks_repeat_a_409(side: Side) -> str:
    seen = []
    for kit in SDKS:
        for strategy, expected in (("told", 1), ("untold", 3)):
            sdk = kit(side, f"{strategy}/conflict")
            error = await outcome(sdk.ask(f"{kit.name}-{strategy}", "conflict", 0))
            require(isinstance(error, CONFLICTS), "not a ConflictError", error)
            executed = len(await side.executions(f"{kit.name}-{strategy}"))
            require(executed == sdk.attempts == expected, f"{kit.name} asked {sdk.attempts} times, not {expected}")
            seen.append(f"{kit.name} {strategy} asked {executed}")
    return ", ".join(seen)


async def directly_the_sdks_get_answers_and_streams(side: Side) -> str:
    for kit in SDKS:
        sdk = kit(side, "direct")
        said = await sdk.ask(f"direct-{kit.name}", "A", 0.1)
        streamed = "".join([word async for word in sdk.stream(f"direct-{kit.name}", "A", 0.1)])
        require(said == streamed == "I have read A", "the answer is another", said, streamed)
    return "both said: I have read A"


async def directly_two_calls_of_a_session_overlap(side: Side) -> str:
    """Else the claims on order would show nothing."""
    first = await side.begun("/direct/work", "overlap", "A", 1)
    second = await side.begun("/direct/work", "overlap", "B", 1)
    await asyncio.gather(first, second)
    one, two = await side.executions("overlap")
    require(two["start"] < one["end"], "they did not overlap", one, two)
    return f"B began {one['end'] - two['start']:.1f} s before the end of A"


async def directly_the_agent_works_on_or_stops_when_its_client_leaves(side: Side) -> str:
    left = await leave(await side.begun("/direct/work", "leaves", "A", 1))
    works_on = await side.until("leaves", "A", "end")
    require(left + 0.5 < works_on["end"] and works_on["gone"] < works_on["end"], "it did not work on", works_on)
    sdk = OpenAI(side, "direct")
    task = asyncio.create_task(sdk.ask("leaves", "B", 5))
    await side.until("leaves", "B", "start")
    left = await leave(task)
    stops = await side.until("leaves", "B", "end")
    require(stops["stopped"] and stops["end"] < left + 1, "it did not stop", stops)
    return f"work ended {works_on['end'] - works_on['gone']:.1f} s after, a completion {stops['end'] - left:.2f} s after"


async def directly_a_browser_gets_the_events(side: Side) -> str:
    result = await browse(side, "direct", "/direct/events?session=direct&message=A")
    require(result["messages"] == ["A 0", "A 1", "A 2"] and result["opened"] == 1 and not result["errors"], "another", result)
    return f"{result}"


DIRECT = [
    without_a_word_the_sdks_repeat_a_409,
    directly_the_sdks_get_answers_and_streams,
    directly_two_calls_of_a_session_overlap,
    directly_the_agent_works_on_or_stops_when_its_client_leaves,
    directly_a_browser_gets_the_events,
]


# When its session is busy.


async def an_interrupted_call_is_not_repeated_by_its_sdk(side: Side) -> str:
    async def with_one(kit: type, options: dict) -> str:
        session = f"interrupt-{kit.name}-{options.get('max_retries', 'default')}"
        sdk, another = kit(side, "interrupt", **options), kit(side, "interrupt", **options)
        older = asyncio.create_task(outcome(sdk.ask(session, "A", 5)))
        await side.until(session, "A", "start")
        sent = now()
        newer = asyncio.create_task(another.ask(session, "B", 1))
        conflict(await older, "interrupted")
        told = now() - sent
        require(told < 3, f"A heard of it only {told:.1f} s later, and would have taken 5")
        said = await newer
        require(said == "I have read B", "B got another answer", said)
        executed = await side.executions(session)
        require([call["message"] for call in executed] == ["A", "B"], "executed otherwise than A, B", executed)
        require(sdk.attempts == 1, f"A was sent {sdk.attempts} times")
        first, second = executed
        require(first["stopped"], "A was not stopped by the end of its connection", first)
        require(second["start"] > first["gone"] - HEARING, "B began before A's connection was closed", executed)
        return f"{session} A gone {first['gone'] - sent:.3f} s, B begun {second['start'] - sent:.3f} s after B was sent"

    kinds = [(kit, options) for kit in SDKS for options in ({}, {"max_retries": 5})]
    return "; ".join(await asyncio.gather(*(with_one(*kind) for kind in kinds)))


async def an_interrupted_stream_is_not_taken_for_a_whole_one(side: Side) -> str:
    async def with_one(kit: type) -> str:
        session = f"interrupt-stream-{kit.name}"
        sdk = kit(side, "interrupt")
        heard = []

        async def listen() -> None:
            async for word in sdk.stream(session, "A", 6):
                heard.append(word)

        async def heard_something() -> bool:
            return bool(heard)

        older = asyncio.create_task(outcome(listen()))

        await soon_beside("something is streamed", heard_something)
        said = await kit(side, "interrupt").ask(session, "B", 0.5)
        error = await older
        require(isinstance(error, Exception) and not isinstance(error, Failed), "A's stream seems to be whole", error)
        executed = await side.executions(session)
        require([call["message"] for call in executed] == ["A", "B"], "executed otherwise than A, B", executed)
        require(executed[1]["start"] > executed[0]["gone"] - HEARING, "B began before A's connection was closed", executed)
        require(said == "I have read B" and sdk.attempts == 1, "B got another answer, or A was repeated", said, sdk.attempts)
        return f"{kit.name} raised {type(error).__name__} after {len(heard)} words"

    return ", ".join(await asyncio.gather(*(with_one(kit) for kit in SDKS)))


async def a_rejected_call_is_not_repeated_by_its_sdk(side: Side) -> str:
    async def with_one(kit: type, options: dict) -> str:
        session = f"reject-{kit.name}-{options.get('max_retries', 'default')}"
        sdk = kit(side, "reject", **options)
        older = asyncio.create_task(kit(side, "reject").ask(session, "A", 4))
        await side.until(session, "A", "start")
        sent = now()
        conflict(await outcome(sdk.ask(session, "B", 0.1)), "session_busy")
        told = now() - sent
        require(not older.done(), f"B was told after {told:.1f} s, when A had ended")
        require(sdk.attempts == 1, f"B was sent {sdk.attempts} times")
        said = await older
        executed = await side.executions(session)
        require(said == "I have read A" and len(executed) == 1, "A was disturbed, or B executed", said, executed)
        return f"{session} told after {told:.2f} s"

    kinds = [(kit, options) for kit in SDKS for options in ({}, {"max_retries": 5})]
    seen = "; ".join(await asyncio.gather(*(with_one(*kind) for kind in kinds)))
    rejected = await side.counted(len(kinds), "turnwise_rejected_total", route="reject", reason="session_busy")
    require(rejected == len(kinds), f"{rejected} counted as rejected, not {len(kinds)}")
    return f"{seen}; {rejected:.0f} counted"


async def the_newest_takes_the_place_of_those_that_wait(side: Side) -> str:
    older = await side.begun("/replace/work", "replace", "A", 2.5)
    waits = side.begin("/replace/work", "replace", "B", 0.1)
    await side.until_one_waits("replace")
    require(not waits.done(), "B did not wait")
    sent = now()
    newest = side.begin("/replace/work", "replace", "C", 0.1)
    problem(await waits, 409, "interrupted", repeat=False)
    told = now() - sent
    require(not older.done(), f"B was told after {told:.1f} s, when A had ended")
    one, last = await asyncio.gather(older, newest)
    require(one.status_code == last.status_code == 200, "A or C failed", one, last)
    executed = await side.executions("replace")
    require([call["message"] for call in executed] == ["A", "C"], "executed otherwise than A, C", executed)
    require(executed[0]["gone"] == NEVER, "A was disturbed", executed)
    require(executed[1]["start"] >= executed[0]["end"], "C began before the end of A", executed)
    return f"B was told {told:.2f} s after C was sent, C began {executed[1]['start'] - executed[0]['end']:.3f} s after the end of A"


async def a_request_chooses_among_the_choices_only(side: Side) -> str:
    older = await side.begun("/choose/work", "choose", "A", 4)
    for word in ("reject", "nonsense"):
        refused = await side.post("/choose/work", "choose", {"message": word}, Turnwise_When_Busy=word)
        problem(refused, 400, "bad_request")
        idle = await side.post("/choose/work", "choose-idle", {"message": word}, Turnwise_When_Busy=word)
        problem(idle, 400, "bad_request")
    unasked = await side.post("/replace/work", "choose-none", {"message": "none"}, Turnwise_When_Busy="interrupt")
    problem(unasked, 400, "bad_request")
    waits = side.begin("/choose/work", "choose", "B", 0.1)
    await side.until_one_waits("choose")
    require(not waits.done() and not older.done(), "the route's own `wait` did not hold")
    replaces = side.begin("/choose/work", "choose", "C", 0.1, Turnwise_When_Busy="replace")
    problem(await waits, 409, "interrupted", repeat=False)
    require(not older.done(), "`replace` ended the running one")
    sent = now()
    newest = side.begin("/choose/work", "choose", "D", 0.1, Turnwise_When_Busy="interrupt")
    problem(await older, 409, "interrupted", repeat=False)
    problem(await replaces, 409, "interrupted", repeat=False)
    told = now() - sent
    require((await newest).status_code == 200 and told < 1, f"D failed, or A was told after {told:.1f} s", await newest)
    executed = await side.executions("choose")
    require([call["message"] for call in executed] == ["A", "D"], "executed otherwise than A, D", executed)
    require(not await side.executions("choose-idle"), "a refused one was executed")
    return "wait, replace and interrupt as chosen; reject, nonsense and a route without choices 400"


# When its client has gone.


async def abandoned(side: Side, route: str, result: str) -> None:
    so = await side.counted(1, "turnwise_abandoned_total", route=route, result=result)
    every = await side.count("turnwise_abandoned_total", route=route)
    require(so == every == 1, f"{so} counted as {result} of {every}, not one of one")


async def after_a_client_has_gone_the_next_turn_begins_when_the_work_has_ended(side: Side) -> str:
    async def on(route: str, session: str) -> str:
        left = await leave(await side.begun(f"/{route}/work", session, "A", 2))
        answer = await side.post(f"/{route}/work", session, {"message": "B"})
        one, two = await side.executions(session)
        require(answer.status_code == 200, "the next one failed", answer)
        require(one["gone"] == NEVER and one["end"] > left + 1, "A was not left to finish", one)
        require(two["start"] >= one["end"], "B began before the end of A", one, two)
        await abandoned(side, route, "finished")
        return f"{route} began {two['start'] - one['end']:.3f} s after"

    return ", ".join(await asyncio.gather(on("finish", "finish"), on("finish-place", "finish-place"), on("auto", "auto-head")))


async def after_a_504_the_next_turn_begins_when_the_work_has_ended(side: Side) -> str:
    first = await side.begun("/finish-504/work", "finish-504", "A", 3)
    problem(await first, 504, "upstream_timeout")
    told = now()
    answer = await side.post("/finish-504/work", "finish-504", {"message": "B"})
    one, two = await side.executions("finish-504")
    require(answer.status_code == 200, "the next one failed", answer)
    require(one["end"] > told + 1 and one["gone"] == NEVER, "A was not left to finish", one)
    require(two["start"] >= one["end"], "B began before the end of A", one, two)
    await abandoned(side, "finish-504", "finished")
    return f"504 after {told - one['start']:.1f} s, the next turn {two['start'] - one['end']:.3f} s after the end of the work"


async def abandoned_work_is_cut_at_its_limit(side: Side) -> str:
    left = await leave(await side.begun("/finish-cut/work", "finish-cut", "A", 6))
    answer = await side.post("/finish-cut/work", "finish-cut", {"message": "B"})
    one, two = await side.executions("finish-cut")
    require(answer.status_code == 200, "the next one failed", answer)
    require(0.9 < one["gone"] - left < 2, "A's connection was not closed after 1 s", one, left)
    require(two["start"] > one["gone"] - HEARING, "B began before A was cut", one, two)
    await abandoned(side, "finish-cut", "cut")
    return f"closed {one['gone'] - left:.2f} s after the client had gone, the next turn {two['start'] - one['gone']:.3f} s later"


async def cancelled_work_is_cut_at_once(side: Side) -> str:
    left = await leave(await side.begun("/cancel/work", "cancel", "A", 4))
    answer = await side.post("/cancel/work", "cancel", {"message": "B"})
    one, two = await side.executions("cancel")
    require(answer.status_code == 200, "the next one failed", answer)
    require(one["gone"] - left < 1, "the agent saw no closed connection within 1 s", one, left)
    require(one["gone"] - HEARING < two["start"] < left + 1, "B did not begin then", one, two)
    await abandoned(side, "cancel", "cancelled")
    return f"closed {one['gone'] - left:.3f} s after the client had gone, the next turn {two['start'] - one['gone']:.3f} s later"


async def a_stream_whose_client_has_gone_is_cut_at_once(side: Side) -> str:
    """`auto` finishes before the response head, and cancels once the body streams."""
    body = {"message": "A", "seconds": 6}
    url, headers = f"http://{side.base}/auto-stream/stream", {"X-Session-Id": "auto"}
    async with side.client.stream("POST", url, json=body, headers=headers) as answer:
        async for piece in answer.aiter_raw():
            break
        left = now()
    answer = await side.post("/auto-stream/work", "auto", {"message": "B"})
    one, two = await side.executions("auto")
    require(answer.status_code == 200 and piece.startswith(b"data: "), "the next one failed", answer, piece)
    require(one["gone"] - left < 1, "the agent saw no closed connection within 1 s", one, left)
    require(one["gone"] - HEARING < two["start"] < left + 1, "B did not begin then", one, two)
    await abandoned(side, "auto-stream", "cancelled")
    return f"closed {one['gone'] - left:.3f} s after the client had gone, the next turn {two['start'] - one['gone']:.3f} s later"


# Calls within calls. One place for all of them: see NESTED.


def chain(session: str, depth: int) -> list[dict]:
    """Calls of one session, each made by the one before."""
    return [{"message": f"depth {depth}", "session": session, "inner": chain(session, depth - 1)}] if depth else []


def token(call: dict) -> str:
    """The one that came with a call."""
    require(len(call["turns"]) == 1, "not one token came with it", call)
    return call["turns"][0]


def flat(answer: dict) -> list[tuple[int, dict]]:
    """Status and answer of every call within an answer, those further out first."""
    inner = [(call["status"], call["answer"]) for call in answer.get("inner", [])]
    return inner + [found for _, deeper in inner for found in flat(deeper)]


async def an_agent_calls_itself_within_its_turn(side: Side) -> str:
    side_by_side = [{"message": f"beside {place}", "session": "self", "seconds": 0.5} for place in range(3)]
    elsewhere = [{"message": "elsewhere", "session": "another", "seconds": 0.1}]
    body = {"message": "outer", "inner": chain("self", 3) + side_by_side + elsewhere}
    began = now()
    outer = asyncio.create_task(side.post("/nested/call", "self", body))
    await side.until("self", "outer", "start")
    waits = side.begin("/nested/work", "self", "other", 0.1)
    answer = await outer
    took = now() - began
    require(answer.status_code == 200, "the outer call failed", answer)
    inner = flat(answer.json())
    require([status for status, _ in inner] == [200] * 7, "not all 7 calls within it succeeded", answer)
    require(took < 5, f"it took {took:.1f} s")
    beside = [call for call in await side.executions("self") if call["message"].startswith("beside")]
    require(max(c["start"] for c in beside) < min(c["end"] for c in beside), "those side by side waited for one another", beside)
    require((await waits).status_code == 200, "a request from outside failed", await waits)
    other, whole = await side.until("self", "other", "start"), await side.until("self", "outer", "end")
    require(other["start"] >= whole["end"], "a request from outside began within the turn", other, whole)
    return f"7 calls within one turn, with one place, in {took:.2f} s"


async def the_fifth_call_within_calls_is_refused(side: Side) -> str:
    answer = await side.post("/nested/call", "deep", {"message": "outer", "inner": chain("deep", 5)})
    require(answer.status_code == 200, "the outer call failed", answer)
    inner = flat(answer.json())
    require([status for status, _ in inner] == [200] * 4 + [409], "not four and a refusal", answer)
    require(inner[-1][1].get("reason") == "session_busy", "refused for another reason", inner[-1])
    executed = [call["message"] for call in await side.executions("deep")]
    require(executed == ["outer", "depth 5", "depth 4", "depth 3", "depth 2"], "executed otherwise", executed)
    return "four deep succeeded, the fifth got 409 session_busy"


async def a_turn_lasts_until_what_is_nested_in_it_has_ended(side: Side) -> str:
    outer = await side.begun("/nested/work", "lasting", "outer", 1)
    running = token(await side.until("lasting", "outer", "start"))
    inner = await side.begun("/nested/work", "lasting", "inner", 2, Turnwise_Turn=running)
    require((await outer).status_code == 200, "the outer call failed", await outer)
    after = await side.post("/nested/work", "lasting", {"message": "after"})
    require((await inner).status_code == after.status_code == 200, "a call failed", await inner, after)
    nested, next_one = await side.until("lasting", "inner", "end"), await side.until("lasting", "after", "start")
    require(nested["start"] < (await side.until("lasting", "outer", "end"))["end"], "the nested one waited", nested)
    require(next_one["start"] >= nested["end"], "the next turn began before", nested, next_one)
    return f"the next turn began {next_one['start'] - nested['end']:.3f} s after the nested call"


async def a_token_that_is_not_of_a_running_turn_is_ignored(side: Side) -> str:
    await side.post("/nested/work", "forged", {"message": "earlier"})
    stale = token(await side.until("forged", "earlier", "end"))
    outer = await side.begun("/nested/work", "forged", "outer", 1.5)
    valid = token(await side.until("forged", "outer", "start"))
    require(len(valid) >= 16 and valid != stale, "the tokens can be guessed", valid, stale)
    tokens = {"stale": stale, "made up": "0" * len(valid), "nearly": valid[:-1] + ("0" if valid[-1] != "0" else "1"), "long": "x" * 5000}
    waiting = [side.begin("/nested/work", "forged", name, 0.1, Turnwise_Turn=value) for name, value in tokens.items()]
    answers = await asyncio.gather(outer, *waiting)
    require([answer.status_code for answer in answers] == [200] * 5, "a call failed", *answers)
    end = (await side.until("forged", "outer", "end"))["end"]
    for name, value in tokens.items():
        [call] = await side.executions("forged", name)
        require(call["start"] >= end, f"the token `{name}` let it into the turn", call)
        require(token(call) != value, f"the token `{name}` came through", call)
    return f"{', '.join(tokens)}: waited, and got a token of their own"


async def a_nested_call_does_not_wait_for_one_that_waits_for_its_place(side: Side) -> str:
    """The other session's request has its turn, and waits for the only place, which the nested call's parent holds."""
    body = {"message": "outer", "seconds": 1, "inner": [{"message": "inner", "session": "placeless"}]}
    began = now()
    outer = asyncio.create_task(side.post("/nested/call", "placed", body))
    await side.until("placed", "outer", "start")
    waits = side.begin("/nested/work", "placeless", "waits", 0.1)
    answer, other = await asyncio.gather(outer, waits)
    took = now() - began
    require(answer.status_code == other.status_code == 200, "a call failed", answer, other)
    require(took < 5, f"it took {took:.1f} s", answer)
    [(status, inner)] = flat(answer.json())
    require(status == 200 or (status, inner.get("reason")) == (409, "turn_deadlock"), "the nested call ended otherwise", answer)
    return f"the nested call got {status}, all ended within {took:.1f} s"


NESTED_CLAIMS = [
    an_agent_calls_itself_within_its_turn,
    the_fifth_call_within_calls_is_refused,
    a_turn_lasts_until_what_is_nested_in_it_has_ended,
    a_token_that_is_not_of_a_running_turn_is_ignored,
    a_nested_call_does_not_wait_for_one_that_waits_for_its_place,
]


async def of_two_turns_that_call_each_other_one_is_told(side: Side) -> str:
    def body(name: str, other: str) -> dict:
        return {"message": name, "seconds": 0.7, "inner": [{"message": f"{name} calls {other}", "session": other}]}

    began = now()
    answers = await asyncio.gather(
        side.post("/crossing/call", "left", body("left", "right")), side.post("/crossing/call", "right", body("right", "left"))
    )
    took = now() - began
    require([answer.status_code for answer in answers] == [200, 200], "an outer call failed", *answers)
    inner = sorted((status, answer.get("reason")) for outer in answers for status, answer in flat(outer.json()))
    require(inner == [(200, None), (409, "turn_deadlock")], "not one success and one refusal", *answers)
    require(took < 5, f"it took {took:.1f} s")
    return f"one got 409 turn_deadlock, the other its answer, after {took:.1f} s"


async def no_clients_token_reaches_the_agent(side: Side) -> str:
    for route in ("plain", "crossing", "browser"):
        session = f"unforwarded-{route}"
        named = {"X-Session-Id": session, "Turnwise-Turn": "forged", "Turnwise_Turn": "forged"}
        answer = await side.client.post(f"http://{side.base}/{route}/work", json={"message": "A"}, headers=named)
        require(answer.status_code == 200, "the call failed", answer)
        [call] = await side.executions(session)
        require("forged" not in call["turns"], f"route {route} forwarded it", call)
    return "neither on a route with turns, with re-entrant turns, nor on an exempt one, in either spelling"


# While it waits.


class Heard:
    """A body as it came, with the time of each line since the request was sent."""

    def __init__(self) -> None:
        self.status = 0
        self.head_after = 0.0
        self.headers: httpx.Headers | None = None
        self.lines: list[tuple[float, str]] = []
        self.text = ""

    @property
    def comments(self) -> list[tuple[float, str]]:
        return [(after, line) for after, line in self.lines if line.startswith(":")]

    @property
    def rest(self) -> str:
        """What is left of the body when the comments and the blank lines that end them are taken away."""
        return re.sub(r"^(:[^\n]*\n\n?)*", "", self.text)

    def error(self) -> dict:
        """The data of the one event that was sent, which has to be an error."""
        match = re.fullmatch(r"event: ?error\ndata: ?(\{.*\})\n\n", self.rest)
        require(bool(match), "not one event: error", self.text)
        return json.loads(match[1])

    def early(self, status: int = 200) -> None:
        require(self.status == status, f"not a {status}", self.status, self.text)
        require(0.8 < self.head_after < 2, f"the head came after {self.head_after:.2f} s, not about 1")
        kind = self.headers.get("content-type", "")
        require(kind.split(";")[0] == "text/event-stream", "not an event stream", kind)
        require(bool(self.comments) and self.comments[0][0] < self.head_after + 0.5, "no comment with the head", self.text)


async def hear(side: Side, path: str, session: str, body: dict, accept: str = "text/event-stream") -> Heard:
    heard = Heard()
    sent = now()
    headers = {"X-Session-Id": session, "Accept": accept}
    async with side.client.stream("POST", f"http://{side.base}{path}", json=body, headers=headers) as answer:
        heard.status, heard.headers, heard.head_after = answer.status_code, answer.headers, now() - sent
        async for line in answer.aiter_lines():
            heard.lines.append((now() - sent, line))
            heard.text += line + "\n"
    return heard


async def those_that_wait_hear_their_position_every_ten_seconds(side: Side) -> str:
    first = await side.begun("/comments/work", "positions", "A", 23)
    one = asyncio.create_task(hear(side, "/comments/stream", "positions", {"message": "B", "seconds": 1}))
    await side.until_one_waits("positions")
    two = asyncio.create_task(hear(side, "/comments/stream", "positions", {"message": "C", "seconds": 1}))
    one, two = await asyncio.gather(one, two)
    require((await first).status_code == 200, "the first failed", await first)
    for heard, position in ((one, 1), (two, 2)):
        heard.early()
        comments = [comment for comment in heard.comments if comment[0] < 22.5]
        require(all(line == f": waiting, position {position}" for _, line in comments), "another position", comments)
        require(len(comments) == 3, "not three comments in 23 s", heard.comments)
        gaps = [later - sooner for (sooner, _), (later, _) in zip(comments, comments[1:])]
        require(all(9 < gap < 11 for gap in gaps), "not every 10 s", heard.comments)
        message = "B" if heard is one else "C"
        [call] = await side.executions("positions", message)
        sent = "".join(f'data: {{"piece": {place}, "number": {call["number"]}}}\n\n' for place in range(10))
        require(heard.rest == sent, "the upstream's stream did not follow as it was", heard.text)
    executed = [call["message"] for call in await side.executions("positions")]
    require(executed == ["A", "B", "C"], "executed in another order", executed)
    return f"head after {one.head_after:.2f} s, comments at {', '.join(f'{after:.1f}' for after, _ in one.comments)} s"


async def a_refusal_after_the_head_comes_as_an_event(side: Side) -> str:
    first = await side.begun("/impatient/work", "impatient", "A", 6)
    heard = await hear(side, "/impatient/stream", "impatient", {"message": "B"})
    heard.early()
    told = heard.lines[-1][0]
    error = heard.error()
    require(error.get("reason") == "session_queue_timeout" and error.get("status") == 429, "another problem", heard.text)
    require(error.get("type") == "urn:turnwise:problem:session_queue_timeout", "another type", error)
    require(2.5 < told < 4.5, f"it came after {told:.1f} s, not 3")
    require((await first).status_code == 200 and not await side.executions("impatient", "B"), "A failed or B was executed")
    return f"after {told:.1f} s: {heard.rest.strip()!r}"


async def an_answer_that_is_no_stream_comes_as_an_event(side: Side) -> str:
    first = await side.begun("/comments/work", "no-stream", "A", 3)
    heard = await hear(side, "/comments/work", "no-stream", {"message": "B", "status": 500})
    heard.early()
    error = heard.error()
    body = error.get("body")
    body = json.loads(body) if isinstance(body, str) else body
    require(error.get("status") == 500 and body.get("message") == "B", "another answer", heard.text)
    require((await first).status_code == 200, "the first failed", await first)
    return f"{heard.rest.strip()!r}"


async def who_accepts_no_events_or_waits_less_than_a_second_gets_the_true_status(side: Side) -> str:
    first = await side.begun("/comments/work", "no-comments", "A", 3)
    waits = asyncio.create_task(hear(side, "/comments/work", "no-comments", {"message": "B", "status": 500}, "application/json"))
    short = await side.begun("/comments/work", "no-comments-short", "A", 0.4)
    soon = await hear(side, "/comments/work", "no-comments-short", {"message": "B", "status": 500})
    late = await waits
    require((await first).status_code == (await short).status_code == 200, "a first one failed")
    require(late.status == 500 and late.head_after > 2 and not late.comments, "it heard comments", late.status, late.text)
    require(soon.status == 500 and not soon.comments, "it heard comments", soon.status, soon.text)
    return f"500 after {late.head_after:.1f} s and after {soon.head_after:.1f} s"


async def an_sdk_that_waits_for_more_than_a_minute_streams_as_if_nothing_had_happened(side: Side) -> str:
    async def with_one(kit: type) -> str:
        session = f"long-{kit.name}"
        first = await side.begun("/comments/work", session, "A", LONG)
        sdk = kit(side, "comments")
        sent = now()
        said = [word async for word in sdk.stream(session, "B", 1, Accept="text/event-stream")]
        took = now() - sent
        require("".join(said) == "I have read B" and len(said) == 4, "other words came", said)
        require(took > 60, f"it waited for {took:.1f} s only")
        require(0.8 < sdk.head_after < 3, f"the head came after {sdk.head_after:.1f} s, not about 1")
        require((await first).status_code == 200, "the first failed", await first)
        executed = await side.executions(session)
        require(sdk.attempts == 1 and len(executed) == 2, f"sent {sdk.attempts} times", executed)
        require(executed[1]["start"] >= executed[0]["end"], "it began before the end of the first", executed)
        return f"{kit.name} the head after {sdk.head_after:.1f} s, {len(said)} words after {took:.1f} s"

    return ", ".join(await asyncio.gather(*(with_one(kit) for kit in SDKS)))


async def browse(side: Side, name: str, source: str) -> dict:
    """Lets a browser listen to an event source, and says what it has seen."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        url = httpx.URL(f"http://{side.base}/browser/page", params={"name": name, "source": source})
        log = pathlib.Path(folder) / "browser.log"
        browser = start(chromium(folder, "--remote-debugging-port=0", str(url)), log)

        async def told() -> dict | None:
            require(browser.poll() is None, "the browser has ended")
            return (await side.judge("/results")).get(name)

        try:
            return await soon_beside("the browser tells what it has seen", told, LONG + 30, 0.2)
        except Failed as failed:
            raise Failed(f"{failed} | {log.read_text()[-2000:]}") from None
        finally:
            await asyncio.to_thread(stop, browser)


async def a_browser_that_waits_for_more_than_a_minute_keeps_its_one_connection(side: Side) -> str:
    # A browser takes a while to start.
    body = json.dumps({"message": "A", "seconds": LONG + 8}).encode()
    first = asyncio.create_task(side.post("/listening/work?session=browser", "", body))
    await side.until("browser", "A", "start")
    seen = await browse(side, "long", "/listening/events?session=browser&message=B")
    require(seen["messages"] == ["B 0", "B 1", "B 2"], "other messages came", seen)
    require(seen["opened"] == 1 and not seen["errors"], "it connected again", seen)
    opened, ended = (seen["milliseconds"][moment] / 1000 for moment in ("open", "end"))
    require(0.8 < opened < 3 and ended > 60, f"open after {opened:.1f} s, the end after {ended:.1f} s", seen)
    require((await first).status_code == 200, "the first failed", await first)
    executed = await side.executions("browser")
    require([call["message"] for call in executed] == ["A", "B"], "executed otherwise than A, B", executed)
    counted = await side.counted(2, "turnwise_requests_total", route="listening")
    require(counted == 2, f"{counted} requests counted, not 2")
    return f"open after {opened:.1f} s, {len(seen['messages'])} messages and the end after {ended:.1f} s, no error"


async def a_browser_reads_a_refusal_as_an_error_with_data(side: Side) -> str:
    body = json.dumps({"message": "A", "seconds": 9}).encode()
    first = asyncio.create_task(side.post("/impatient/work?session=told", "", body))
    await side.until("told", "A", "start")
    seen = await browse(side, "told", "/impatient/events?session=told&message=B")
    require(seen["opened"] == 1 and len(seen["errors"]) == 1 and seen["errors"][0], "no error with data", seen)
    error = json.loads(seen["errors"][0])
    require(error.get("reason") == "session_queue_timeout", "another reason", seen)
    require((await first).status_code == 200, "the first failed", await first)
    return f"{error['reason']} after {seen['milliseconds']['end'] / 1000:.1f} s"


# Equal requests.

JOINED = "turnwise-joined"
# These are of one answer on one connection, or the body tells them; all others are the agent's.
OWN = {"date", "connection", "content-length", "transfer-encoding", "x-request-id", "server-timing", "via", JOINED}


def same(answers: list[httpx.Response]) -> None:
    def essence(answer: httpx.Response) -> tuple:
        return answer.status_code, sorted(item for item in answer.headers.multi_items() if item[0] not in OWN), answer.content

    require(all(essence(answer) == essence(answers[0]) for answer in answers), "the answers differ", *answers)


def joined(answer: httpx.Response) -> bool:
    value = answer.headers.get(JOINED)
    require(value in (None, "true"), "a Turnwise-Joined of its own kind", answer)
    return value == "true"


async def equal_requests_are_executed_once(side: Side) -> str:
    body = {"message": "A", "seconds": 1}
    answers = await asyncio.gather(*(side.post("/join/work", "equal", body) for _ in range(5)))
    require(answers[0].status_code == 200, "the call failed", answers[0])
    same(answers)
    require(sum(joined(answer) for answer in answers) == 4, "not four joined", *answers)
    counts = {"A": len(await side.executions("equal", "A"))}
    other = json.dumps({**body, "message": "B", "seconds": 0}).encode()
    others = await asyncio.gather(*(side.post("/join/work", "equal", content) for content in (other, other[:-1] + b" }")))
    require([joined(answer) for answer in others] == [False, False], "one octet more was taken for equal", *others)
    counts["B"] = len(await side.executions("equal", "B"))
    elsewhere = await side.post("/join/work", "equal-elsewhere", body)
    counts["elsewhere"] = len(await side.executions("equal-elsewhere"))
    require(not joined(elsewhere), "another session was joined", elsewhere)
    require(counts == {"A": 1, "B": 2, "elsewhere": 1}, "executed otherwise", counts)
    counted = await side.count("turnwise_joined_total", route="join")
    require(counted >= 4, f"{counted} counted as joined")
    return f"five answers of number {answers[0].json()['number']}, four of them joined; executed {counts}"


async def a_key_makes_requests_equal(side: Side) -> str:
    body = {"message": "A", "seconds": 1}
    spelt = ("k-1", '"k-1"', "k-1")
    answers = await asyncio.gather(*(side.post("/join/work", "keyed", body, Idempotency_Key=key) for key in spelt))
    same(answers)
    require(sum(joined(answer) for answer in answers) == 2, "quoted and unquoted are not one key", *answers)
    mismatch = await side.post("/join/work", "keyed", {**body, "message": "B"}, Idempotency_Key="k-1")
    problem(mismatch, 422, "idempotency_mismatch", repeat=False)
    another = await side.post("/join/work", "keyed", {**body, "seconds": 0}, Idempotency_Key="k-2")
    unkeyed = await side.post("/join/work", "keyed", body)
    require(not joined(another) and not joined(unkeyed), "another key, or none, was joined", another, unkeyed)
    executed = [call["message"] for call in await side.executions("keyed")]
    require(executed == ["A", "A", "A"], "executed otherwise than with k-1, k-2 and no key", executed)
    return "k-1, quoted and not, executed once; another body 422; another key and none on their own"


async def who_asks_for_another_gets_an_answer_of_its_own(side: Side) -> str:
    body = {"message": "A", "seconds": 0.5}
    persons = [{"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}, {"Cookie": "a=b"}, {"X_Api_Key": "k"}, {}]
    for key in ({}, {"Idempotency_Key": "same"}):
        session = f"persons-{len(key)}"
        answers = await asyncio.gather(*(side.post("/join/work", session, body, **person, **key) for person in persons))
        require(not any(joined(answer) for answer in answers), "an answer was shared", *answers)
        numbers = {answer.json()["number"] for answer in answers}
        executed = await side.executions(session)
        require(len(numbers) == len(executed) == len(persons), "not executed for each", numbers, executed)
    return f"{len(persons)} askers, {len(numbers)} answers, with one key and with none"


async def who_joins_a_stream_gets_it_from_its_start(side: Side) -> str:
    body = {"message": "A", "seconds": 2}

    async def listen(times: list[float]) -> tuple[httpx.Response, list[float]]:
        content = b""
        url, headers = f"http://{side.base}/join/stream", {"X-Session-Id": "midway"}
        async with side.client.stream("POST", url, json=body, headers=headers) as answer:
            async for piece in answer.aiter_raw():
                content += piece
                times.append(now())
        return httpx.Response(answer.status_code, headers=answer.headers, content=content, request=answer.request), times

    pieces: list[float] = []

    async def midway() -> bool:
        return len(pieces) >= 5

    first = asyncio.create_task(listen(pieces))
    await soon_beside("half of the stream has come", midway)
    began = now()
    second, times = await listen([])
    leader, _ = await first
    third, _ = await listen([])
    same([leader, second, third])
    require(second.text.count("data: ") == 10, "not every piece came", second)
    require([joined(answer) for answer in (leader, second, third)] == [False, True, True], "joined otherwise", leader, second)
    require(times[0] - began < 0.5 and times[-1] - began > 0.5, "it did not come as it was made", times, began)
    executed = await side.executions("midway")
    require(len(executed) == 1, "executed more than once", executed)
    return f"all {len(second.content)} octets, of which the first {times[0] - began:.2f} s after it had joined midway; replayed whole"


async def those_who_joined_are_served_when_the_first_has_gone(side: Side) -> str:
    first = await side.begun("/join/work", "orphans", "A", 2)
    others = [side.begin("/join/work", "orphans", "A", 2) for _ in range(2)]
    await side.until_known("orphans", 2, "have joined", lambda one: one["joined_to"])
    await leave(first)
    answers = await asyncio.gather(*others)
    same(answers)
    executed = await side.executions("orphans")
    require(answers[0].status_code == 200 and len(executed) == 1, "not served by the one execution", *answers, executed)
    require(executed[0]["gone"] == NEVER, "the agent's connection was closed", executed)
    return "two got the answer of the one execution"


async def what_an_sdk_repeats_for_want_of_patience_is_executed_once(side: Side) -> str:
    """Its first attempt times out while the agent works on; the next one joins that work."""

    async def with_one(kit: type) -> str:
        session = f"impatience-{kit.name}"
        sdk = kit(side, "join", timeout=1)
        said = await sdk.ask(session, "A", 1.9)
        executed = await side.executions(session)
        require(said == "I have read A" and sdk.attempts == 2, f"not answered at the second of {sdk.attempts} attempts", said)
        require(len(executed) == 1 and not executed[0]["stopped"], "executed more than once, or stopped", executed)
        return f"{kit.name} got the answer of one execution at attempt {sdk.attempts}"

    return ", ".join(await asyncio.gather(*(with_one(kit) for kit in SDKS)))


async def an_answer_that_nobody_waited_for_is_given_to_the_next_attempt(side: Side) -> str:
    """The work was finished for a client that had gone; its next attempt is not to do it again."""
    await leave(await side.begun("/join/work", "unheard", "A", 1))
    await side.until("unheard", "A", "end")
    # The gateway comes to the end of the answer a little later than the agent.
    await side.until_known("unheard", 0, "are left", lambda one: True)
    again = await side.post("/join/work", "unheard", {"message": "A", "seconds": 1})
    executed = await side.executions("unheard")
    require(again.status_code == 200 and joined(again) and len(executed) == 1, "executed again", again, executed)
    return f"the next attempt got the answer of number {again.json()['number']}, executed once"


async def an_answer_is_given_again_for_a_while(side: Side) -> str:
    async def with_one(status: int) -> str:
        session = f"replay-{status}"
        body = {"message": "A", "status": status}
        first = await side.post("/join/work", session, body)
        ended = now()
        again = await side.post("/join/work", session, body)
        await asyncio.sleep(7)
        late = await side.post("/join/work", session, body)
        same([first, again, late])
        require(first.status_code == status, f"not a {status}", first)
        require([joined(answer) for answer in (first, again, late)] == [False, True, True], "not replayed", first, again, late)
        executed = await side.executions(session)
        require(len(executed) == 1, "executed again", executed)
        await asyncio.sleep(max(0.0, ended + 11 - now()))
        after = await side.post("/join/work", session, body)
        require(not joined(after) and len(await side.executions(session)) == 2, "still replayed after 11 s", after)
        return f"a {status} at once and after 7 s, not after 11 s"

    return "; ".join(await asyncio.gather(*(with_one(status) for status in (200, 500))))


CLAIMS = [
    an_interrupted_call_is_not_repeated_by_its_sdk,
    an_interrupted_stream_is_not_taken_for_a_whole_one,
    a_rejected_call_is_not_repeated_by_its_sdk,
    the_newest_takes_the_place_of_those_that_wait,
    a_request_chooses_among_the_choices_only,
    after_a_client_has_gone_the_next_turn_begins_when_the_work_has_ended,
    after_a_504_the_next_turn_begins_when_the_work_has_ended,
    abandoned_work_is_cut_at_its_limit,
    cancelled_work_is_cut_at_once,
    a_stream_whose_client_has_gone_is_cut_at_once,
    of_two_turns_that_call_each_other_one_is_told,
    no_clients_token_reaches_the_agent,
    those_that_wait_hear_their_position_every_ten_seconds,
    a_refusal_after_the_head_comes_as_an_event,
    an_answer_that_is_no_stream_comes_as_an_event,
    who_accepts_no_events_or_waits_less_than_a_second_gets_the_true_status,
    a_browser_reads_a_refusal_as_an_error_with_data,
    equal_requests_are_executed_once,
    a_key_makes_requests_equal,
    who_asks_for_another_gets_an_answer_of_its_own,
    who_joins_a_stream_gets_it_from_its_start,
    those_who_joined_are_served_when_the_first_has_gone,
    what_an_sdk_repeats_for_want_of_patience_is_executed_once,
    an_answer_that_nobody_waited_for_is_given_to_the_next_attempt,
    an_answer_is_given_again_for_a_while,
]
LONG_CLAIMS = [
    an_sdk_that_waits_for_more_than_a_minute_streams_as_if_nothing_had_happened,
    a_browser_that_waits_for_more_than_a_minute_keeps_its_one_connection,
]

Claim = typing.Callable[[Side], typing.Awaitable[str]]


async def show(claim: Claim, side: Side) -> bool:
    """Whether a claim holds."""
    name, began = claim.__name__.replace("_", " "), now()
    try:
        seen = await asyncio.wait_for(claim(side), 110)
    except Exception as error:
        print(f"FAIL {now() - began:3.0f} s  {name}: {error if isinstance(error, Failed) else shown(error) or type(error).__name__}", flush=True)
        return False
    print(f"ok   {now() - began:3.0f} s  {name}: {seen}", flush=True)
    return True


async def show_all(sides: dict[str, Side], wanted: str) -> int:
    """How many claims do not hold. Those that wait for long run beside the others."""

    async def some(claims: list[Claim], side: Side, at_once: int) -> list[bool]:
        # Not all at once: the times that they look at are not to be those of a busy machine.
        places = asyncio.Semaphore(at_once)

        async def one(claim: Claim) -> bool:
            async with places:
                return await show(claim, side)

        return await asyncio.gather(*(one(claim) for claim in claims if wanted in claim.__name__))

    shown = [some(DIRECT, sides["direct"], 1)]
    if "gateway" in sides:
        shown.append(some(LONG_CLAIMS, sides["gateway"], len(LONG_CLAIMS)))
        shown.append(some(CLAIMS, sides["gateway"], 4))
        # They share the one place.
        shown.append(some(NESTED_CLAIMS, sides["nested"], 1))
    try:
        held = [one for several in await asyncio.gather(*shown) for one in several]
    finally:
        for side in sides.values():
            await side.close()
    if not held:
        sys.exit(f"no claim is named {wanted}")
    return held.count(False)


def end(gateway: subprocess.Popen) -> tuple[int, float]:
    """Its exit code, and how long its drain took."""
    began = now()
    return stop(gateway), now() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gateway", type=lambda path: str(pathlib.Path(path).resolve()), help="the turnwise binary")
    what.add_argument("--direct", action="store_true", help="only what needs no gateway")
    parser.add_argument("--claims", default="", help="only the claims with this in their names")
    options = parser.parse_args()
    agent = free_address()
    sides = {"direct": Side(agent, agent, None)}
    broken, ends = 0, {}
    began = now()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        folder = pathlib.Path(name)
        server = start_application("conversing:app", agent, folder / "agent.log")
        running.callback(stop, server)
        wait_for(f"http://{agent}/health", server, folder / "agent.log")
        for title, policy in {"gateway": POLICY, "nested": NESTED}.items() if options.gateway else ():
            public, admin = free_address(), free_address()
            file, log = folder / f"{title}.yaml", folder / f"{title}.log"
            file.write_text(policy.format(public=public, admin=admin, agent=agent, header="[{ header: X-Session-Id }]"))
            gateway = start([options.gateway, "serve", "-c", file], log)
            running.callback(lambda title=title, gateway=gateway: ends.update({title: end(gateway)}))
            wait_for(f"http://{admin}/-/ready", gateway, log)
            sides[title] = Side(public, agent, admin)
        broken = asyncio.run(show_all(sides, options.claims))
        running.close()
        bad = {title: how for title, how in ends.items() if how[0] or how[1] > 10}
        unclean = [f"{title} ended with {code} after {took:.0f} s" for title, (code, took) in bad.items()]
        if broken or unclean:
            for title in [*ends, "agent"]:
                print(f"--- {title}\n{(folder / f'{title}.log').read_text()[-3000:]}")
    if unclean:
        print(f"a gateway with nothing left to do did not end at once: {', '.join(unclean)}")
    print(f"{broken} claims do not hold, after {now() - began:.0f} s" if broken else f"all held, after {now() - began:.0f} s")
    return 1 if broken or unclean else 0


if __name__ == "__main__":
    sys.exit(main())
