"""The JSON schema of the policy file, by a real validator, beside what the program itself says of the same files.

Every policy of the repository, in files and in documents, is taken by both. A policy with every key there is is changed in one place
after the other: what the program takes, the schema takes; where the program tells of an unknown key, the schema refuses it as well.

    python tests/real/schema.py --gateway target/release/turnwise [--seed N] [--values N]
"""

import argparse
import concurrent.futures
import copy
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import jsonschema
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

SMALLEST = {"upstreams": {"agents": {"servers": ["http://127.0.0.1:8000"]}}}

# A policy with every key; `every_key` finds those that are missing here.
FULL = """
listen:
  - 127.0.0.1:8080
  - address: ":8443"
    tls: { cert: c.pem, key: k.pem, client_ca: a.pem, certificates: [{ cert: d.pem, key: l.pem }] }
    proxy_protocol: true
admin: { listen: "127.0.0.1:9180", token_file: token }
server:
  workers: 2
  max_connections: 10000
  header_timeout: 10s
  keep_alive_timeout: 75s
  max_header_bytes: 64KiB
  drain_delay: 0s
  drain_timeout: 30s
  trusted_proxies: [10.0.0.0/8, "::1"]
limits:
  { concurrency: 100, queue: 1000, queue_bytes: 256MiB, queue_timeout: 30s, fair_by: { header: X-Api-Key }, queue_share: 50%, keys: 1000 }
upstreams:
  agents:
    servers: ["http://127.0.0.1:8000", { url: "http://agent:81", weight: 2, concurrency: 3 }]
    concurrency: 3
    balance: session
    connect_timeout: 1.5s
    pool: { max_idle: 0, idle_timeout: 60s }
    health: { path: "/health?x=1", interval: 5s, timeout: 2s, healthy_after: 1, unhealthy_after: 3 }
    eject: { after_failures: 5, for: 10s }
    retry: { attempts: 2, on: [connect, status_429] }
    http2: false
  others:
    servers: ["https://other"]
    health: null
    tls: { ca: a.pem, cert: c.pem, key: k.pem, server_name: other.example }
defaults:
  priority: high
  exempt: false
  concurrency: 7
  body_limit: 1MiB
  session: { lane: shared, queue: 3 }
  rate_limits: []
  timeouts: { total: 0s }
  abandoned: finish
  abandoned_limit: 5s
  background: off
routes:
  - name: runs
    match: { path: "/agent/{agent}/run", methods: [POST], hosts: ["api.example.com:80"], headers: { X-Kind: beta } }
    upstream: agents
    priority: normal
    exempt: false
    concurrency: null
    body_limit: 16MiB
    session:
      key: [{ header: X-Session-Id }, { json: /session_id }, { form: sid }, { query: sid }, { cookie: sid }, { path: agent }]
      within: [{ header: X-Api-Key }]
      lane: runs
      anonymous: separate
      assign: { json: /session_id }
      concurrency: 1
      queue: 32
      queue_timeout: 60s
      when_busy: wait
      when_busy_choices: [reject, interrupt]
      duplicates: join
      replay_for: 5m
      reentrant: true
      while_waiting: comments
    rate_limits:
      - { per: session, rate: 5/s, burst: 10, when_exceeded: wait, name: one, queue: 5, queue_timeout: 30s }
      - { per: { header: X-Api-Key }, rate: 600/min }
    timeouts: { request: 60s, response: 30s, idle: 60s, total: 10m }
    abandoned: auto
    abandoned_limit: 60s
    background: prefer
  - { name: events, match: { path_prefix: /mcp }, upstream: others, session: { key: [{ query: sid }], assign: { header: X-Session-Id }, lane: other } }
  - { name: rest, upstream: agents, session: null }
background:
  { store: jobs, store_bytes: 1GiB, workers: 5, queue: 1000, attempts: 3, retry_delay: 5s, keep_results: 1h, max_result: 1MiB }
"""

# Written in the place of one value after the other.
VALUES = [
    None, True, False, 0, 1, 5, 1025, 10**7, 2**41, -1, 1.5, "", "x", "off", "on", "null", "true", "7", "0s", "1s", "250ms", "30", "721h", "0.5m",
    "100", "64KB", "64KiB", "1000GiB", "2048GiB", "0%", "1%", "150%", "5/s", "0/s", "5/day", "auto", "client_ip", "/a", "/a/{agent}", "/{a",
    "http://a", "https://a:1/", "http://a/x", "::1", ":81", "127.0.0.1:0", "GET", "get", "X-Y", "X_Y", "a b", "é", "a" * 70, "a" * 200,
    "${NUMBER}", "${NUMBER:-1s}", "${NOTHING:-}", "$${x}", [], ["x"], {}, {"header": "X-Y"}, {"header": "X-Y", "json": "/a"}, [{"header": "X"}],
    [[]],
]


class Yaml(yaml.SafeLoader):
    """YAML 1.2, as the gateway and editors read it: `on` and `off` are words, and nothing is a date."""


Yaml.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+0123456789.")),
    ("merge", r"^<<$", ["<"]),
]:
    Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


class Judges:
    """The program and the validator."""

    def __init__(self, gateway: pathlib.Path, work: pathlib.Path):
        self.gateway, self.work = gateway, work
        text = subprocess.run([gateway, "schema"], capture_output=True, text=True, timeout=60, check=True).stdout
        self.schema = json.loads(text)
        jsonschema.Draft202012Validator.check_schema(self.schema)
        self.validator = jsonschema.Draft202012Validator(self.schema)

    def problems(self, text: str) -> list[dict]:
        """What the program says of a policy, in a folder of its own."""
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            path = pathlib.Path(name) / "gateway.yaml"
            path.write_text(text)
            return self.check(path)

    def check(self, path: pathlib.Path) -> list[dict]:
        command = [self.gateway, "check", "-c", path, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "NUMBER": "7"})
        said = json.loads(done.stdout)
        assert said["valid"] == (done.returncode == 0), done
        return said["problems"]

    def errors(self, policy) -> list[str]:
        """What the validator says."""
        return [f"{error.json_path}: {error.message:.150}" for error in self.validator.iter_errors(policy)]


def blocks(path: pathlib.Path) -> list[tuple[int, str]]:
    """Blocks of YAML in a document, each with its line."""
    found = []
    for match in re.finditer(r"^( *)```yaml\n(.*?)^ *```$", path.read_text(), re.M | re.S):
        line = path.read_text()[: match.start()].count("\n") + 1
        indent = len(match[1])
        found.append((line, "\n".join(row[indent:] for row in match[2].splitlines())))
    return found


def whole(fragment, schema: dict):
    """A policy with this fragment in it, or None when it is none of a policy."""
    routes = schema["$defs"]["route"]["properties"]
    if isinstance(fragment, list) and fragment and all(isinstance(item, dict) and item.keys() <= routes.keys() for item in fragment):
        return {**SMALLEST, "routes": fragment}
    if not isinstance(fragment, dict):
        return None
    if fragment.keys() <= schema["properties"].keys():
        return {**SMALLEST, **fragment}
    if fragment.keys() <= routes.keys():
        return {**SMALLEST, "routes": [fragment]}
    return None


def of_the_repository(judges: Judges) -> list[str]:
    wrong, files, fragments = [], 0, 0
    # Those of benches and tests are templates.
    paths = [ROOT / "gateway.yaml", ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.y*ml")]
    for path in sorted(paths):
        name = path.relative_to(ROOT)
        if path.suffix == ".md":
            for line, text in blocks(path):
                try:
                    fragment = yaml.load(text, Yaml)
                except yaml.YAMLError as error:
                    wrong.append(f"{name}:{line}: {error}")
                    continue
                policy = whole(fragment, judges.schema)
                # A route of an upstream that the document speaks of elsewhere is sound all the same.
                if policy:
                    fragments += 1
                    wrong += [f"{name}:{line}: {error}" for error in judges.errors(policy)]
                    unknown = [said for said in judges.problems(json.dumps(policy)) if said["message"] == "unknown key"]
                    wrong += [f"{name}:{line}: {said['path']}: unknown key" for said in unknown]
            continue
        text = path.read_text()
        if not re.search(r"^upstreams:", text, re.M):
            continue
        files += 1
        wrong += [f"{name}: {error}" for error in judges.errors(yaml.load(text, Yaml))]
        wrong += [f"{name}: {said['path']}: {said['message']}" for said in judges.problems(text)]
    if files < 5 or fragments < 12:
        wrong.append(f"only {files} policies and {fragments} parts of policies were found")
    print(f"     {files} policies, {fragments} parts of policies in documents")
    return wrong


def of_the_fuzzers(judges: Judges) -> list[str]:
    wrong, taken = [], 0
    for path in sorted((ROOT / "tests/fuzz/corpus/policy").iterdir()):
        text = path.read_bytes()
        said = judges.check(path)
        try:
            policy = yaml.load(text, Yaml)
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        taken += not said
        wrong += compare(path.name, said, judges.errors(policy))
    print(f"     {taken} of them hold")
    return wrong


def compare(what: str, said: list[dict], errors: list[str]) -> list[str]:
    if not said and errors:
        return [f"{what}: the program takes it, the schema does not: {errors[0]}"]
    if any(problem["message"] == "unknown key" for problem in said) and not errors:
        return [f"{what}: an unknown key that the schema takes"]
    return []


def every_key(judges: Judges) -> list[str]:
    """That no key is missing in FULL."""
    reached = set()

    def walk(schema, value):
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return walk(judges.schema["$defs"][name] | {"title": name}, value)
        for alternative in schema.get("anyOf", []):
            walk(alternative, value)
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in schema.get("properties", {}):
                    reached.add((schema["title"], key))
                    walk(schema["properties"][key], inner)
                elif isinstance(schema.get("additionalProperties"), dict):
                    walk(schema["additionalProperties"], inner)
        if isinstance(value, list):
            for item in value:
                walk(schema.get("items", {}), item)

    walk(judges.schema, yaml.load(FULL, Yaml))
    tables = {judges.schema["title"]: judges.schema, **judges.schema["$defs"]}
    known = {(name, key) for name, table in tables.items() for key in table.get("properties", {})}
    return [f"{name}.{key} is not in the full policy" for name, key in sorted(known - reached)]


def places(value, path=()):
    """Every place in a value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(policy, path, value):
    policy = copy.deepcopy(policy)
    at(policy, path[:-1])[path[-1]] = copy.deepcopy(value)
    return policy


def one_change(judges: Judges, seed: int, values: int) -> list[str]:
    full = yaml.load(FULL, Yaml)
    if said := judges.problems(json.dumps(full)):
        # Files of TLS and tokens are not there; nothing else is wrong with it.
        return [f"{problem['path']}: {problem['message']}" for problem in said]
    if errors := judges.errors(full):
        return errors
    dice = random.Random(seed)
    cases = []
    for path in places(full):
        where = at(full, path)
        if isinstance(where, dict):
            cases.append((f"a key more in {path}", changed(full, (*path, "nonsense"), 1)))
            for key in where:
                misspelt = copy.deepcopy(full)
                inside = at(misspelt, path)
                inside[key[:-1] + "x"] = inside.pop(key)
                cases.append((f"{key} misspelt in {path}", misspelt))
                without = copy.deepcopy(full)
                del at(without, path)[key]
                cases.append((f"no {key} in {path}", without))
        if path:
            chosen = VALUES if values >= len(VALUES) else dice.sample(VALUES, values)
            cases += [(f"{value!r} at {path}", changed(full, path, value)) for value in chosen]

    def judge(case):
        what, policy = case
        said, errors = judges.problems(json.dumps(policy)), judges.errors(policy)
        return compare(what, said, errors), bool(said), bool(errors)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        judged = list(pool.map(judge, cases))
    wrong = [text for texts, _, _ in judged for text in texts]
    refused = sum(said for _, said, _ in judged)
    seen = sum(said and errors for _, said, errors in judged)
    print(f"     {len(cases)} changes; the program refuses {refused}, the schema {seen} of those (seed {seed})")
    if seen < 0.8 * refused:
        wrong.append("the schema sees less than four fifths of what the program refuses")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, type=lambda path: pathlib.Path(path).resolve(), help="the turnwise binary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--values", type=int, default=8, help="how many values are tried in each place")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        judges = Judges(options.gateway, pathlib.Path(name))
        checks = {
            "the committed schema is the program's": lambda: []
            if json.loads((ROOT / "docs/gateway.schema.json").read_text()) == judges.schema
            else ["docs/gateway.schema.json is another"],
            "policies of the repository": lambda: of_the_repository(judges),
            "policies of the fuzzers": lambda: of_the_fuzzers(judges),
            "the full policy has every key": lambda: every_key(judges),
            "one change": lambda: one_change(judges, options.seed, options.values),
        }
        for what, check in checks.items():
            wrong = check()
            print(f"{'FAILED' if wrong else 'ok':6} {what}", flush=True)
            for text in wrong[:40]:
                print("       " + text)
            failed = failed or bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
