"""A real agent with OpenTelemetry's own instrumentation behind the gateway, and a collector that reads both with its protocol's definitions.

One trace has to come out of two programs that know nothing of each other: the client's span, below it the gateway's, below that its try
at the server, below that the agent's. Exit code 1 when a span hangs elsewhere, or is not what it should be.

    python tests/real/traces.py --gateway target/release/turnwise
"""

import argparse
import asyncio
import os
import pathlib
import sys
import tempfile

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from claims import soon
from processes import free_address, start, start_application, stop, wait_for, wait_for_listener
from serving import Handler, Server

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}" }}
upstreams: {{ agents: {{ servers: ["http://{agent}"], concurrency: 2 }} }}
routes:
  - name: runs
    match: {{ path: "/api/v1/agent/{{agent}}/run", methods: [POST] }}
    session: {{ key: [{{ json: /session_name }}] }}
"""

AGENT = """\
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
from agent import app
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
"""

TURNS, SESSIONS = 4, 3


class Collector(Server):
    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        super().__init__(Taking)


class Taking(Handler):
    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.body())
        for of_resource in request.resource_spans:
            names = [it.value.string_value for it in of_resource.resource.attributes if it.key == "service.name"]
            for of_scope in of_resource.scope_spans:
                self.server.spans.extend((names[0], span) for span in of_scope.spans)
        self.answer(ExportTraceServiceResponse().SerializeToString(), kind="application/x-protobuf")


async def converse(base: str) -> dict[str, str]:
    """The ids of the clients' spans, by their traces."""
    parents = {}

    async def turn(client: httpx.AsyncClient, number: int) -> None:
        trace, span = os.urandom(16).hex(), os.urandom(8).hex()
        parents[trace] = span
        body = {"message_content": f"message {number}", "session_name": f"session-{number % SESSIONS}"}
        headers = {"traceparent": f"00-{trace}-{span}-01"}
        answer = await client.post(f"{base}/api/v1/agent/helper/run", json=body, headers=headers)
        answer.raise_for_status()

    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(*(turn(client, number) for number in range(TURNS * SESSIONS)))
    return parents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, type=pathlib.Path, help="the turnwise binary")
    binary = parser.parse_args().gateway.resolve()
    collector = Collector()
    public, admin, agent = free_address(), free_address(), free_address()
    exports = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        policy, logs = folder / "gateway.yaml", {"agent": folder / "agent.log", "gateway": folder / "gateway.log"}
        policy.write_text(POLICY.format(public=public, admin=admin, agent=agent))
        (folder / "traced.py").write_text(AGENT)
        here = str(pathlib.Path(__file__).parent)
        server = start_application("traced:app", agent, logs["agent"], folder, **exports, OTEL_SERVICE_NAME="agent", PYTHONPATH=here)
        command = [binary, "serve", "-c", policy, "--log-level", "warn"]
        gateway = start(command, logs["gateway"], **exports, OTEL_SERVICE_NAME="gateway")
        try:
            wait_for_listener(agent, server, logs["agent"])
            wait_for(f"http://{admin}/-/ready", gateway, logs["gateway"])
            parents = asyncio.run(converse(f"http://{public}"))
            # uvicorn ends by the signal itself, and takes what was not sent with it.
            soon("the agent's spans are there", lambda: sum(service == "agent" for service, _ in collector.spans) >= len(parents), 30)
        finally:
            # The gateway sends what is left.
            stop(server)
            code = stop(gateway)
            print("".join(log.read_text() for log in logs.values()), end="")
    if code != 0:
        sys.exit(f"the gateway ended with {code}")
    judge(collector.spans, parents)


def judge(spans: list[tuple[str, Span]], parents: dict[str, str]) -> None:
    wrong, waits = [], 0
    for trace, client in parents.items():
        of_trace = [(service, span) for service, span in spans if span.trace_id.hex() == trace]

        def only(service: str, kind: int) -> Span | None:
            found = [span for whose, span in of_trace if whose == service and span.kind == kind]
            if len(found) != 1:
                wrong.append(f"{trace}: {len(found)} spans of {service} of kind {Span.SpanKind.Name(kind)}")
            return found[0] if found else None

        server, call = only("gateway", Span.SPAN_KIND_SERVER), only("gateway", Span.SPAN_KIND_CLIENT)
        agent = only("agent", Span.SPAN_KIND_SERVER)
        if not (server and call and agent):
            continue
        chain = [client, server.span_id.hex(), call.span_id.hex()]
        if [server.parent_span_id.hex(), call.parent_span_id.hex(), agent.parent_span_id.hex()] != chain:
            wrong.append(f"{trace}: the spans do not hang below one another")
        if not server.start_time_unix_nano <= call.start_time_unix_nano <= agent.start_time_unix_nano <= agent.end_time_unix_nano:
            wrong.append(f"{trace}: the spans are not in the order of time")
        if not agent.end_time_unix_nano <= call.end_time_unix_nano + 50_000_000:
            wrong.append(f"{trace}: the agent ends after the gateway's call by more than 50 ms")
        for service, span in of_trace:
            if service == "gateway" and span.kind == Span.SPAN_KIND_INTERNAL:
                waits += 1
                if span.parent_span_id != server.span_id or not span.start_time_unix_nano < span.end_time_unix_nano <= call.start_time_unix_nano + 50_000_000:
                    wrong.append(f"{trace}: {span.name} is not a wait of its request, before its call")
    # All but the first of each session wait for their turn.
    if waits < SESSIONS * (TURNS - 1):
        wrong.append(f"{waits} waits, of at least {SESSIONS * (TURNS - 1)}")
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(1)
    print(f"{len(parents)} traces, each from its client through the gateway to the agent; {waits} waits in them")


if __name__ == "__main__":
    main()
