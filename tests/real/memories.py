"""A service that keeps memories, slowly: what background requests are for. A FastAPI application under uvicorn.

It takes 0.1 to 13 seconds for each memory (divided by `--speed`) and can do five at once: a sixth is answered 500, as
services do that were not made for it. It writes down what it was asked to do, and when it began and ended.

    python tests/real/memories.py --listen 127.0.0.1:8000 --speed 20
"""

import argparse
import asyncio
import random

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


def application(speed: float, at_once: int, seed: int, fast: bool) -> FastAPI:
    app = FastAPI()
    chance = random.Random(seed)
    state = {"now": 0, "most": 0, "refused": 0}
    began: list[tuple[str, str]] = []  # session and tag, in the order in which they began

    def seconds() -> float:
        if fast:
            return chance.uniform(0, 0.02)
        # Most are quick, some take very long: the square of an even spread.
        return (0.1 + 12.9 * chance.random() ** 4) / speed

    @app.get("/health")
    async def health() -> dict:
        return {"status": "healthy"}

    @app.get("/record")
    async def record() -> dict:
        return {"began": began, **state}

    @app.post("/memories")
    async def remember(request: Request) -> JSONResponse:
        memory = await request.json()
        if state["now"] >= at_once:
            state["refused"] += 1
            return JSONResponse({"error": "too many at once"}, status_code=500)
        state["now"] += 1
        state["most"] = max(state["most"], state["now"])
        began.append((memory["session"], memory["tag"]))
        try:
            await asyncio.sleep(seconds())
        finally:
            state["now"] -= 1
        return JSONResponse({"tag": memory["tag"], "key": request.headers.get("idempotency-key")}, status_code=201)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", required=True)
    parser.add_argument("--speed", type=float, default=1)
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="0 to 20 ms for each memory")
    given = parser.parse_args()
    host, port = given.listen.rsplit(":", 1)
    app = application(given.speed, given.at_once, given.seed, given.fast)
    uvicorn.run(app, host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
