"""The scripts of varnishtest in `vtc/`, each a client and a server with the proxy between them."""

import pathlib
import re
import subprocess

from rig import HERE, Counts, Proxy, program


def run(proxy: Proxy, script: int, folder: pathlib.Path, only: str = "") -> Counts:
    counts = Counts()
    macros = {"script": script, "proxy": proxy.ports["clear"], "http2": proxy.ports["http2"], "proxied": proxy.ports["proxied"]}
    defined = [word for name, port in macros.items() for word in ("-D", f"{name}=127.0.0.1:{port}")]
    for file in sorted((HERE / "vtc").glob("*.vtc")):
        if only not in file.stem:
            continue
        command = [program("varnishtest"), "-b", "32M", "-t", "10", *defined, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        (folder / f"{file.stem}.log").write_text(done.stdout + done.stderr)
        problem = None
        if done.returncode:
            wrong = re.findall(r"^---- (.*)$", done.stdout, re.MULTILINE)
            problem = " | ".join(wrong) or done.stdout[-300:]
        counts.check(file.stem, problem)
    return counts
