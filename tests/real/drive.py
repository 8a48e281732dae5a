"""Drives the real agent with 5, 10 and 100 clients at once, first directly and then through Turnwise.

Each client has a conversation of its own and sends its next message as soon as the agent has begun with the one before,
not when it has answered: that is what impatient people and retrying programs do, and the order of arrival is known. The
judge is the agent's own record. Exit code 1 when the gateway's side lost anything, or when the direct side lost nothing
(then this would show nothing).

    python tests/real/drive.py --gateway target/release/turnwise --policy gateway.yaml
"""

import argparse
import asyncio
import pathlib
import sys
import tempfile
import time

import httpx

from claims import soon_beside
from processes import free_address, start, start_application, stop, wait_for

HERE = pathlib.Path(__file__).parent
CLIENTS = (5, 10, 100)
TURNS = 5


async def say(client: httpx.AsyncClient, session: str, message: str) -> str | None:
    """Sends one message; says what went wrong."""
    body = {"message_content": message, "session_name": session}
    try:
        answer = await client.post("/api/v1/agent/simple_agent/run", json=body)
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if answer.status_code == 200 else str(answer.status_code)


async def converse(client: httpx.AsyncClient, judge: httpx.AsyncClient, session: str) -> list[str | None]:
    """Five messages of one conversation, each on a connection of its own."""
    pending = []
    for turn in range(TURNS):
        answer = asyncio.create_task(say(client, session, f"message {turn}"))
        pending.append(answer)
        begun = asyncio.create_task(judge.get(f"/begun/{session}", params={"turns": turn + 1}))
        await asyncio.wait([answer, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
    return await asyncio.gather(*pending)


async def drive(base: str, agent: str, clients: int) -> dict:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=agent, timeout=300, limits=limits) as judge:
        await judge.post("/reset")
        sessions = [f"conversation-{clients}-{number}" for number in range(clients)]
        async with httpx.AsyncClient(base_url=base, timeout=300, limits=limits) as client:
            began = time.monotonic()
            outcomes = await asyncio.gather(*(converse(client, judge, session) for session in sessions))
            seconds = time.monotonic() - began

        async def idle() -> bool:
            return not (await judge.get("/health")).json()["processing"]

        # An agent works on for clients that have gone.
        await soon_beside("the agent has nothing left to do", idle, 60, 0.05)
        record = (await judge.get("/record")).json()
        peak = (await judge.get("/peak")).json()["peak"]
        expected = [f"message {turn}" for turn in range(TURNS)]
        intact = 0
        for session in sessions:
            kept = (await judge.get(f"/api/v1/sessions/{session}")).json()["messages"]
            intact += kept == expected and in_order(record.get(session, []), expected)
    problems = [problem for outcome in outcomes for problem in outcome if problem]
    return {
        "clients": clients,
        "requests": clients * TURNS,
        "failed": len(problems),
        "kinds": ", ".join(sorted(set(problems))) or "-",
        "conversations": clients,
        "intact": intact,
        "peak": peak,
        "seconds": seconds,
    }


def in_order(turns: list[dict], expected: list[str]) -> bool:
    """Whether the agent executed exactly these turns, in this order, one after another."""
    overlapping = any(before["end"] > after["start"] for before, after in zip(turns, turns[1:]))
    return [turn["message"] for turn in turns] == expected and not overlapping


def lost(row: dict) -> int:
    return row["failed"] + row["conversations"] - row["intact"]


def show(name: str, row: dict) -> None:
    success = 100 * (row["requests"] - row["failed"]) / row["requests"]
    print(
        f"{name:<10} {row['clients']:>7} {row['requests']:>8} {row['failed']:>6} {success:>8.1f}% "
        f"{row['intact']:>6} of {row['conversations']:<4} {row['peak']:>4} {row['seconds']:>7.1f}s  {row['kinds']}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", help="the turnwise binary; without it only the direct side is driven")
    parser.add_argument("--policy", type=pathlib.Path, default=HERE.parent.parent / "gateway.yaml")
    options = parser.parse_args()
    agent, public, admin = free_address(), free_address(), free_address()
    rows = {"direct": [], "turnwise": []}
    gateway_exit = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # The shipped policy as it is: its addresses come from the environment.
        addresses = {"AGENT_URL": f"http://{agent}", "TURNWISE_LISTEN": public, "TURNWISE_ADMIN_LISTEN": admin}
        server = start_application("agent:app", agent, folder / "agent.log")
        gateway = None
        try:
            wait_for(f"http://{agent}/health", server, folder / "agent.log")
            print(f"{'':<10} {'clients':>7} {'requests':>8} {'failed':>6} {'success':>9} {'intact':>6}    {'':<4} {'peak':>4} {'time':>8}")
            for clients in CLIENTS:
                rows["direct"].append(asyncio.run(drive(f"http://{agent}", f"http://{agent}", clients)))
                show("direct", rows["direct"][-1])
            if options.gateway:
                log = folder / "gateway.log"
                gateway = start([options.gateway, "serve", "-c", options.policy], log, **addresses)
                wait_for(f"http://{admin}/-/ready", gateway, log)
                for clients in CLIENTS:
                    rows["turnwise"].append(asyncio.run(drive(f"http://{public}", f"http://{agent}", clients)))
                    show("turnwise", rows["turnwise"][-1])
        finally:
            if gateway:
                gateway_exit = stop(gateway)
            stop(server)
        if gateway and (gateway_exit or any(lost(row) for row in rows["turnwise"])):
            print((folder / "gateway.log").read_text()[-4000:])
    broken = [row["clients"] for row in rows["turnwise"] if lost(row)]
    sound = [row["clients"] for row in rows["direct"] if not lost(row)]
    if broken:
        print(f"through the gateway something was lost with {broken} clients")
    if gateway_exit:
        print(f"the gateway ended with {gateway_exit}")
    if sound:
        print(f"directly nothing was lost with {sound} clients: this shows nothing")
    return 1 if broken or sound or gateway_exit else 0


if __name__ == "__main__":
    sys.exit(main())
