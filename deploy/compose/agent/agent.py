"""A sample agent: a conversation for each session, a model that takes three requests at once, and 500 for more."""

import asyncio

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

MODEL_SECONDS = 0.5
AT_ONCE = 3

app = FastAPI(title="sample agent")
conversations: dict[str, list[str]] = {}
running = 0


class Run(BaseModel):
    message_content: str
    session_name: str


async def turn(session: str, message: str):
    """Reads the history, awaits the model word by word, writes the history back. Two at once lose a message."""
    global running
    if running >= AT_ONCE:
        raise HTTPException(500, "the model is overloaded")
    running += 1
    try:
        history = list(conversations.get(session, []))
        for word in ("I", "have", "read", str(len(history)), "messages"):
            await asyncio.sleep(MODEL_SECONDS / 5)
            yield word
        conversations[session] = history + [message]
    finally:
        running -= 1


@app.post("/api/v1/agent/{name}/run")
async def run(name: str, body: Run):
    words = [word async for word in turn(body.session_name, body.message_content)]
    return {"agent": name, "message": " ".join(words), "history": len(conversations[body.session_name])}


@app.post("/api/v1/agent/{name}/stream")
async def stream(name: str, body: Run):
    async def events():
        async for word in turn(body.session_name, body.message_content):
            yield f"data: {word}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/api/v1/sessions/{name}")
async def session(name: str):
    return {"session_name": name, "messages": conversations.get(name, [])}


@app.get("/health")
async def health():
    return {"status": "healthy", "processing": running}
