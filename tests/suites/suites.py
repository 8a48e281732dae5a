"""Suites and clients of others against Turnwise, HAProxy and nginx: one table.

    python tests/suites/suites.py --gateway target/release/turnwise --modules target/suites/node_modules \
        [--wstest PATH] [--h2spec PATH] [--h1spec FILE] [--only clients,tls] [--proxies turnwise,nginx]

The exit code is 1 when Turnwise fails a case that is not among `KNOWN`.
"""

import argparse
import atexit
import pathlib
import shutil
import tempfile

import clients
import conformance
import rig
import scripts
import slow
import sockets
import tls

# What is right as it is, and why.
KNOWN = {
    "http2/3.5 Sends invalid connection preface": "without TLS it is read as HTTP/1, and its answer is 400 and the close",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--modules", required=True, type=pathlib.Path, help="node_modules with what package.json names")
    parser.add_argument("--wstest", help="the program of autobahntestsuite, which needs Python 2")
    parser.add_argument("--h2spec", help="the program")
    parser.add_argument("--h1spec", help="its http_test.ts")
    parser.add_argument("--only", default="h2spec,h1spec,scripts,autobahn,sockets,slow,clients,testssl,sslscan,tls")
    parser.add_argument("--proxies", default=",".join(rig.NAMES))
    parser.add_argument("--output", type=pathlib.Path, help="folder for what the suites write")
    options = parser.parse_args()
    wanted, names = options.only.split(","), options.proxies.split(",")

    folder = pathlib.Path(tempfile.mkdtemp(prefix="turnwise-suites-"))
    # nginx opens its files as another user.
    folder.chmod(0o755)
    output = options.output or folder / "output"
    output.mkdir(parents=True, exist_ok=True)
    rig.certificates(folder)
    opened: list = []

    @atexit.register
    def close() -> None:
        for one in reversed(opened):
            one.close()
        shutil.rmtree(folder, ignore_errors=True)

    site = rig.Site(folder, options.modules)
    opened.append(site)
    script = rig.free_port()
    proxies = {}
    for name in names:
        proxies[name] = rig.Proxy(name, folder, site.port, script, options.gateway)
        opened.append(proxies[name])

    modules = options.modules.resolve()
    deno = str(modules / ".bin" / "deno")
    table: dict[str, dict[str, rig.Counts | str]] = {}
    lines: list[str] = []

    def suite(title: str, key: str, work, possible: bool = True) -> None:
        if key not in wanted:
            return
        table[title] = {}
        for name, proxy in proxies.items():
            if not possible:
                table[title][name] = "not here"
                continue
            print(f"{title}: {name}", flush=True)
            try:
                counts = work(proxy)
            except Exception as error:
                # What the other suites have found is worth no less for that.
                counts = rig.Counts()
                counts.check("it ran to its end", f"{type(error).__name__}: {error}")
            table[title][name] = counts
            if problems := proxy.unrest(within=100):
                counts.check("at rest afterwards", "; ".join(problems))

    def slowly(proxy: rig.Proxy) -> rig.Counts:
        counts, own = slow.run(proxy, output)
        lines.extend(own)
        return counts

    def listed(proxy: rig.Proxy) -> rig.Counts:
        own = output / f"vtc-{proxy.name}"
        own.mkdir(exist_ok=True)
        return scripts.run(proxy, script, own)

    for kind, title in (("http2", "h2spec"), ("tls", "h2spec over TLS")):
        suite(title, "h2spec", lambda proxy: conformance.h2spec(proxy, kind, options.h2spec, output / f"h2spec-{proxy.name}-{kind}.xml"), bool(options.h2spec))
    suite("h1spec", "h1spec", lambda proxy: conformance.h1spec(proxy, options.h1spec, deno, output / f"h1spec-{proxy.name}.txt"), bool(options.h1spec))
    suite("varnishtest", "scripts", listed)
    suite("autobahn", "autobahn", lambda proxy: sockets.autobahn(proxy.name, proxy.ports["clear"], options.wstest, output), bool(options.wstest))
    suite("websockets, ws", "sockets", lambda proxy: sockets.clients(proxy, modules))
    suite("slowhttptest", "slow", slowly)
    suite("clients", "clients", lambda proxy: clients.run(proxy, folder, modules))
    suite("testssl.sh", "testssl", lambda proxy: tls.testssl(proxy, output))
    suite("sslscan", "sslscan", lambda proxy: tls.sslscan(proxy, output))
    suite("TLS cases", "tls", tls.run)

    print()
    print(f"{'suite':18} " + " ".join(f"{name:>16}" for name in names))
    for title, row in table.items():
        print(f"{title:18} " + " ".join(f"{str(row[name]):>16}" for name in names))
    for line in lines:
        print(line)
    wrong = 0
    for title, row in table.items():
        for name in names:
            for case, problem in getattr(row[name], "failed", {}).items():
                known = KNOWN.get(case) if name == "turnwise" else None
                wrong += name == "turnwise" and not known
                print(f"\n{name}, {title}: {case}\n    {problem}" + (f"\n    known: {known}" if known else ""))
    for one in (proxies[name] for name in names):
        opened.remove(one)
        for problem in one.close():
            print(problem)
            wrong += 1
    print(f"\n{wrong} unexpected failures of Turnwise")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
