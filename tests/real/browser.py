"""A headless Chromium, driven through its DevTools protocol over two pipes: what it shows, asks for and complains of.

Nothing but the standard library: messages are JSON, each ended by a zero octet.
"""

import base64
import json
import os
import pathlib
import queue
import shlex
import subprocess
import tempfile
import threading
import typing

from claims import comes_true

PATIENCE = 30


class Lost(Exception):
    pass


def chromium(folder: str, *more: str) -> list[str]:
    """The command for one that keeps its things in a folder, and asks nobody for anything of its own accord."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"]
    return [*command, f"--user-data-dir={folder}", *more]


class Browser:
    """One Chromium. `resolve` are rules for names, as in `MAP name 127.0.0.1`."""

    def __init__(self, resolve: str = ""):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        their_in, self.out = os.pipe()
        self.into, their_out = os.pipe()
        command = chromium(self.folder.name, "--remote-debugging-pipe", "--lang=en-US", "--hide-scrollbars")
        if resolve:
            command.append(f"--host-resolver-rules={resolve}")
        # The browser reads from descriptor 3 and writes to 4.
        shell = f"exec {shlex.join([*command, 'about:blank'])} 3<&{their_in} 4>&{their_out}"
        self.log = pathlib.Path(self.folder.name) / "browser.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(["bash", "-c", shell], stdout=log, stderr=log, pass_fds=(their_in, their_out))
        os.close(their_in)
        os.close(their_out)
        self.number = 0
        self.answers: dict[int, queue.Queue] = {}
        self.pages: dict[str, "Page"] = {}
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        with os.fdopen(self.into, "rb") as stream:
            rest = b""
            while piece := stream.read1(1 << 20):
                *messages, rest = (rest + piece).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self.answers[message["id"]].put(message)
                    elif page := self.pages.get(message.get("sessionId", "")):
                        page.events.append(message)

    def ask(self, method: str, session: str | None = None, **params: typing.Any) -> dict:
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.answers[number] = queue.Queue()
        os.write(self.out, json.dumps(message).encode() + b"\0")
        try:
            answer = self.answers[number].get(timeout=PATIENCE)
        except queue.Empty:
            raise Lost(f"no answer to {method} | {self.log.read_text()[-2000:]}") from None
        if "error" in answer:
            raise Lost(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, width: int = 1280, height: int = 900, dark: bool = False) -> "Page":
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        self.pages[session] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        page.look(width, height, dark)
        return page

    def close(self) -> None:
        try:
            self.ask("Browser.close")
            self.process.wait(10)
        except (Lost, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        self.folder.cleanup()


class Page:
    def __init__(self, browser: Browser, session: str, target: str):
        self.browser = browser
        self.session = session
        self.target = target
        self.events: list[dict] = []

    def ask(self, method: str, **params: typing.Any) -> dict:
        return self.browser.ask(method, self.session, **params)

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self.target)

    def look(self, width: int, height: int, dark: bool) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        failed = self.ask("Page.navigate", url=url).get("errorText")
        if failed:
            raise Lost(f"{url}: {failed}")
        self.until("document.readyState === 'complete'", url)

    def value(self, script: str) -> typing.Any:
        """What a script comes to; promises are awaited."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise Lost(f"{script}: {found['exceptionDetails'].get('exception', found['exceptionDetails'])}")
        return found["result"].get("value")

    def until(self, script: str, what: str = "", bound: float = PATIENCE) -> typing.Any:
        """What a script comes to, once it is something."""
        # An element is something, too.
        asked = f"(() => {{ const found = ({script}); return found instanceof Node ? true : found; }})()"
        found = comes_true(lambda: self.value(asked), bound, 0.05)
        if not found:
            raise Lost(f"not within {bound} s: {what or script} | {self.value('document.body.innerText')[:3000]}")
        return found

    def text(self, selector: str = "body") -> str:
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector: str, text: str = "") -> None:
        """Presses the visible element that is selected and has exactly this text, or has it in it, as a mouse does."""
        script = f"""(() => {{
            const seen = [...document.querySelectorAll({json.dumps(selector)})].filter((element) => element.checkVisibility());
            const one = seen.find((element) => element.textContent === {json.dumps(text)})
                ?? seen.find((element) => element.textContent.includes({json.dumps(text)}));
            if (!one) return null;
            one.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = one.getBoundingClientRect();
            return [box.left + Math.min(box.width / 2, 60), box.top + box.height / 2];
        }})()"""
        x, y = self.until(script, f"{selector} with {text!r} can be seen")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def leave(self) -> None:
        """Takes the mouse away."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def shot(self, file: pathlib.Path) -> None:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(data))

    def of(self, method: str) -> list[dict]:
        return [event["params"] for event in list(self.events) if event["method"] == method]

    def requested(self) -> list[str]:
        """The addresses of everything that it has asked for."""
        return [event["request"]["url"] for event in self.of("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """What went to its console as an error or a warning, and exceptions that nobody caught."""
        console = [str([item.get("value", item.get("description")) for item in event["args"]])
                   for event in self.of("Runtime.consoleAPICalled") if event["type"] in ("error", "warning", "assert")]
        thrown = [str(event["exceptionDetails"].get("exception", {}).get("description")) for event in self.of("Runtime.exceptionThrown")]
        logged = [f"{event['entry']['text']} {event['entry'].get('url', '')}" for event in self.of("Log.entryAdded")
                  if event["entry"]["level"] in ("error", "warning")]
        return console + thrown + logged
