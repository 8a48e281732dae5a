"""h2spec and h1spec, where there are copies of them: neither is in a package registry."""

import re
import subprocess
import xml.etree.ElementTree

from rig import Counts, Proxy, program


def h2spec(proxy: Proxy, kind: str, binary: str, report) -> Counts:
    """All its cases, the strict ones too."""
    counts = Counts()
    command = [binary, "-h", "localhost", "-p", str(proxy.ports[kind]), "-S", "-o", "3", "-P", "/word", "-j", str(report)]
    if kind == "tls":
        command += ["-t", "-k"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=900).stdout
    report.with_suffix(".txt").write_text(output)
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('package')} {case.get('classname')}"
        wrong = [one for kind in ("failure", "error") for one in case.findall(kind)]
        skipped = case.find("skipped")
        if skipped is not None:
            counts.skipped[name] = "skipped"
        else:
            counts.check(name, " ".join((wrong[0].text or "error").split()) if wrong else None)
    return counts


def h1spec(proxy: Proxy, suite: str, deno: str, report) -> Counts:
    counts = Counts()
    command = [deno, "run", "--no-check", "--no-remote", "--no-config", "--allow-net", suite, "localhost", str(proxy.ports["clear"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    report.write_text(done.stdout + done.stderr)
    for mark, name, what in re.findall(r"^(✅|❌) ([^:]+): (.*)$", done.stdout + done.stderr, re.MULTILINE):
        counts.check(name, None if mark == "✅" else what)
    return counts
