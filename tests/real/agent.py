"""A real agent API, as such APIs are: correct while its requests take turns, and broken when they do not.

It keeps one conversation per session. A turn reads the history, awaits its model, and writes the history back with the
new message: two turns of one session at once lose an update. More than three requests at once are more than its model
can take: they get a 500. It does not notice when a client hangs up, and finishes its work.

    uvicorn agent:app --app-dir tests/real --port 8000
"""

import asyncio
import time

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

MODEL_SECONDS = 0.05
AT_ONCE = 3

app = FastAPI(title="agent")
conversations: dict[str, list[str]] = {}
record: dict[str, list[dict]] = {}
begun = asyncio.Condition()
generation = 0
running = 0
peak = 0


class Run(BaseModel):
    message_content: str
    session_name: str


async def turn(request: Request, session: str, message: str):
    """One turn of a conversation; yields each word of the model's answer as it comes."""
    global running, peak
    running += 1
    peak = max(peak, running)
    entry = {"message": message, "start": time.time(), "end": None, "client_gone": False}
    try:
        if running > AT_ONCE:
            await asyncio.sleep(MODEL_SECONDS / 10)
            raise HTTPException(500, "the model is overloaded")
        record.setdefault(session, []).append(entry)
        async with begun:
            begun.notify_all()
        history = list(conversations.get(session, []))
        for word in ("I", "have", "read", f"{len(history)}", "messages"):
            await asyncio.sleep(MODEL_SECONDS / 5)
            yield word
        conversations[session] = history + [message]
        entry["client_gone"] = await request.is_disconnected()
    finally:
        entry["end"] = time.time()
        running -= 1


@app.post("/api/v1/agent/{name}/run")
async def run(name: str, body: Run, request: Request):
    words = [word async for word in turn(request, body.session_name, body.message_content)]
    return {
        "agent": name,
        "session_name": body.session_name,
        "message": " ".join(words),
        "history": len(conversations[body.session_name]),
    }


@app.post("/api/v1/agent/{name}/stream")
async def stream(name: str, body: Run, request: Request):
    async def events():
        async for word in turn(request, body.session_name, body.message_content):
            yield f"data: {word}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/api/v1/agents")
async def agents():
    return [{"name": "simple_agent"}]


@app.get("/api/v1/sessions")
async def sessions():
    return [{"session_name": name, "messages": len(history)} for name, history in conversations.items()]


@app.get("/api/v1/sessions/{name}")
async def session(name: str):
    return {"session_name": name, "messages": conversations.get(name, [])}


@app.get("/begun/{name}")
async def begun_turns(name: str, turns: int):
    """Answers when so many turns of a session have begun: who wants a known order sends the next one then."""
    asked = generation
    async with begun:
        await begun.wait_for(lambda: generation != asked or len(record.get(name, [])) >= turns)
    return {}


@app.get("/health")
async def health():
    return {"status": "healthy", "processing": running}


@app.get("/record")
async def recorded():
    """Every turn as it was executed, for whoever wants to judge."""
    return record


@app.get("/peak")
async def most_at_once():
    return {"peak": peak}


@app.post("/reset")
async def reset():
    global generation, peak
    conversations.clear()
    record.clear()
    peak = 0
    async with begun:
        generation += 1
        begun.notify_all()
    return {}
