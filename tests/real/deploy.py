"""Checks everything in `deploy/` that can be checked without a container engine, a cluster or a running systemd.

Kubernetes objects and the compose file against their schemas (which come with Python packages; nothing is fetched); ports,
paths, selectors, names and times against one another and against the policies; every command line and every probe against the
real program; the image's last stages as a folder that the program is started in; the unit by `systemd-analyze` and by the
system calls that the program makes; the rules by `promtool`; the Debian package built, installed and tried in a throw-away
view of this machine's root.

    python tests/real/deploy.py --gateway target/release/turnwise [--only NAME ...] [--mutate]

`--mutate` puts the faults of `deploy/mutations.yaml` beside this file into a copy, one after another, and fails unless the
check that each names finds it. Needs prometheus, systemd, strace, dpkg-dev and lintian, and the packages of requirements.txt;
root for `image` and for the installation in `package`, which are left out without it, and say so.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import yaml

import asking
from asking import Answer
from claims import SOON, comes_true
from processes import free_port

HERE = pathlib.Path(__file__).resolve().parent
# Versions of Kubernetes whose schemas the objects have to fit: the oldest that the sidecar needs, and the newest known here.
KUBERNETES = ("1.29", "1.37")
# systemd-analyze security gives 0.0 (nothing can be done) to 10.0 (everything can).
EXPOSURE = 2.0
MIB = 1024 * 1024


class Context:
    """What the checks look at: a tree (the repository, or a mutated copy of it), the program, and a folder to work in."""

    def __init__(self, root: pathlib.Path, gateway: pathlib.Path, work: pathlib.Path):
        self.root, self.gateway, self.work = root, gateway, work
        self.deploy = root / "deploy"
        self.policy_of_package = root / "gateway.yaml"
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def folder(self) -> pathlib.Path:
        """A new one, where programs may be run from."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.work))


class Strict(yaml.SafeLoader):
    """YAML in which no key is given twice."""


def no_twins(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twins = {key for key in keys if keys.count(key) > 1}
    if twins:
        raise yaml.YAMLError(f"{node.start_mark}: given twice: {twins}")
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


# YAML 1.2, as the gateway and kubectl read it: `on` is a word.
Strict.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Strict.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false|True|False)$"), list("tTfF"))
Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, no_twins)


def documents(path: pathlib.Path) -> list:
    return [document for document in yaml.load_all(path.read_text(), Loader=Strict) if document is not None]


def document(path: pathlib.Path):
    (only,) = documents(path)
    return only


def run(*command, **options) -> subprocess.CompletedProcess:
    options.setdefault("timeout", 600)  # the machine may be busy
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def seconds(duration) -> float:
    if isinstance(duration, (int, float)):
        return float(duration)
    found = re.fullmatch(r"([\d.]+)(ms|s|m|h)", duration)
    if not found:
        raise ValueError(f"{duration!r} is no duration")
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[found[2]]


def octets(size) -> int:
    found = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB|Ki|Mi|Gi|k|m|g)?", str(size))
    if not found:
        raise ValueError(f"{size!r} is no size")
    unit = {"": 0, "B": 0, "k": 1, "m": 2, "g": 3, "Ki": 1, "Mi": 2, "Gi": 3}[(found[2] or "").removesuffix("B") or ""]
    return int(found[1]) * 1024**unit


class Policy:
    """A policy file, as far as what is around it has to fit."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.written = document(path)
        server = self.written.get("server", {})
        self.drain = seconds(server.get("drain_delay", "0s")) + seconds(server.get("drain_timeout", "30s"))
        self.drain_delay = seconds(server.get("drain_delay", "0s"))
        self.queue_bytes = octets(self.written.get("limits", {}).get("queue_bytes", "256MiB"))
        self.listen = self.address(self.written.get("listen", "127.0.0.1:8080"))
        self.admin = self.address(self.written.get("admin", {}).get("listen", "127.0.0.1:9180"))
        token = self.written.get("admin", {}).get("token_file")
        self.token_file = token and re.sub(r"\$\{\w+:-(.*)\}", r"\1", token)

    @staticmethod
    def address(text: str) -> tuple[str, int]:
        text = re.sub(r"\$\{\w+:-(.*)\}", r"\1", text)
        host, port = text.rsplit(":", 1)
        return host, int(port)

    def servers(self) -> list[tuple[str, int, int | None]]:
        """(host, port, concurrency) of each."""
        found = []
        for upstream in self.written["upstreams"].values():
            for server in upstream["servers"]:
                url, concurrency = (server["url"], server.get("concurrency")) if isinstance(server, dict) else (server, None)
                url = re.sub(r"\$\{\w+:-(.*)\}", r"\1", url)
                host, port = re.fullmatch(r"http://([^:/]+):(\d+)", url).groups()
                found.append((host, int(port), concurrency))
        return found


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None, within: float = 20, **fields: str) -> Answer:
    """Of this machine; status 0 where nobody answers."""
    try:
        return asking.ask(f"http://127.0.0.1:{port}{path}", method, body, within, **fields)
    except (OSError, http.client.HTTPException):
        return Answer(0, "")


def answers(port: int, path: str = "/-/ready"):
    """A condition: that this is answered with 200."""
    return lambda: ask(port, path).status == 200


def on_loopback(
    policy: pathlib.Path, folder: pathlib.Path, servers: dict[str, str] | None = None, **server
) -> tuple[pathlib.Path, int, int]:
    """A copy of a policy that listens on free ports of this machine. `servers`: other hosts in place of those."""
    written = document(policy)
    public, admin = free_port(), free_port()
    written["listen"] = f"127.0.0.1:{public}"
    written.setdefault("admin", {})["listen"] = f"127.0.0.1:{admin}"
    written["admin"].pop("token_file", None)
    written.setdefault("server", {}).update(server)
    text = yaml.safe_dump(written, sort_keys=False)
    for host, other in (servers or {}).items():
        text = text.replace(host, other)
    copy = folder / "gateway.yaml"
    copy.write_text(text)
    return copy, public, admin


@contextlib.contextmanager
def running(*command, env: dict | None = None, cwd: pathlib.Path | None = None, ready=None):
    """A program that runs while the block does; `ready` is waited for."""
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, cwd=cwd
    )

    def said() -> str:
        log.seek(0)
        return log.read().decode(errors="replace")[-2000:]

    try:
        if ready and not comes_true(lambda: process.poll() is not None or ready(), SOON):
            raise RuntimeError(f"{shlex.join(process.args)} is not ready after {SOON} s:\n{said()}")
        if ready and process.poll() is not None:
            raise RuntimeError(f"{shlex.join(process.args)} ended with {process.returncode}:\n{said()}")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()


# Rendering: the part of kustomize that is used here, and no more. An unknown key is an error.


class Kustomized(list):
    """The objects of one kustomization."""

    def of(self, kind: str) -> list[dict]:
        return [thing for thing in self if thing["kind"] == kind]

    def named(self, kind: str, name: str) -> dict | None:
        return next((thing for thing in self.of(kind) if thing["metadata"]["name"] == name), None)


KEYS = {
    "apiVersion", "kind", "namespace", "labels", "resources", "components", "configMapGenerator", "generatorOptions", "images"
}  # fmt: skip


def kustomize(folder: pathlib.Path) -> Kustomized:
    written = document(folder / "kustomization.yaml")
    unknown = set(written) - KEYS
    if unknown:
        raise ValueError(f"{folder}: {unknown} are not known here")
    wanted = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}
    if wanted.get(written["kind"]) != written["apiVersion"]:
        raise ValueError(f"{folder}: {written['kind']} is not of {written['apiVersion']}")
    things = Kustomized()
    for resource in written.get("resources", []) + written.get("components", []):
        path = folder / resource
        if not path.exists():
            raise ValueError(f"{folder}: there is no {resource}")
        things += kustomize(path) if path.is_dir() else documents(path)
    for generated in written.get("configMapGenerator", []):
        if not written.get("generatorOptions", {}).get("disableNameSuffixHash"):
            raise ValueError(f"{folder}: a ConfigMap whose name has a hash restarts the gateway at every change")
        data = {pathlib.Path(file).name: (folder / file).read_text() for file in generated["files"]}
        fresh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data}
        there = things.named("ConfigMap", generated["name"])
        if (there is not None) != (generated.get("behavior") == "replace"):
            raise ValueError(
                f"{folder}: ConfigMap {generated['name']} is to be made, and is there, or to be replaced, and is not"
            )
        if there is not None:
            things.remove(there)
        things.append(fresh)
    for thing in things:
        if "namespace" in written:
            thing["metadata"]["namespace"] = written["namespace"]
        for labels in written.get("labels", []):
            if set(labels) != {"pairs"}:
                raise ValueError(f"{folder}: only plain labels are known here")
            thing["metadata"].setdefault("labels", {}).update(labels["pairs"])
        for pod in pods(thing):
            for container in containers(pod):
                for image in written.get("images", []):
                    if container["image"] == image["name"]:
                        container["image"] = f"{image['newName']}:{image['newTag']}"
    return things


def pods(thing: dict) -> list[dict]:
    """The pod template of a workload."""
    template = (
        thing.get("spec", {}).get("template") if thing["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job") else None
    )
    return [template] if template else []


def containers(pod: dict) -> list[dict]:
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def overlays(context: Context) -> dict[str, Kustomized]:
    kubernetes = context.deploy / "kubernetes"
    folders = [kubernetes / "base", *sorted((kubernetes / "overlays").iterdir())]
    return {str(folder.relative_to(kubernetes)): kustomize(folder) for folder in folders}


def is_gateway(container: dict) -> bool:
    return container["name"] == "turnwise"


def gateways(things: Kustomized):
    """(workload, pod, container) of each gateway."""
    for thing in things:
        for pod in pods(thing):
            for container in containers(pod):
                if is_gateway(container):
                    yield thing, pod, container


def policy_of(context: Context, things: Kustomized, pod: dict, container: dict) -> Policy:
    """The policy that a gateway's pod has: through args, volumeMounts, volumes and the ConfigMap."""
    args = container["args"]
    path = pathlib.PurePosixPath(args[args.index("-c") + 1])
    mounts = [mount for mount in container["volumeMounts"] if pathlib.PurePosixPath(mount["mountPath"]) == path.parent]
    if len(mounts) != 1 or "subPath" in mounts[0]:
        raise ValueError(f"{path} is in no folder that is mounted whole")
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == mounts[0]["name"]]
    config = things.named("ConfigMap", volume["configMap"]["name"])
    if config is None or path.name not in config["data"]:
        raise ValueError(f"no ConfigMap {volume['configMap']['name']} with a {path.name}")
    copy = context.folder() / path.name
    copy.write_text(config["data"][path.name])
    return Policy(copy)


# Checks. Each gives what is wrong, a sentence each.


def check_policies(context: Context) -> list[str]:
    """Every policy passes `turnwise check`, and none opens the admin port to others without a token."""
    wrong = []
    policies = sorted(context.deploy.rglob("gateway.yaml")) + [context.policy_of_package]
    if len(policies) < 5:
        wrong.append(f"only {len(policies)} policies are found")
    token = context.folder() / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    for path in policies:
        verdict = run(context.gateway, "check", "-c", path, env={**os.environ, "TURNWISE_TOKEN_FILE": str(token)})
        said = verdict.stdout + verdict.stderr
        # In the compose file the port is published on loopback; see check_compose.
        if verdict.returncode or ("warning" in said and "compose" not in path.parts):
            wrong.append(f"{path.relative_to(context.root)}: {said}")
    return wrong


def kept(given, understood) -> list[str]:
    """Keys that a model has dropped: it does not know them."""
    lost = []

    def walk(a, b, path):
        if isinstance(a, dict) and isinstance(b, dict):
            for key, value in a.items():
                if key not in b and str(key) not in b:
                    lost.append(f"{path}{key} is no key")
                else:
                    walk(value, b.get(key, b.get(str(key))), f"{path}{key}.")
        elif isinstance(a, list) and isinstance(b, list):
            for place, (one, other) in enumerate(zip(a, b)):
                walk(one, other, f"{path}{place}.")

    walk(given, understood, "")
    return lost


def check_kubernetes_schemas(context: Context) -> list[str]:
    """Every object fits the strict schemas of Kubernetes, or of the Prometheus operator."""
    import kubernetes_validate
    from cloudcoil.models.prometheus_operator import v1 as operator
    from pydantic import ValidationError

    wrong = []
    for name, things in overlays(context).items():
        for thing in things:
            what = f"{name}: {thing['kind']} {thing['metadata']['name']}"
            if thing["apiVersion"].startswith("monitoring.coreos.com/"):
                try:
                    understood = getattr(operator, thing["kind"]).model_validate(thing)
                except (ValidationError, AttributeError) as error:
                    wrong.append(f"{what}: {error}")
                    continue
                dumped = understood.model_dump(by_alias=True, exclude_unset=True, mode="json")
                wrong += [f"{what}: {lost}" for lost in kept(thing, dumped)]
                continue
            for version in KUBERNETES:
                try:
                    used = kubernetes_validate.validate(thing, version, strict=True)
                    if used != version:
                        wrong.append(f"the schemas of Kubernetes {version} are not there, only {used}")
                except kubernetes_validate.ValidationError as error:
                    path = ".".join(str(part) for part in error.path)
                    wrong.append(f"{what}, Kubernetes {version}: {path}: {error.message[:300]}")
                except kubernetes_validate.SchemaNotFoundError as error:
                    wrong.append(f"{what}: {error.message}")
    return wrong


def matches(selector: dict | None, labels: dict) -> bool:
    wanted = (selector or {}).get("matchLabels", {}) if selector is not None else None
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def check_kubernetes_links(context: Context) -> list[str]:
    """Selectors, ports, volumes and names lead to what they mean."""
    wrong = []
    for name, things in overlays(context).items():
        identities = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
        wrong += [f"{name}: {identity} is there twice" for identity in set(identities) if identities.count(identity) > 1]
        if name != "base" and {thing["metadata"].get("namespace") for thing in things} != {"agents"}:
            wrong.append(f"{name}: not all in the namespace")
        workloads = [(thing, pod) for thing in things for pod in pods(thing)]
        for thing, pod in workloads:
            what = f"{name}: {thing['kind']} {thing['metadata']['name']}"
            if not matches(thing["spec"]["selector"], pod["metadata"]["labels"]):
                wrong.append(f"{what}: its selector is not that of its pods")
            volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
            mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
            if volumes != mounted:
                wrong.append(f"{what}: volumes {sorted(volumes)}, mounted {sorted(mounted)}")
            for volume in pod["spec"].get("volumes", []):
                config = volume.get("configMap", {}).get("name")
                if config and not things.named("ConfigMap", config):
                    wrong.append(f"{what}: there is no ConfigMap {config}")
                secret = volume.get("secret", {}).get("secretName")
                if secret and secret not in (context.root / "docs/deployment.md").read_text():
                    wrong.append(f"{what}: docs/deployment.md does not tell how to make the Secret {secret}")
            account = pod["spec"].get("serviceAccountName")
            if account and not things.named("ServiceAccount", account):
                wrong.append(f"{what}: there is no ServiceAccount {account}")
            if pod["spec"].get("automountServiceAccountToken") is not False:
                wrong.append(f"{what}: the pod gets a token of the Kubernetes API")
            for container in containers(pod):
                whose = f"{what}, {container['name']}"
                ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    port = container.get(probe, {}).get("httpGet", {}).get("port")
                    if port is not None and port not in ports and port not in ports.values():
                        wrong.append(f"{whose}: {probe} asks port {port}, which is none of {ports}")
                if ":" not in container["image"].rsplit("/", 1)[-1] or container["image"].endswith(":latest"):
                    if name != "base":
                        wrong.append(f"{whose}: image {container['image']} has no tag of its own")
                mode = container.get("securityContext", {})
                of_pod = pod["spec"].get("securityContext", {})
                safe = (
                    mode.get("allowPrivilegeEscalation") is False
                    and mode.get("readOnlyRootFilesystem") is True
                    and mode.get("capabilities", {}).get("drop") == ["ALL"]
                    and of_pod.get("runAsNonRoot") is True
                    and of_pod.get("runAsUser", 0) > 0
                    and of_pod.get("seccompProfile", {}).get("type") == "RuntimeDefault"
                )
                if not safe:
                    wrong.append(f"{whose}: may more than it needs")
        for service in things.of("Service"):
            what = f"{name}: Service {service['metadata']['name']}"
            chosen = [
                pod for _, pod in workloads if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
            ]
            if not chosen:
                wrong.append(f"{what}: selects no pod")
            for port in service["spec"]["ports"]:
                for pod in chosen:
                    names = {p["name"] for container in containers(pod) for p in container.get("ports", [])}
                    if port["targetPort"] not in names:
                        wrong.append(f"{what}: targetPort {port['targetPort']} is none of {names}")
        for kind, path in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            for thing in things.of(kind):
                chosen = [pod for _, pod in workloads if matches(thing["spec"][path], pod["metadata"]["labels"])]
                # In base and single the agents are the user's own.
                theirs = thing["spec"][path].get("matchLabels", {}).get("app.kubernetes.io/name") == "agent"
                if not chosen and not (theirs and name in ("base", "overlays/single")):
                    wrong.append(f"{name}: {kind} {thing['metadata']['name']} selects no pod")
        for monitor in things.of("ServiceMonitor"):
            what = f"{name}: ServiceMonitor {monitor['metadata']['name']}"
            chosen = [s for s in things.of("Service") if matches(monitor["spec"]["selector"], s["metadata"].get("labels", {}))]
            if not chosen:
                wrong.append(f"{what}: selects no Service")
            for service in chosen:
                job = service["metadata"]["labels"].get(monitor["spec"]["jobLabel"], "")
                if not re.fullmatch("turnwise.*", job):
                    wrong.append(f"{what}: the job is {job!r}, and the alerts ask for turnwise…")
                for endpoint in monitor["spec"]["endpoints"]:
                    if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                        wrong.append(f"{what}: {endpoint['port']} is no port of Service {service['metadata']['name']}")
                    if seconds(endpoint["scrapeTimeout"]) > seconds(endpoint["interval"]):
                        wrong.append(f"{what}: scrapes overlap")
        wrong += [f"{name}: {problem}" for problem in autoscaling(context, things)]
    return wrong


def autoscaling(context: Context, things: Kustomized) -> list[str]:
    wrong = []
    adapter = document(context.deploy / "kubernetes/overlays/autoscaled/prometheus-adapter.yaml")["rules"]["external"]
    recorded = [
        rule.get("record")
        for group in document(context.deploy / "prometheus/turnwise.rules.yml")["groups"]
        for rule in group["rules"]
    ]
    for scaler in things.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        workload = things.named(target["kind"], target["name"])
        if workload is None or workload["apiVersion"] != target["apiVersion"]:
            wrong.append(f"the autoscaler's {target['kind']} {target['name']} is not there")
            continue
        if "replicas" in workload["spec"]:
            wrong.append(f"{target['name']} has `replicas`, which every apply would put back")
        for metric in scaler["spec"]["metrics"]:
            wanted = metric["external"]["metric"]["name"]
            rules = [rule for rule in adapter if rule["name"]["as"] == wanted]
            if len(rules) != 1:
                wrong.append(f"prometheus-adapter.yaml does not give {wanted}")
                continue
            series = re.search(r'__name__="([^"]+)"', rules[0]["seriesQuery"])[1]
            if series not in recorded or not re.fullmatch(rules[0]["name"]["matches"], series):
                wrong.append(f"no recording rule gives {series}, or it is not what `matches` says")
            if "namespace" not in rules[0]["resources"]["overrides"]:
                wrong.append("an external metric is asked for by namespace")
            each = float(metric["external"]["target"]["averageValue"])
            for _, pod, container in gateways(things):
                servers = policy_of(context, things, pod, container).servers()
                if len(servers) != scaler["spec"]["maxReplicas"]:
                    wrong.append(f"maxReplicas is {scaler['spec']['maxReplicas']}, and the policy has {len(servers)} servers")
                if any(limit is None or limit < each for _, _, limit in servers):
                    wrong.append(f"an agent is scaled at {each}, which the policy's limits of servers never let it reach")
    return wrong


def check_kubernetes_policy(context: Context) -> list[str]:
    """Ports, times, memory, servers and the token of each gateway's pod are those of its policy."""
    wrong = []
    seen = 0
    for name, things in overlays(context).items():
        for thing, pod, container in gateways(things):
            seen += 1
            what = f"{name}: {thing['kind']} {thing['metadata']['name']}"
            try:
                policy = policy_of(context, things, pod, container)
            except ValueError as error:
                wrong.append(f"{what}: {error}")
                continue
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            if ports != {"http": policy.listen[1], "admin": policy.admin[1]}:
                wrong.append(f"{what}: ports {ports}, and the policy listens on {policy.listen[1]} and {policy.admin[1]}")
            if policy.listen[0] or policy.admin[0]:
                wrong.append(f"{what}: the policy listens on loopback, where no Service and no probe comes")
            probes = {
                probe: container.get(probe, {}).get("httpGet", {})
                for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            }
            if any(probe.get("port") not in ("admin", policy.admin[1]) for probe in probes.values()):
                wrong.append(f"{what}: a probe does not ask the admin port")
            if probes["livenessProbe"].get("path") != "/-/healthy" or probes["readinessProbe"].get("path") != "/-/ready":
                wrong.append(f"{what}: liveness is /-/healthy and readiness /-/ready; a draining gateway is alive and not ready")
            hook = container.get("lifecycle", {}).get("preStop", {})
            slept = hook.get("sleep", {}).get("seconds", 0)
            if hook and not slept:
                wrong.append(f"{what}: a preStop hook that this check cannot add up")
            grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
            if slept + policy.drain + 5 > grace:
                wrong.append(
                    f"{what}: the drain may take {slept + policy.drain:.0f} s and 5 s to end, and the grace period is {grace} s"
                )
            readiness = container["readinessProbe"]
            noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
            if noticed > policy.drain_delay:
                wrong.append(f"{what}: not ready is noticed within {noticed} s, and drain_delay is {policy.drain_delay:.0f} s")
            memory = octets(container["resources"]["limits"]["memory"])
            if memory < 2 * policy.queue_bytes + 64 * MIB:
                wrong.append(f"{what}: {memory // MIB} MiB are too little for queue_bytes of {policy.queue_bytes // MIB} MiB")
            if thing["spec"].get("replicas") != 1 or thing["spec"].get("strategy", {}).get("type") != "Recreate":
                wrong.append(f"{what}: two gateways at once do not keep the turns of a session apart")
            token = pathlib.PurePosixPath(policy.token_file or "/none")
            secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            secret = secrets.get(mounts.get(str(token.parent)))
            if not secret:
                wrong.append(f"{what}: token_file {token} is in no mounted Secret")
            elif f"--from-literal={token.name}=" not in (context.root / "docs/deployment.md").read_text():
                wrong.append(f"{what}: docs/deployment.md does not make a Secret with the key {token.name}")
            wrong += [f"{what}: {problem}" for problem in servers_are_there(context, name, things, pod, policy)]
            wrong += [f"{what}: {problem}" for problem in network(things, pod, policy)]
    if seen < 4:
        wrong.append(f"only {seen} gateways are found")
    return wrong


def servers_are_there(context: Context, name: str, things: Kustomized, pod: dict, policy: Policy) -> list[str]:
    wrong = []
    for host, port, _ in policy.servers():
        if host in ("127.0.0.1", "localhost"):
            beside = [c for c in containers(pod) if not is_gateway(c)]
            given = [tuple(c["args"][c["args"].index(word) + 1] for word in ("--host", "--port")) for c in beside]
            given = [(address, int(number)) for address, number in given]
            if (host, port) not in given:
                wrong.append(f"no container beside the gateway listens on {host}:{port}, but {given}")
            if not all(c.get("restartPolicy") == "Always" for c in beside):
                wrong.append("the agent is ended at the same time as the gateway, and not after its drain")
            grace = pod["spec"]["terminationGracePeriodSeconds"]
            if policy.drain + 15 > grace:
                wrong.append(f"the agent has no time to end: {policy.drain:.0f} s of drain, {grace} s in all")
            continue
        service = things.named("Service", host.split(".")[-1])
        if service is None:
            if name not in ("base", "overlays/single") or host != "agent":
                wrong.append(f"there is no Service for {host}")
            continue
        if port not in {p["port"] for p in service["spec"]["ports"]}:
            wrong.append(f"Service {host} has no port {port}")
        if "." in host:
            headless = service["spec"].get("clusterIP") == "None"
            sets = [s for s in things.of("StatefulSet") if re.fullmatch(rf"{s['metadata']['name']}-\d+", host.split(".")[0])]
            if not headless or not sets or sets[0]["spec"]["serviceName"] != service["metadata"]["name"]:
                wrong.append(f"{host} is no name of a pod: that takes a headless Service and a StatefulSet that names it")
        agents = [
            p
            for thing in things
            for p in pods(thing)
            if matches({"matchLabels": service["spec"]["selector"]}, p["metadata"]["labels"])
        ]
        for agent in agents:
            for container in agent["spec"]["containers"]:
                listens = int(container["args"][container["args"].index("--port") + 1])
                if listens not in {p["containerPort"] for p in container["ports"]}:
                    wrong.append(f"the agent listens on {listens}, and says {container['ports']}")
                longest = int(container["args"][container["args"].index("--timeout-graceful-shutdown") + 1])
                if longest + 5 > agent["spec"]["terminationGracePeriodSeconds"]:
                    wrong.append("the agent is killed before it has ended what it runs")
    return wrong


def network(things: Kustomized, pod: dict, policy: Policy) -> list[str]:
    """NetworkPolicies let through what has to pass, and the admin port is not open to all."""
    wrong = []
    mine = [p for p in things.of("NetworkPolicy") if matches(p["spec"]["podSelector"], pod["metadata"]["labels"])]
    if not mine:
        return ["no NetworkPolicy is for it"]
    into = [(rule, port["port"]) for p in mine for rule in p["spec"].get("ingress", []) for port in rule["ports"]]
    for port in (policy.listen[1], policy.admin[1]):
        if port not in {number for _, number in into}:
            wrong.append(f"nobody may reach port {port}")
    for rule, port in into:
        everybody = not rule.get("from") or any(peer.get("namespaceSelector") == {} for peer in rule["from"])
        if port == policy.admin[1] and everybody:
            wrong.append("everybody may reach the admin port")
    outward = [p for p in mine if "Egress" in p["spec"]["policyTypes"]]
    if outward:
        rules = [rule for p in outward for rule in p["spec"]["egress"]]
        allowed = {(port["port"], port["protocol"]) for rule in rules for port in rule["ports"]}
        if not {(53, "UDP"), (53, "TCP")} <= allowed:
            wrong.append("it may not ask for names")
        for host, port, _ in policy.servers():
            if (port, "TCP") not in allowed:
                wrong.append(f"it may not reach {host}:{port}")
    for other in things.of("NetworkPolicy"):
        for rule in other["spec"].get("ingress", []):
            for peer in rule.get("from", []):
                theirs = other["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/name") == "agent"
                if theirs and not matches(peer.get("podSelector"), pod["metadata"]["labels"]):
                    wrong.append(f"NetworkPolicy {other['metadata']['name']} does not let the gateway in to the agents")
    return wrong


def check_rules(context: Context) -> list[str]:
    """promtool accepts the rules, their tests pass, each alert is tested both ways and says what to do."""
    wrong = []
    folder = context.deploy / "prometheus"
    rules = sorted(folder.glob("*.yml"))
    verdict = run("promtool", "check", "rules", "--lint-fatal", *rules)
    if verdict.returncode:
        wrong.append(verdict.stdout + verdict.stderr)
    tests = sorted((folder / "tests").glob("*.test.yml"))
    verdict = run("promtool", "test", "rules", *tests)
    if verdict.returncode:
        wrong.append(verdict.stdout + verdict.stderr)
    groups = [group for path in rules for group in document(path)["groups"]]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    if len(alerts) < 20:
        wrong.append(f"only {len(alerts)} alerts are found")
    fires, silent = set(), set()
    names = [group["name"] for stem in ("rules", "alerts") for group in document(folder / f"turnwise.{stem}.yml")["groups"]]
    for path in tests:
        if document(path).get("group_eval_order") != names:
            wrong.append(f"{path.name}: group_eval_order is not the order of the groups: its outcome is chance")
        for test in document(path)["tests"]:
            for question in test["promql_expr_test"]:
                asked = re.match(r'ALERTS\{alertname=~?"(\w+)", alertstate="firing"', question["expr"])
                if asked:
                    (fires if question["exp_samples"] else silent).add(asked[1])
    for name, rule in alerts.items():
        if name not in fires or name not in silent:
            wrong.append(f"{name} is not tested {'to fire' if name not in fires else 'to stay silent'}")
        if rule["labels"].get("severity") not in ("critical", "warning", "info"):
            wrong.append(f"{name} has no severity")
        wrong += [f"{name} has no {key}" for key in ("summary", "description", "action") if not rule["annotations"].get(key)]
    made = run(folder / "to-kubernetes").stdout
    there = context.deploy / "kubernetes/components/monitoring/prometheusrule.yaml"
    if made != there.read_text():
        wrong.append(f"{there.name} is not what to-kubernetes makes of the rules")
    elif document(there)["spec"]["groups"] != [
        g for n in ("rules", "alerts") for g in document(folder / f"turnwise.{n}.yml")["groups"]
    ]:
        wrong.append(f"{there.name} has other rules than the files")
    return wrong


def instructions(dockerfile: pathlib.Path) -> list[tuple[str, str]]:
    """(word, rest) of each, continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def words(rest: str) -> list[str]:
    """The words of an instruction in exec form."""
    return json.loads(rest[rest.index("[") :])


def check_dockerfiles(context: Context) -> list[str]:
    """hadolint finds nothing; images have tags; what is copied is there and is sent; both stages are of one Debian."""
    wrong = []
    hadolint = shutil.which("hadolint", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    files = sorted(context.deploy.rglob("Dockerfile"))
    if len(files) < 2:
        wrong.append("not all Dockerfiles are found")
    for path in files:
        name = path.relative_to(context.root)
        verdict = run(hadolint, "--no-color", path)
        if verdict.returncode or verdict.stdout.strip():
            wrong.append(f"{name}: {verdict.stdout}{verdict.stderr}")
        stages = {rest.split(" AS ")[1] for word, rest in instructions(path) if word == "FROM" and " AS " in rest}
        for word, rest in instructions(path):
            image = rest.split()[0]
            if word == "FROM" and image != "scratch" and image not in stages:
                if ":" not in image or image.endswith(":latest"):
                    wrong.append(f"{name}: {image} has no tag of its own")
    for path in [*files, *context.deploy.rglob("*.y*ml")]:
        if re.search(r"image:.*:latest|FROM .*:latest", path.read_text()):
            wrong.append(f"{path.relative_to(context.root)}: latest is no version")
    main = context.deploy / "Dockerfile"
    ignored = (context.deploy / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    if "*" not in ignored:
        wrong.append("Dockerfile.dockerignore does not begin with nothing")
    copied = set()
    for word, rest in instructions(main):
        if word == "COPY" and "--from" not in rest:
            copied |= set(rest.split()[:-1])
    for source in copied | sent:
        if not (context.root / source).exists():
            wrong.append(f"the Dockerfile, or what it is sent, names {source}, which is not there")
    if copied != sent:
        wrong.append(f"copied: {sorted(copied - sent)}, but not sent; sent: {sorted(sent - copied)}, but not copied")
    needed = re.search(r'^rust-version = "(.*)"', (context.root / "Cargo.toml").read_text(), re.MULTILINE)[1]
    if f"RUST_VERSION={needed}" not in main.read_text():
        wrong.append(f"the compiler of the Dockerfile is not {needed}")
    releases = {"bookworm": "12", "trixie": "13"}
    bases = [rest.split()[0] for word, rest in instructions(main) if word == "FROM"]
    built = next(number for name, number in releases.items() if name in bases[0])
    if f"debian:{built}-slim" not in bases:
        wrong.append(f"built on Debian {built}, and its libraries are those of {bases}")
    # Paths of the program itself that the build needs.
    for source in re.findall(
        r'include_(?:str|bytes)!\("([^"]+)"\)', "".join(p.read_text() for p in (context.root / "src").rglob("*.rs"))
    ):
        file = pathlib.Path(source).name
        if source.startswith("../../") and source.count("../") >= 2 and (context.root / file).exists() and file not in copied:
            wrong.append(f"the program includes {file}, which the build has not")
    return wrong


def image_commands(context: Context) -> dict[str, list[str]]:
    made = instructions(context.deploy / "Dockerfile")
    by_word = {word: rest for word, rest in made}
    return {"entry": words(by_word["ENTRYPOINT"]), "serve": words(by_word["CMD"]), "health": words(by_word["HEALTHCHECK"])}


def check_command_lines(context: Context) -> list[str]:
    """The program takes every command line that is written anywhere here, and answers every probe."""
    wrong = []
    serving: dict[str, list[str]] = {}
    image = image_commands(context)
    if image["entry"] != ["/usr/local/bin/turnwise"]:
        wrong.append(f"the image begins with {image['entry']}")
    serving["Dockerfile CMD"] = image["serve"]
    compose = document(context.deploy / "compose/compose.yaml")
    serving["compose.yaml"] = compose["services"]["turnwise"]["command"]
    paths = set()
    for name, things in overlays(context).items():
        for thing, _, container in gateways(things):
            serving[f"{name} {thing['kind']} {thing['metadata']['name']}"] = container["args"]
            if "command" in container:
                wrong.append(f"{name}: `command` takes the place of the image's program")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                paths.add(container.get(probe, {}).get("httpGet", {}).get("path"))
        paths |= {endpoint["path"] for monitor in things.of("ServiceMonitor") for endpoint in monitor["spec"]["endpoints"]}
    unit = unit_values(context.deploy / "turnwise.service")
    (start,) = unit["ExecStart"]
    serving["turnwise.service ExecStart"] = shlex.split(start)[1:]
    folder = context.folder()
    policy, public, admin = on_loopback(
        context.deploy / "compose/policy/gateway.yaml", folder, {"agent:8000": f"127.0.0.1:{free_port()}"}
    )

    def here(command: list[str]) -> list[str]:
        command = [re.sub(r"^/etc/turnwise/gateway\.yaml$", str(policy), str(word)) for word in command]
        return [word.replace("http://127.0.0.1:9180", f"http://127.0.0.1:{admin}") for word in command]

    for name, command in serving.items():
        try:
            with running(context.gateway, *here(command), ready=answers(admin)) as process:
                if name == "Dockerfile CMD":
                    for path in sorted(paths | {"/metrics"}):
                        if not path or ask(admin, path).status != 200:
                            wrong.append(f"the admin port answers {path} with {path and ask(admin, path).status}")
                    healthy = run(context.gateway, *here(image["health"])[1:])
                    if healthy.returncode:
                        wrong.append(
                            f"HEALTHCHECK says {healthy.returncode} of a healthy gateway: {healthy.stdout}{healthy.stderr}"
                        )
                process.send_signal(signal.SIGTERM)
                if process.wait(timeout=30):
                    wrong.append(f"{name}: exit code {process.returncode}")
        except RuntimeError as error:
            wrong.append(f"{name}: {error}")
    if not run(context.gateway, *here(image["health"])[1:]).returncode:
        wrong.append("HEALTHCHECK says that a gateway is healthy that is not there")
    for command in unit["ExecReload"]:
        if "turnwise" in command:
            verdict = run(context.gateway, *here(shlex.split(command)[1:]))
            if verdict.returncode:
                wrong.append(f"turnwise.service ExecReload: {verdict.stderr}")
    return wrong


def check_compose(context: Context) -> list[str]:
    """The compose file fits the specification, and its parts fit one another."""
    import compose_spec
    from pydantic import ValidationError

    wrong = []
    folder = context.deploy / "compose"
    written = document(folder / "compose.yaml")
    try:
        understood = compose_spec.ComposeSpecification.model_validate(written)
        wrong += kept(written, understood.model_dump(by_alias=True, exclude_unset=True, mode="json"))
    except ValidationError as error:
        return [str(error)]
    services = written["services"]
    policy = Policy(folder / "policy/gateway.yaml")
    agent = context.deploy / "compose/agent/Dockerfile"
    agent_command = words(next(rest for word, rest in instructions(agent) if word == "CMD"))
    listens = {
        "turnwise": {policy.listen[1], policy.admin[1]},
        "agent": {int(agent_command[agent_command.index("--port") + 1])},
        "prometheus": {9090},
        "grafana": {3000},
    }
    for name, service in services.items():
        image = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"])
        if ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"):
            wrong.append(f"{name}: image {image} has no tag of its own")
        for port in service.get("ports", []):
            address, outside, inside = port.rsplit(":", 2)
            if address != "127.0.0.1":
                wrong.append(f"{name}: {port} is published to other machines")
            if int(inside) not in listens[name]:
                wrong.append(f"{name}: nothing listens on port {inside}")
        for network in service.get("networks", []):
            if network not in written["networks"]:
                wrong.append(f"{name}: there is no network {network}")
        if service.get("ports") and all((written["networks"][n] or {}).get("internal") for n in service["networks"]):
            wrong.append(f"{name}: ports cannot be published from internal networks alone")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (folder / source).exists():
                    wrong.append(f"{name}: there is no {source}")
                if volume.split(":")[2:] != ["ro"]:
                    wrong.append(f"{name}: {source} can be written to")
            elif source not in written["volumes"]:
                wrong.append(f"{name}: there is no volume {source}")
        build = service.get("build")
        if build:
            dockerfile = folder / build["context"] / build.get("dockerfile", "Dockerfile")
            if not dockerfile.exists():
                wrong.append(f"{name}: there is no {dockerfile}")
        needs = service.get("depends_on", {})
        for other in needs:
            if other not in services:
                wrong.append(f"{name}: there is no service {other}")
            elif isinstance(needs, dict) and needs[other]["condition"] == "service_healthy":
                its = folder / services[other]["build"]["context"] / "Dockerfile"
                if "healthcheck" not in services[other] and "HEALTHCHECK" not in its.read_text():
                    wrong.append(f"{name}: waits for {other} to be healthy, which says nothing of its health")
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    wrong += [f"volume {name} is nobody's" for name in written["volumes"] if name not in used]
    gateway, behind = services["turnwise"], services["agent"]
    if behind.get("ports") or set(behind["networks"]) != {"agents"} or "agents" not in gateway["networks"]:
        wrong.append("there is a way around the gateway, or none through it")
    if policy.servers() != [("agent", *listens["agent"], None)]:
        wrong.append(f"the policy's servers are {policy.servers()}")
    if seconds(gateway["stop_grace_period"]) < policy.drain + 5:
        wrong.append(f"the gateway is killed after {gateway['stop_grace_period']}, and its drain takes {policy.drain:.0f} s")
    if seconds(behind["stop_grace_period"]) < seconds(gateway["stop_grace_period"]):
        wrong.append("the agent is gone before the gateway")
    longest = int(agent_command[agent_command.index("--timeout-graceful-shutdown") + 1])
    if not policy.drain <= longest < seconds(behind["stop_grace_period"]):
        wrong.append(f"the agent ends its work within {longest} s")
    if octets(gateway["mem_limit"]) < policy.queue_bytes + 64 * MIB:
        wrong.append("mem_limit is below what may wait")
    mounted = [volume.split(":")[:2] for volume in gateway["volumes"]]
    if ["./policy", "/etc/turnwise"] not in mounted or "/etc/turnwise/gateway.yaml" not in gateway["command"]:
        wrong.append("the policy is not where the program looks; its folder has to be mounted, not the file")
    scrapes = document(folder / "prometheus/prometheus.yml")
    targets = [target for job in scrapes["scrape_configs"] for config in job["static_configs"] for target in config["targets"]]
    if targets != [f"turnwise:{policy.admin[1]}"] or "watching" not in gateway["networks"]:
        wrong.append(f"Prometheus scrapes {targets}")
    if not all(re.fullmatch("turnwise.*", job["job_name"]) for job in scrapes["scrape_configs"]):
        wrong.append("the alerts ask for a job turnwise…")
    places = dict(reversed(volume.split(":")[:2]) for volume in services["prometheus"]["volumes"])
    for pattern in scrapes["rule_files"]:
        source = places.get(str(pathlib.PurePosixPath(pattern).parent))
        if not source or not list((folder / source).glob(pathlib.PurePosixPath(pattern).name)):
            wrong.append(f"no rules are at {pattern}")
    copy = context.folder() / "prometheus.yml"
    copy.write_text(
        (folder / "prometheus/prometheus.yml").read_text().replace("/etc/prometheus/rules", str(context.deploy / "prometheus"))
    )
    verdict = run("promtool", "check", "config", copy)
    if verdict.returncode:
        wrong.append(verdict.stdout + verdict.stderr)
    (source,) = document(folder / "grafana/datasources/prometheus.yaml")["datasources"]
    if source["url"] != "http://prometheus:9090" or source["type"] != "prometheus":
        wrong.append(f"Grafana asks {source['url']}")
    (provider,) = document(folder / "grafana/dashboards/turnwise.yaml")["providers"]
    places = dict(reversed(volume.split(":")[:2]) for volume in services["grafana"]["volumes"])
    dashboards = places.get(provider["options"]["path"])
    home = pathlib.PurePosixPath(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    if not dashboards or str(home.parent) != provider["options"]["path"] or not (folder / dashboards / home.name).exists():
        wrong.append("Grafana does not find the dashboard")
    for place in ("datasources", "dashboards"):
        if places.get(f"/etc/grafana/provisioning/{place}") != f"./grafana/{place}":
            wrong.append(f"Grafana does not find its {place}")
    return wrong


def check_image(context: Context) -> list[str]:
    """The image's last stages, made by their own commands in a folder: the program starts in it, as nobody in particular."""
    if os.geteuid() != 0:
        context.note("image: not checked, that takes root")
        return []
    wrong = []
    folder = context.folder()
    root = folder / "root-of-image"
    for copied in ("usr/local/bin", "etc/ssl/certs"):
        (root / copied).mkdir(parents=True)
    shutil.copy(context.gateway, root / "usr/local/bin/turnwise")
    made = instructions(context.deploy / "Dockerfile")
    stage = [index for index, (word, rest) in enumerate(made) if word == "FROM" and rest.endswith(" AS root")][0]
    steps = []
    for word, rest in made[stage + 1 :]:
        if word == "FROM":
            break
        steps += [rest] if word == "RUN" else []
    for step in steps:
        verdict = run("bash", "-o", "pipefail", "-ec", step, cwd=root)
        if verdict.returncode:
            return [f"{step}: {verdict.stderr}"]
    by_word = {word: rest for word, rest in made}
    user = by_word["USER"].split(":")
    if not all(part.isdigit() and int(part) > 0 for part in user):
        wrong.append(f"USER {by_word['USER']}: only a number is known in an image without a list of users, and not 0")
        return wrong
    if root.stat().st_mode & 0o777 and not (root / by_word["WORKDIR"].lstrip("/")).is_dir():
        wrong.append(f"there is no {by_word['WORKDIR']}")
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    context.note(f"image: {size / MIB:.1f} MiB before compression, {sum(1 for f in root.rglob('*') if f.is_file())} files")
    policy, _, admin = on_loopback(
        context.deploy / "compose/policy/gateway.yaml", root / "etc/turnwise", {"http://agent:8000": "http://localhost:1"}
    )
    policy.chmod(0o644)
    commands = image_commands(context)
    (root / "proc").mkdir()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    enter = [sys.executable, "-c", ENTER, str(root), user[0], user[1]]
    version = run(*enter, *commands["entry"], "--version")
    if version.returncode or not version.stdout.startswith("turnwise "):
        return [*wrong, f"the program does not start in the image: {version.stdout}{version.stderr}"]
    try:
        with running(*enter, *commands["entry"], *commands["serve"], ready=answers(admin)) as process:
            health = [word.replace(":9180", f":{admin}") for word in commands["health"]]
            verdict = run(*enter, *health)
            if verdict.returncode:
                wrong.append(f"HEALTHCHECK in the image: {verdict.stdout}{verdict.stderr}")
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            if f"Uid:\t{user[0]}\t{user[0]}" not in status or "CapEff:\t0000000000000000" not in status:
                wrong.append("it runs with more rights than it was to")
    except RuntimeError as error:
        wrong.append(str(error))
    return wrong


# Goes into a folder as its root, gives up all rights, and becomes the program.
ENTER = """
import os, sys
root, user, group, *command = sys.argv[1:]
os.chroot(root); os.chdir("/var/lib/turnwise")
os.setgroups([]); os.setgid(int(group)); os.setuid(int(user))
os.execve(command[0], command, {})
"""


def unit_values(path: pathlib.Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if re.match(r"\w+=", line):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def unit_here(context: Context) -> pathlib.Path:
    """The unit with the program's path on this machine: systemd-analyze wants it to be there."""
    copy = context.folder() / "turnwise.service"
    copy.write_text((context.deploy / "turnwise.service").read_text().replace("/usr/local/bin/turnwise", str(context.gateway)))
    return copy


def check_unit(context: Context) -> list[str]:
    """systemd-analyze accepts the unit and finds it safe; its times fit the policy's; its user is made."""
    wrong = []
    unit = unit_here(context)
    verdict = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
    if verdict.returncode or verdict.stderr.strip():
        wrong.append(f"systemd-analyze verify: {verdict.stdout}{verdict.stderr}")
    verdict = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}", unit)
    overall = re.search(r"exposure level for \S+: (\S+)", verdict.stdout)
    context.note(f"unit: exposure {overall[1] if overall else '?'} of 10")
    if verdict.returncode or not overall or float(overall[1]) >= EXPOSURE:
        wrong.append(f"systemd-analyze security: {overall[1] if overall else verdict.stderr}, and the most is {EXPOSURE}")
    values = unit_values(unit)
    drain = Policy(context.policy_of_package).drain
    if seconds(values["TimeoutStopSec"][0]) < drain + 5:
        wrong.append(f"systemd kills after {values['TimeoutStopSec'][0]}, and the drain may take {drain:.0f} s")
    if {"3", "130"} - set(values["SuccessExitStatus"][0].split()):
        wrong.append("3 and 130 were asked for and are no failures")
    users = [line.split()[1] for line in (context.deploy / "turnwise.sysusers").read_text().splitlines() if line.startswith("u ")]
    if values["User"] != users or values["Group"] != users:
        wrong.append(f"the service's user is {values['User']}, and turnwise.sysusers makes {users}")
    variables = set(re.findall(r"\$\{(\w+)", context.policy_of_package.read_text()))
    told = set(re.findall(r"^#(\w+)=", (context.deploy / "debian/default").read_text(), re.MULTILINE)) - {"RUST_LOG"}
    if variables != told or values.get("EnvironmentFile") != ["-/etc/default/turnwise"]:
        wrong.append(f"the policy has the variables {sorted(variables)}, and debian/default tells of {sorted(told)}")
    if values["WorkingDirectory"] != [f"/var/lib/{values['StateDirectory'][0]}"]:
        wrong.append("background jobs would be kept where nothing may be written")
    if values["Type"] != ["notify"] or values.get("NotifyAccess") != ["main"]:
        wrong.append("systemd does not wait until it listens")
    return wrong


def check_notify(context: Context) -> list[str]:
    """The program says to systemd what a unit of Type=notify with a watchdog waits for."""
    wrong = []
    folder = context.folder()
    policy, _, admin = on_loopback(
        context.deploy / "compose/policy/gateway.yaml", folder, {"http://agent:8000": "http://127.0.0.1:1"}, drain_delay="1s"
    )
    # A path of a socket has at most 107 octets.
    place = pathlib.Path(tempfile.mkdtemp()) / "s"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(place))
    listener.settimeout(0.2)
    said: list[str] = []

    def hears(word: str, bound: float = 10) -> bool:
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                said.extend(listener.recv(4096).decode().splitlines())
            if any(line == word or (word.endswith("=") and line.startswith(word)) for line in said):
                return True
        return False

    environment = {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": "1000000"}
    try:
        with running(
            context.gateway, "serve", "-c", policy, env=environment, ready=answers(admin)
        ) as process:
            if not hears("READY=1"):
                wrong.append("Type=notify: the program never says READY=1, and systemd ends it after TimeoutStartSec")
            if not hears("WATCHDOG=1", 5):
                wrong.append("WatchdogSec: the program never says WATCHDOG=1, and systemd ends it")
            said.clear()
            process.send_signal(signal.SIGTERM)
            if not hears("STOPPING=1", 5):
                wrong.append("the program does not say STOPPING=1 when it drains")
    finally:
        listener.close()
        shutil.rmtree(place.parent)
    return wrong


def check_system_calls(context: Context) -> list[str]:
    """Everything the program does under load, at a reload and at its end is allowed by the unit's filter."""
    wrong = []
    allowed: set[str] = set()

    def expand(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        listed = run("systemd-analyze", "syscall-filter", "--no-pager", name).stdout.splitlines()
        return set().union(*(expand(line.strip()) for line in listed[1:] if line.strip() and not line.strip().startswith("#")))

    for value in unit_values(context.deploy / "turnwise.service")["SystemCallFilter"]:
        names = set().union(*(expand(name) for name in value.lstrip("~").split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    # systemd itself lets these through.
    allowed |= {
        "execve",
        "exit",
        "exit_group",
        "getrlimit",
        "rt_sigreturn",
        "sigreturn",
        "restart_syscall",
        "arch_prctl",
        "set_thread_area",
    }
    folder = context.folder()
    alive = free_port()
    policy, public, admin = on_loopback(
        context.policy_of_package, folder, {"${AGENT_URL:-http://127.0.0.1:8000}": f"http://localhost:{alive}"}
    )
    trace = folder / "trace"
    server = [sys.executable, "-m", "http.server", str(alive), "--bind", "127.0.0.1"]
    # -D: the program, not strace, is our child, as with systemd, and gets the signals.
    traced = ["strace", "-D", "-f", "-qq", "-o", trace, context.gateway, "serve", "-c", policy]
    with running(*server, cwd=folder, ready=answers(alive, "/")):
        with running(*traced, ready=answers(admin)) as process:
            for number in range(20):
                ask(public, "/gateway.yaml", X_Session_Id=f"s{number % 3}")
                ask(public, "/api/v1/agent/a/run", "POST", X_Session_Id=f"s{number % 3}")
            ask(admin, "/metrics"), ask(admin, "/status"), ask(admin, "/sessions")
            process.send_signal(signal.SIGHUP)
            policy.write_text(policy.read_text() + "\n# changed\n")
            if not comes_true(lambda: re.search(r'"generation":[2-9]', ask(admin, "/status").text), 10):
                wrong.append("the changed policy was not taken")
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)
            # strace writes on a little after the program has ended.
            comes_true(lambda: "exited with" in trace.read_text(errors="replace"), 5)
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    if not {"accept4", "connect"} <= used:
        wrong.append(f"the trace has not seen the program at work: {sorted(used)}")
    context.note(f"system calls: {len(used)} are used, {len(allowed)} allowed")
    # Refused with EPERM, which their callers are made for.
    harmless = {"sched_setaffinity"}
    wrong += [f"the unit forbids {name}, which the program calls" for name in sorted(used - allowed - harmless)]
    return wrong


def check_package(context: Context) -> list[str]:
    """The Debian package is built, the same to the byte each time, and is right once it is installed."""
    wrong = []
    folder = context.folder()
    man, completions = folder / "man", folder / "completions"
    man.mkdir()
    completions.mkdir()
    (man / "turnwise.1").write_text(".TH TURNWISE 1\n.SH NAME\nturnwise \\- makes requests take turns\n")
    for name in ("turnwise.bash", "_turnwise", "turnwise.fish"):
        (completions / name).write_text("# completions\n")
    packages = []
    for number in range(2):
        options = ["--binary", context.gateway, "--out", folder / str(number), "--man", man, "--completions", completions]
        made = run(context.deploy / "debian/build", *options, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
        if made.returncode:
            return [f"debian/build: {made.stdout}{made.stderr}"]
        packages.append(pathlib.Path(made.stdout.splitlines()[-1]))
    if len({hashlib.sha256(package.read_bytes()).digest() for package in packages}) != 1:
        wrong.append("two builds of one program are two packages")
    package = packages[0]
    verdict = run("lintian", "--allow-root", "--fail-on", "error,warning", package, timeout=300)
    if verdict.returncode:
        wrong.append(f"lintian: {verdict.stdout}{verdict.stderr}")
    listed = run("dpkg-deb", "-c", package)
    files = {}
    for line in listed.stdout.splitlines():
        mode, owner, *_, path = line.split(None, 5)
        files[path.removeprefix(".")] = (mode, owner)
    expected = {
        "/usr/bin/turnwise": "-rwxr-xr-x",
        "/etc/turnwise/gateway.yaml": "-rw-r--r--",
        "/etc/default/turnwise": "-rw-r--r--",
        "/lib/systemd/system/turnwise.service": "-rw-r--r--",
        "/usr/lib/sysusers.d/turnwise.conf": "-rw-r--r--",
        "/usr/share/doc/turnwise/copyright": "-rw-r--r--",
        "/usr/share/man/man1/turnwise.1.gz": "-rw-r--r--",
        "/usr/share/bash-completion/completions/turnwise": "-rw-r--r--",
        "/usr/share/zsh/vendor-completions/_turnwise": "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/turnwise.fish": "-rw-r--r--",
    }
    for path, mode in expected.items():
        if files.get(path, ("",))[0] != mode:
            wrong.append(f"{path} is {files.get(path, 'not there')}")
    wrong += [f"{path} is {owner}'s" for path, (_, owner) in files.items() if owner != "root/root"]
    control = run("dpkg-deb", "-f", package).stdout
    version = re.search(r'^version = "(.*)"', (context.root / "Cargo.toml").read_text(), re.MULTILINE)[1]
    if f"Version: {version}-1\n" not in control or "libc6 (>=" not in control:
        wrong.append(f"control: {control}")
    conffiles = run("dpkg-deb", "-I", package, "conffiles").stdout
    if "/etc/turnwise/gateway.yaml\n" not in conffiles or "/etc/default/turnwise\n" not in conffiles:
        wrong.append("an update would write over the policy: it is no conffile")
    if os.geteuid() != 0:
        context.note("package: not installed, that takes root")
        return wrong
    script = folder / "try"
    script.write_text(TRY_PACKAGE.format(package=package, folder=folder))
    tried = run("unshare", "--mount", "--fork", "--pid", "--kill-child", "bash", script, timeout=300)
    if tried.returncode:
        wrong.append(f"installed: {tried.stdout[-3000:]}{tried.stderr[-3000:]}")
    return wrong


# In a mount namespace of its own: an overlay over this machine's root, thrown away at the end.
TRY_PACKAGE = """
set -eu
mount --make-rprivate /
mkdir {folder}/layers
mount -t tmpfs none {folder}/layers
mkdir {folder}/layers/upper {folder}/layers/work {folder}/layers/root
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/layers/upper,workdir={folder}/layers/work {folder}/layers/root
cd {folder}/layers/root
mount -t proc proc proc
mount -t tmpfs none tmp
cp {package} tmp/turnwise.deb
fail() {{ echo "$*"; exit 1; }}
inside() {{ chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }}
inside dpkg --no-triggers -i /tmp/turnwise.deb || fail "dpkg -i"
inside getent passwd turnwise >/dev/null || fail "there is no user turnwise"
as_user() {{ inside setpriv --reuid=turnwise --regid=turnwise --clear-groups "$@"; }}
as_user turnwise --version || fail "the program does not start"
as_user turnwise check -c /etc/turnwise/gateway.yaml || fail "its own policy does not hold"
said=$(inside systemd-analyze verify --man=no /lib/systemd/system/turnwise.service 2>&1) || fail "verify: $said"
[ -z "$said" ] || fail "verify: $said"
inside test -e /etc/systemd/system/multi-user.target.wants/turnwise.service || fail "the service is not enabled"
inside dpkg -V turnwise || fail "dpkg -V"
echo '# mine' >>etc/turnwise/gateway.yaml
inside dpkg --no-triggers -i /tmp/turnwise.deb || fail "dpkg -i again"
grep -q '^# mine' etc/turnwise/gateway.yaml || fail "the policy was written over"
inside dpkg --no-triggers -r turnwise || fail "dpkg -r"
test ! -e usr/bin/turnwise || fail "the program is still there"
test -e etc/turnwise/gateway.yaml || fail "the policy is gone before purge"
inside dpkg --no-triggers -P turnwise || fail "dpkg -P"
test ! -e etc/turnwise/gateway.yaml || fail "the policy is still there"
test ! -e etc/default/turnwise || fail "the defaults are still there"
left=$(find etc/systemd var/lib/systemd var/lib/turnwise -name 'turnwise*' 2>/dev/null || true)
test -z "$left" || fail "still there: $left"
"""


def check_sample_agent(context: Context) -> list[str]:
    """The sample agent behind the policies that are made for it: nothing fails, and every conversation is whole."""
    wrong = []
    port = free_port()
    agent = context.deploy / "compose/agent"
    command = words(next(rest for word, rest in instructions(agent / "Dockerfile") if word == "CMD"))
    command[command.index("--port") + 1] = str(port)
    command[command.index("--host") + 1] = "127.0.0.1"
    policies = {
        "compose": (context.deploy / "compose/policy/gateway.yaml", {"agent:8000": f"127.0.0.1:{port}"}),
        "sidecar": (context.deploy / "kubernetes/overlays/sidecar/gateway.yaml", {"127.0.0.1:8000": f"127.0.0.1:{port}"}),
        # All agents but the last have not been started yet.
        "autoscaled": (
            context.deploy / "kubernetes/overlays/autoscaled/gateway.yaml",
            {"agent-3.agent:8000": f"127.0.0.1:{port}"} | {f"agent-{n}.agent:8000": f"127.0.0.1:{free_port()}" for n in range(3)},
        ),
    }
    environment = {"PYTHONPATH": str(agent), "PYTHONDONTWRITEBYTECODE": "1"}
    with running(sys.executable, "-m", *command, env=environment, ready=answers(port, "/health")):
        for name, (file, hosts) in policies.items():
            policy, public, admin = on_loopback(file, context.folder(), hosts, drain_delay="0s")
            with running(context.gateway, "serve", "-c", policy, ready=answers(admin)):
                statuses: list[int] = []

                def talk(number: int) -> None:
                    body = {"session_name": f"{name}-{number % 4}", "message_content": str(number)}
                    sent = json.dumps(body).encode()
                    said = ask(public, "/api/v1/agent/simple/run", "POST", sent, within=60, Content_Type="application/json")
                    statuses.append(said.status)

                clients = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join(timeout=90)
                if statuses != [200] * 8:
                    wrong.append(f"{name}: {statuses}")
                for session in range(4):
                    remembered = json.loads(ask(public, f"/api/v1/sessions/{name}-{session}").text or "{}").get("messages", [])
                    if sorted(remembered) != [str(number) for number in range(8) if number % 4 == session]:
                        wrong.append(f"{name}: a conversation remembers {remembered}")
    return wrong


def check_documentation(context: Context) -> list[str]:
    """Every path of the repository that docs/deployment.md or a comment in deploy/ names is there."""
    wrong = []
    texts = [context.root / "docs/deployment.md"]
    texts += [path for path in context.deploy.rglob("*") if path.is_file() and path.suffix not in (".json", ".pyc")]
    for path in texts:
        for named in set(re.findall(r"(?<![\w/$}.])(?:deploy|docs)/[\w./-]+\w", path.read_text())):
            there = (context.root / named).exists() or re.fullmatch(r"deploy/(man|completions)", named)
            if not there and not (context.root / "deploy/kubernetes" / named).exists():
                wrong.append(f"{path.relative_to(context.root)} names {named}, which is not there")
    return wrong


CHECKS = {
    name.removeprefix("check_").replace("_", "-"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}


def mutate(options, work: pathlib.Path) -> int:
    """Puts each fault into a copy and sees whether it is found."""
    missed = 0
    mutations = {name: faults for name, faults in document(HERE / "deploy/mutations.yaml").items() if name in options.only}
    for name, faults in mutations.items():
        if CHECKS[name](Context(options.root, options.gateway, work)):
            print(f"MISPLACED {name}: it fails without a fault")
            missed += 1
            continue
        for fault in faults:
            copy = pathlib.Path(tempfile.mkdtemp(dir=work))
            for part in (
                "deploy",
                "docs",
                "src",
                "tests/real/requirements.txt",
                "gateway.yaml",
                "Cargo.toml",
                "README.md",
                "CHANGELOG.md",
            ):
                source, target = options.root / part, copy / part
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            for part in ("benches", "tests", "Cargo.lock"):
                (copy / part).touch() if part == "Cargo.lock" else (copy / part).mkdir(exist_ok=True)
            file = copy / fault["file"]
            text = file.read_text()
            if fault["old"] not in text:
                print(f"MISPLACED {name}: {fault['file']} has no {fault['old']!r}")
                missed += 1
                continue
            file.write_text(text.replace(fault["old"], fault["new"], fault.get("times", 1)))
            try:
                found = CHECKS[name](Context(copy, options.gateway, work))
            except Exception as error:  # a check that breaks off has found something, too
                found = [f"{type(error).__name__}: {error}"]
            print(f"{'found' if found else 'MISSED'} {name}: {fault['file']}: {fault['old']!r} -> {fault['new']!r}", flush=True)
            if found and options.verbose:
                print("      " + found[0].splitlines()[0][:200])
            missed += not found
            shutil.rmtree(copy)
    untried = set(options.only) - set(mutations) - {"notify"}
    print(f"{missed} faults were missed" + (f"; no fault is known for {', '.join(sorted(untried))}" if untried else ""))
    return 1 if missed or untried else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, type=lambda path: pathlib.Path(path).resolve(), help="the turnwise binary")
    parser.add_argument("--root", type=lambda path: pathlib.Path(path).resolve(), default=HERE.parents[1], help="the repository")
    parser.add_argument("--only", nargs="+", choices=sorted(CHECKS), default=list(CHECKS))
    parser.add_argument("--mutate", action="store_true", help="see whether each check can fail")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    # Not in /tmp, from where programs may not be started everywhere.
    with tempfile.TemporaryDirectory(dir=options.gateway.parent, prefix="deploy-") as name:
        work = pathlib.Path(name)
        # The user of the image has to get in.
        work.chmod(0o755)
        if options.mutate:
            return mutate(options, work)
        failed = []
        for check in options.only:
            context = Context(options.root, options.gateway, work)
            began = time.monotonic()
            wrong = CHECKS[check](context)
            print(f"{'FAILED' if wrong else 'ok':6} {check} ({time.monotonic() - began:.1f} s)", flush=True)
            for text in context.notes:
                print(f"       {text}")
            for problem in wrong:
                print("       " + problem.strip().replace("\n", "\n       "))
            failed += [check] if wrong else []
    print(f"failed: {', '.join(failed)}" if failed else "everything in deploy/ holds together")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
