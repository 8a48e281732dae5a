"""A real agent API for conversations: as OpenAI's, as Anthropic's, as plain JSON, as event streams, and one that calls itself.

Every call is recorded as it was executed: when it began and ended, when its connection was closed and whether that
stopped it, and the `Turnwise-Turn` that came with it. Times are of the monotonic clock, which all processes share. The
first part of a path is free: a gateway takes it for the choice of a strategy, the agent only notes it.

    uvicorn conversing:app --app-dir tests/real --port 8000
"""

import asyncio
import contextlib
import json
import time
import typing

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI(title="conversing agent")
calls = APIRouter(prefix="/{strategy}")
record: list[dict] = []
results: dict[str, dict] = {}


class Message(BaseModel):
    role: str
    content: str


class Chat(BaseModel):
    """What OpenAI's and Anthropic's bodies have in common. `seconds` is this agent's own: how long its model thinks."""

    model: str
    messages: list[Message]
    stream: bool = False
    seconds: float = 0.1


class Work(BaseModel):
    message: str
    seconds: float = 0.1
    status: int = 200


class Call(BaseModel):
    """A call that makes other calls, all at once, when it has thought."""

    message: str
    seconds: float = 0.1
    session: str = ""
    inner: list["Call"] = []


class Executed:
    """A call while it is executed. `gone` is set when its connection is closed."""

    def __init__(self, strategy: str, request: Request, message: str):
        self.gone = asyncio.Event()
        self.entry = {
            "number": len(record),
            "strategy": strategy,
            "session": request.headers.get("x-session-id") or request.query_params.get("session", ""),
            "message": message,
            "start": time.monotonic(),
            "end": None,
            "gone": None,
            "stopped": False,
            "turns": request.headers.getlist("turnwise-turn") + request.headers.getlist("turnwise_turn"),
        }
        record.append(self.entry)

    async def watch(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.entry["gone"] = time.monotonic()
        self.gone.set()

    async def think(self, seconds: float) -> bool:
        """Thinks until it is done or nobody listens any more; says whether it was done."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except TimeoutError:
            return True
        self.entry["stopped"] = True
        return False


@contextlib.asynccontextmanager
async def executed(strategy: str, request: Request, message: str) -> typing.AsyncIterator[Executed]:
    call = Executed(strategy, request, message)
    watcher = asyncio.create_task(call.watch(request))
    try:
        yield call
    finally:
        watcher.cancel()
        call.entry["end"] = time.monotonic()


def words(message: str) -> list[str]:
    return ["I ", "have ", "read ", message]


def event(data: dict | str, name: str | None = None) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"


def stream(events: typing.AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream")


@calls.post("/v1/chat/completions")
async def chat_completions(strategy: str, body: Chat, request: Request):
    """Stops when nobody listens any more, as an inference server does."""
    message = body.messages[-1].content
    made = {"id": "chatcmpl-1", "created": int(time.time()), "model": body.model}

    def chunk(delta: dict, finish_reason: str | None) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return event({**made, "object": "chat.completion.chunk", "choices": choices})

    async def chunks():
        async with executed(strategy, request, message) as call:
            for word in words(message):
                if not await call.think(body.seconds / 4):
                    return
                yield chunk({"content": word}, None)
            yield chunk({}, "stop")
            yield event("[DONE]")

    if body.stream:
        return stream(chunks())
    async with executed(strategy, request, message) as call:
        if not await call.think(body.seconds):
            return Response(status_code=499)
    said = {"role": "assistant", "content": "".join(words(message))}
    return {**made, "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": said}]}


@calls.post("/v1/messages")
async def messages(strategy: str, body: Chat, request: Request):
    """Stops when nobody listens any more, as an inference server does."""
    message = body.messages[-1].content
    made = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.model, "stop_sequence": None}
    usage = {"input_tokens": 1, "output_tokens": 1}

    def named(data: dict) -> str:
        return event(data, data["type"])

    async def events():
        async with executed(strategy, request, message) as call:
            yield named({"type": "message_start", "message": {**made, "content": [], "stop_reason": None, "usage": usage}})
            yield named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            for word in words(message):
                if not await call.think(body.seconds / 4):
                    return
                yield named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
            yield named({"type": "content_block_stop", "index": 0})
            yield named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
            yield named({"type": "message_stop"})

    if body.stream:
        return stream(events())
    async with executed(strategy, request, message) as call:
        if not await call.think(body.seconds):
            return Response(status_code=499)
    content = [{"type": "text", "text": "".join(words(message))}]
    return {**made, "content": content, "stop_reason": "end_turn", "usage": usage}


@calls.post("/work")
async def work(strategy: str, body: Work, request: Request):
    """Works on when nobody listens any more, as most handlers do; the record only says when that was."""
    async with executed(strategy, request, body.message) as call:
        await asyncio.sleep(body.seconds)
    answer = {"message": body.message, "number": call.entry["number"]}
    return JSONResponse(answer, body.status, {"X-Number": str(call.entry["number"])})


@calls.post("/stream")
async def streamed(strategy: str, body: Work, request: Request):
    """Ten pieces over so many seconds; the framework ends it when a piece can't be written."""

    async def pieces():
        async with executed(strategy, request, body.message) as call:
            for place in range(10):
                yield event({"piece": place, "number": call.entry["number"]})
                await asyncio.sleep(body.seconds / 10)

    return stream(pieces())


@calls.get("/events")
async def events(strategy: str, message: str, request: Request):
    """For a browser: three messages, and a word that there are no more."""

    async def sent():
        async with executed(strategy, request, message):
            for place in range(3):
                yield event(f"{message} {place}")
                await asyncio.sleep(0.1)
            yield event("end", "done")

    return stream(sent())


@calls.post("/call")
async def call(strategy: str, body: Call, request: Request):
    """Calls its own API at the address that it was called at, and says who asks by the token that it was given."""
    token = {name: value for name, value in request.headers.items() if name == "turnwise-turn"}

    async def inner(client: httpx.AsyncClient, wanted: Call) -> dict:
        headers = {**token, "X-Session-Id": wanted.session}
        answer = await client.post(str(request.url), json=wanted.model_dump(), headers=headers)
        return {"status": answer.status_code, "answer": answer.json()}

    async with executed(strategy, request, body.message):
        await asyncio.sleep(body.seconds)
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            answers = await asyncio.gather(*(inner(client, wanted) for wanted in body.inner))
    return {"message": body.message, "inner": answers}


@calls.post("/conflict/{answer:path}")
async def conflict(strategy: str, request: Request):
    """A 409, with a word on repeating it or without."""
    async with executed(strategy, request, "conflict"):
        headers = {"X-Should-Retry": "false"} if strategy == "told" else {}
        return JSONResponse({"reason": "conflict"}, 409, headers)


PAGE = """<!doctype html>
<title>conversing</title>
<script>
const wanted = new URLSearchParams(location.search);
const seen = {opened: 0, messages: [], errors: [], milliseconds: {}};
const began = performance.now();
const source = new EventSource(wanted.get("source"));
function end() {
    source.close();
    seen.milliseconds.end = performance.now() - began;
    fetch("results/" + wanted.get("name"), {
        method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(seen)});
}
source.onopen = () => {
    seen.opened += 1;
    seen.milliseconds.open ??= performance.now() - began;
};
source.onmessage = (message) => seen.messages.push(message.data);
// The connection's own error has no data; one that was sent as an event has. After a 200 a browser connects again by
// itself, after any other status it gives up.
source.onerror = (error) => {
    seen.errors.push(error.data ?? null);
    if (error.data || seen.errors.length > 2 || source.readyState === EventSource.CLOSED) end();
};
source.addEventListener("done", end);
</script>
"""


@app.get("/browser/page")
async def page():
    return HTMLResponse(PAGE)


@app.post("/browser/results/{name}")
async def result(name: str, request: Request):
    results[name] = await request.json()
    return {}


@app.get("/results")
async def browser_results():
    return results


@app.get("/record")
async def recorded(session: str):
    return [call for call in record if call["session"] == session]


@app.get("/health")
async def health():
    return {"status": "healthy"}


app.include_router(calls)
