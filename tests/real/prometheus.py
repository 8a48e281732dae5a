"""Starts a real Prometheus that scrapes a running gateway, and asks it for every metric that the product promises.

Needs the programs `prometheus` and `promtool`. Exit code 1 when promtool finds something in the gateway's page, or when a
name does not come back from Prometheus.

    python tests/real/prometheus.py --gateway target/release/turnwise
"""

import argparse
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

from asking import ask
from claims import comes_true, require, soon
from metrics import samples, total
from processes import free_address
from scraped import Scraped
from serving import Handler, Server

HISTOGRAMS = [
    "turnwise_request_duration_seconds",
    "turnwise_queue_wait_seconds",
    "turnwise_upstream_duration_seconds",
]
NAMES = [
    "turnwise_requests_total",
    "turnwise_in_flight_requests",
    "turnwise_waiting_requests",
    "turnwise_queue_bytes",
    "turnwise_oldest_wait_seconds",
    "turnwise_oldest_in_flight_seconds",
    "turnwise_concurrency_limit",
    "turnwise_rejected_total",
    "turnwise_abandoned_total",
    "turnwise_sessions_active",
    "turnwise_rate_limit_keys",
    "turnwise_upstream_healthy",
    "turnwise_upstream_ejections_total",
    "turnwise_upstream_connections",
    "turnwise_upstream_errors_total",
    "turnwise_upstream_retries_total",
    "turnwise_connections",
    "turnwise_config_last_reload_successful",
    "turnwise_config_last_reload_success_timestamp_seconds",
    "turnwise_config_reloads_total",
    "turnwise_config_generation",
    "turnwise_build_info",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    *(f"{name}{part}" for name in HISTOGRAMS for part in ("_bucket", "_sum", "_count")),
]

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}" }}
limits: {{ concurrency: 1, queue_timeout: 300ms }}
upstreams:
  agents: {{ servers: ["http://{nobody}", "http://{agent}"], balance: round_robin, eject: {{ after_failures: 1, for: 1h }} }}
routes:
  - name: runs
    match: {{ path_prefix: / }}
    upstream: agents
    session: {{ key: [{{ header: X-Session-Id }}] }}
    rate_limits: [{{ per: {{ header: X-Api-Key }}, rate: 100/s, burst: 100 }}]
"""

class Agent(Handler):
    """Keeps who asks for `/slow` until it is let go, and takes no time over anything else."""

    go_on = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.go_on.wait(60)
        self.answer(b"ok")


def make_traffic(public: str, admin: str) -> None:
    """Everything that gives a metric a reason to be there: work, waiting, a refusal, a client that leaves, a reload."""

    def number(name: str, **labels: str) -> float:
        return total(samples(ask(f"http://{admin}/metrics").text), name, **labels)

    for place in range(4):
        status = ask(f"http://{public}/", X_Session_Id=f"s{place}", X_Api_Key="k").status
        require(status == 200, "not served", status)
    host, port = public.split(":")
    with socket.create_connection((host, int(port))) as leaves:
        leaves.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        soon("it runs", lambda: number("turnwise_in_flight_requests") == 1)
        status = ask(f"http://{public}/").status
        require(status == 503, "no place, and no refusal", status)
    soon("it is counted that its client has left", lambda: number("turnwise_requests_total", code="499") == 1)
    Agent.go_on.set()
    soon("what it left is done", lambda: number("turnwise_abandoned_total") == 1)
    status = ask(f"http://{admin}/-/reload", "POST").status
    require(status == 200, "not reloaded", status)


def check_page(admin: str) -> None:
    page = ask(f"http://{admin}/metrics").text
    verdict = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
    said = verdict.stdout + verdict.stderr
    if verdict.returncode or said.strip():
        sys.exit(f"promtool check metrics ({verdict.returncode}):\n{said}")
    print(f"promtool check metrics: nothing found in {len(page.splitlines())} lines")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, type=lambda path: str(pathlib.Path(path).resolve()), help="the turnwise binary")
    options = parser.parse_args()
    agent = Server(Agent)
    public, admin, nobody = (free_address() for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        policy = pathlib.Path(folder, "gateway.yaml")
        policy.write_text(POLICY.format(public=public, admin=admin, nobody=nobody, agent=agent.address))
        with Scraped(options.gateway, policy, admin) as prometheus:
            make_traffic(public, admin)
            check_page(admin)
            missing = NAMES

            def all_are_known() -> bool:
                nonlocal missing
                missing = [name for name in missing if not prometheus.query(name)]
                return not missing

            comes_true(all_are_known, 20, 0.5)
            require(not missing, "Prometheus does not know", *missing)
            quantile = "histogram_quantile(0.99, sum by (le, queue) (turnwise_queue_wait_seconds_bucket))"
            require(prometheus.query(quantile), "a dashboard's first question has no answer")
            print(f"Prometheus has scraped all {len(NAMES)} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
