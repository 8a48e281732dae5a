"""What can become of the policy file while the gateway runs, and of signals that come too often."""

import functools
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import typing

from claims import Failed, require, soon

from .rig import Rig, status
from .table import Row

# Not root, who can read everything.
NOBODY = 65534


class Load:
    """Clients that ask one request after the other; none of them may notice anything."""

    def __init__(self, rig: Rig, clients: int = 4):
        self.rig = rig
        self.going = True
        self.answered = 0
        self.problems: list[Failed] = []
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def _ask(self, number: int) -> None:
        try:
            with self.rig.client() as client:
                while self.going:
                    client.ask(f"/load/{number}").answer().ok()
                    self.answered += 1
                    # Not all of the machine: signals and files are what this is about.
                    time.sleep(0.001)
        except (Failed, OSError) as failed:
            self.problems.append(Failed(str(failed)))

    def go_on(self) -> None:
        """Some more requests are answered."""
        seen = self.answered
        soon("requests are served", lambda: self.problems or self.answered > seen + 20)

    def __exit__(self, *_: object) -> None:
        self.going = False
        for thread in self.threads:
            thread.join()

    def check(self) -> None:
        require(not self.problems, "a request was lost", *self.problems)
        executed = self.rig.upstream.count("/load")
        require(executed == self.answered, "not each was executed once", executed, self.answered)


def replace(path: pathlib.Path, text: str | bytes) -> None:
    """As editors do: a new file with the old name."""
    new = path.with_name("new")
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.rename(path)


def deleted(path: pathlib.Path, text: str) -> None:
    path.unlink()


def truncated(path: pathlib.Path, text: str) -> None:
    path.write_text("")


def cut_in_half(path: pathlib.Path, text: str) -> None:
    path.write_text(text[: text.index("  - { name: all }") - 10])


def a_directory(path: pathlib.Path, text: str) -> None:
    path.unlink()
    path.mkdir()


def unreadable(path: pathlib.Path, text: str) -> None:
    replace(path, text + "# another\n")
    path.chmod(0)


def a_fifo(path: pathlib.Path, text: str) -> None:
    path.unlink()
    os.mkfifo(path)


def a_symlink_loop(path: pathlib.Path, text: str) -> None:
    path.unlink()
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def endless(path: pathlib.Path, text: str) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def over_a_mebibyte(path: pathlib.Path, text: str) -> None:
    replace(path, text + "#" * (1 << 20))


def not_utf_8(path: pathlib.Path, text: str) -> None:
    replace(path, text.encode() + b"# \xff\xfe\n")


def wrong(path: pathlib.Path, text: str) -> None:
    replace(path, text.replace("concurrency: 2", "concurency: 2"))


BAD = [deleted, truncated, cut_in_half, a_directory, unreadable, a_fifo, a_symlink_loop, endless, over_a_mebibyte]
BAD += [not_utf_8, wrong]


def clear(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def last_good_one_stays(binary: str, spoil: typing.Callable) -> str:
    with Rig(binary, popen={"user": NOBODY}) as rig:
        before = rig.gateway.metric("turnwise_config_generation")
        with Load(rig) as load:
            load.go_on()
            spoil(rig.policy, rig.text)
            # By itself, and when it is told to.
            soon("it is noticed", lambda: rig.gateway.metric("turnwise_config_last_reload_successful") == 0, within=10)
            rig.gateway.signal(signal.SIGHUP)
            answer, _ = rig.gateway.admin("/-/reload", "POST")
            require(answer == 422, "the reload was not refused", answer)
            load.go_on()
            require(rig.gateway.metric("turnwise_config_generation") == before, "the policy in force is another")
            require(status(rig)["policy"]["last_error"], "/status has no last_error")
            does_not_start(rig)
            clear(rig.policy)
            replace(rig.policy, rig.text.replace("queue_timeout: 30s", "queue: 77"))
            soon("the mended one is in force", lambda: status(rig)["limits"]["queue"] == 77, within=10)
            require(rig.gateway.metric("turnwise_config_last_reload_successful") == 1, "not successful")
            load.go_on()
        load.check()
        rig.settle()
        return f"{load.answered} requests served meanwhile; a start with it exits 1"


def does_not_start(rig: Rig) -> None:
    command = [rig.binary, "serve", "-c", str(rig.policy)]
    started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, user=NOBODY)
    require(started.returncode == 1, f"it exits with {started.returncode} at start", started.stderr[-300:])
    require("gateway.yaml" in started.stderr, "it does not name the file", started.stderr[-300:])


def swapped_a_thousand_times(binary: str, mounted: bool) -> str:
    """Every second content has half of the places."""
    with Rig(binary, mounted=mounted) as rig:
        swap = swap_of_a_mount if mounted else replace
        with Load(rig, 6) as load:
            load.go_on()
            for number in range(1000):
                places = 1 + number % 2
                swap(rig.policy, rig.text.replace("concurrency: 2", f"concurrency: {places}") + f"# {number}\n")
                if number % 10 == 0:
                    # What changes as fast as this is not looked at by itself.
                    rig.gateway.signal(signal.SIGHUP)
                    time.sleep(0.02)
            swap(rig.policy, rig.text.replace("queue_timeout: 30s", "queue: 777"))
            soon("the last one is in force", lambda: status(rig)["limits"]["queue"] == 777, within=10)
            load.go_on()
        load.check()
        require(rig.upstream.peak <= 2, f"{rig.upstream.peak} ran at once")
        reloads = rig.gateway.by("turnwise_config_reloads_total", "result")
        require(not reloads["failure"] and reloads["success"] > 50, "reloads failed, or there were few", reloads)
        rig.settle()
        return f"{load.answered} requests served meanwhile, {reloads['success']} reloads"


def swap_of_a_mount(path: pathlib.Path, text: str) -> None:
    """As Kubernetes does with a ConfigMap: `..data` is swapped for a link to a new folder."""
    folder = path.parent
    old = os.readlink(folder / "..data")
    new = folder / f"..{time.monotonic_ns()}"
    new.mkdir()
    (new / path.name).write_text(text)
    (folder / "..data_tmp").symlink_to(new.name)
    (folder / "..data_tmp").rename(folder / "..data")
    shutil.rmtree(folder / old)


def storm(binary: str) -> str:
    """SIGHUPs without a pause, while the file changes."""
    with Rig(binary) as rig:
        with Load(rig) as load:
            load.go_on()
            for number in range(3000):
                rig.gateway.signal(signal.SIGHUP)
                if number % 100 == 0:
                    replace(rig.policy, rig.text + f"# {number}\n")
                    time.sleep(0.01)
            replace(rig.policy, rig.text.replace("queue_timeout: 30s", "queue: 777"))
            rig.gateway.signal(signal.SIGHUP)
            soon("the last one is in force", lambda: status(rig)["limits"]["queue"] == 777, within=10)
            load.go_on()
        load.check()
        reloads = rig.gateway.by("turnwise_config_reloads_total", "result")
        require(not reloads["failure"], "a reload failed", reloads)
        rig.settle()
        return f"{load.answered} requests served meanwhile, {reloads['success']} reloads"


def spoilt_while_some_wait(binary: str) -> str:
    """A policy that comes and goes while requests run and wait: they keep their places."""
    with Rig(binary) as rig:
        running = rig.occupy()
        waiting = [rig.client().ask(f"/waits/{number}") for number in range(4)]
        rig.waiting("place", 4)
        for number in range(3):
            replace(rig.policy, rig.text.replace("limits:", "limit:"))
            rig.gateway.admin("/-/reload", "POST")
            replace(rig.policy, rig.text + f"# {number}\n")
            require(rig.gateway.admin("/-/reload", "POST")[0] == 200, "the good one was refused")
        rig.waiting("place", 4)
        require(rig.upstream.running == 2, f"{rig.upstream.running} run")
        rig.upstream.open()
        for client in running + waiting:
            with client:
                client.answer().ok()
        rig.settle()
        return "6 of 6 served"


def rows() -> list[Row]:
    found = []
    for spoil in BAD:
        name = f"policy file {spoil.__name__.replace('_', ' ')}"
        found.append((name, functools.partial(last_good_one_stays, spoil=spoil)))
    for mounted, way in ((False, "by rename"), (True, "as a ConfigMap")):
        run = functools.partial(swapped_a_thousand_times, mounted=mounted)
        found.append((f"policy file swapped 1000 times under load, {way}", run))
    found.append(("policy file spoilt and mended while requests run and wait", spoilt_while_some_wait))
    found.append(("SIGHUP 3000 times under load", storm))
    return [Row(name, run) for name, run in found]


ROWS = rows()
