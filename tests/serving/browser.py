"""A headless Chromium, driven over its DevTools pipe without further packages."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell")
PATIENCE_S = 60.0
WITH_PIPE = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for own, number in zip(given, (3, 4)):
    os.dup2(own, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A browser reads commands from descriptor 3 and answers on 4."""


def found() -> str | None:
    """The path of an installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab, which can reach no host but this machine."""

    def __init__(self, program: str, profile: Path, *, dark: bool = False) -> None:
        from_browser, to_us = os.pipe()
        from_us, to_browser = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        options += ["--window-size=1100,1000", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        options += ["--disable-background-networking", "--no-first-run", *(["--force-dark-mode"] if dark else [])]
        wrapped = [sys.executable, "-c", WITH_PIPE, str(from_us), str(to_us), program, *options, "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(wrapped, pass_fds=(from_us, to_us), stdout=quiet, stderr=quiet)
        os.close(from_us)
        os.close(to_us)
        self._in, self._out = os.fdopen(from_browser, "rb", 0), os.fdopen(to_browser, "wb", 0)
        self._numbers, self._session, self._rest = itertools.count(1), "", b""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        if dark:
            self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._in.close()
        self._out.close()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Run a command of the DevTools protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._in.read(1 << 16)
            assert chunk, "the browser has ended"
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))

    def open(self, url: str) -> None:
        """Load a page."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def type(self, text: str) -> None:
        """Type into the focused element."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press a key."""
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        own = {"key": key, "windowsVirtualKeyCode": codes[key], "modifiers": 2 if ctrl else 0}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **own)
        self.send("Input.dispatchKeyEvent", type="keyUp", **own)

    def screenshot(self, path: Path) -> None:
        """Save a picture of the page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def problems(self) -> list[str]:
        """Errors in the console and failed requests."""
        self.run("1")
        return [
            json.dumps(event["params"])
            for event in self.events
            if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
        ]
