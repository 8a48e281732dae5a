"""Starts a real Prometheus that scrapes a running gateway, and asks it for every metric that the product promises.

Needs the programs `prometheus` and `promtool`. Exit code 1 when promtool finds something in the gateway's page, or when a
name does not come back from Prometheus.

    python tests/real/prometheus.py --gateway target/release/turnwise
"""

import argparse
import http.server
import json
import pathlib
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

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

SCRAPES = """\
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: turnwise
    static_configs: [{{ targets: ["{admin}"] }}]
"""


class Agent(http.server.BaseHTTPRequestHandler):
    """Takes a second over `/slow`, and no time over anything else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]


def read(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def until(what: str, holds, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"not within a minute: {what}\n{log.read_text()[-4000:]}")


def query(prometheus: str, expression: str) -> list:
    url = f"http://{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    return json.loads(read(url))["data"]["result"]


def make_traffic(public: str, admin: str) -> None:
    """Everything that gives a metric a reason to be there: work, waiting, a refusal, a client that leaves, a reload."""
    for place in range(4):
        read(f"http://{public}/", **{"X-Session-Id": f"s{place}", "X-Api-Key": "k"})
    host, port = public.split(":")
    with socket.create_connection((host, int(port))) as leaves:
        leaves.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        try:
            read(f"http://{public}/")
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
    read_posted = urllib.request.Request(f"http://{admin}/-/reload", method="POST", data=b"")
    urllib.request.urlopen(read_posted, timeout=10).close()
    time.sleep(1)


def check_page(admin: str) -> None:
    page = read(f"http://{admin}/metrics")
    verdict = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
    said = verdict.stdout + verdict.stderr
    if verdict.returncode or said.strip():
        sys.exit(f"promtool check metrics ({verdict.returncode}):\n{said}")
    print(f"promtool check metrics: nothing found in {len(page.splitlines())} lines")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, type=lambda path: str(pathlib.Path(path).resolve()), help="the turnwise binary")
    options = parser.parse_args()
    agent = Server(("127.0.0.1", 0), Agent)
    threading.Thread(target=agent.serve_forever, daemon=True).start()
    public, admin, prometheus, nobody = (free_address() for _ in range(4))
    processes = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        policy, scrapes = folder / "gateway.yaml", folder / "prometheus.yml"
        upstream = "127.0.0.1:%d" % agent.server_address[1]
        policy.write_text(POLICY.format(public=public, admin=admin, nobody=nobody, agent=upstream))
        scrapes.write_text(SCRAPES.format(admin=admin))
        logs = [folder / "gateway.log", folder / "prometheus.log"]
        commands = [
            [options.gateway, "serve", "-c", str(policy)],
            ["prometheus", f"--config.file={scrapes}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={prometheus}"],
        ]
        try:
            for command, log in zip(commands, logs):
                processes.append(subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=folder))
            until("the gateway is ready", lambda: read(f"http://{admin}/-/ready") is not None, logs[0])
            make_traffic(public, admin)
            check_page(admin)
            until("Prometheus is ready", lambda: bool(read(f"http://{prometheus}/-/ready")), logs[1])
            until("the gateway is up in Prometheus", lambda: query(prometheus, "up{job='turnwise'} == 1"), logs[1])
            missing = NAMES
            deadline = time.monotonic() + 20
            while missing and time.monotonic() < deadline:
                missing = [name for name in missing if not query(prometheus, name)]
                time.sleep(0.5)
            if missing:
                sys.exit("Prometheus does not know " + ", ".join(missing))
            waited = query(prometheus, "histogram_quantile(0.99, sum by (le, queue) (turnwise_queue_wait_seconds_bucket))")
            assert waited, "a dashboard's first question has no answer"
            print(f"Prometheus has scraped all {len(NAMES)} names")
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(timeout=60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
