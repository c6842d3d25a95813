"""A headless Chromium, driven through chromedriver by the W3C WebDriver protocol: clicks and keys as a person's."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE_S = 60.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""By this key an element is named in the protocol."""


class Browser:
    """One window of a fresh browser. Use as a context manager; folder: for its profile and what it logs."""

    def __init__(self, folder: Path, *, width: int = 1280, height: int = 800) -> None:
        assert CHROMIUM is not None
        assert DRIVER is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "chromedriver.log").open("w+")
        command = [DRIVER, "--port=0"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            self._root = f"http://127.0.0.1:{self._port()}"
            arguments = [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}",
            ]  # fmt: skip
            options = {"binary": CHROMIUM, "args": arguments}
            wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
            self._session = ""
            self._session = f"/session/{self._ask('POST', '/session', wanted)['sessionId']}"
        except BaseException:
            self._end()
            raise

    def open(self, address: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": address})

    def reload(self) -> None:
        self._ask("POST", f"{self._session}/refresh", {})

    def resize(self, width: int, height: int) -> None:
        """The window, with its frame."""
        self._ask("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    @property
    def address(self) -> str:
        return str(self._ask("GET", f"{self._session}/url"))

    def click(self, selector: str) -> None:
        """Where a person could not click, since it is hidden or covered, this fails."""
        self._ask("POST", f"{self._session}/element/{self._find(selector)}/click", {})

    def write(self, selector: str, text: str) -> None:
        self._ask("POST", f"{self._session}/element/{self._find(selector)}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press and release a key, wherever the focus is."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        sent = {"actions": [{"type": "key", "id": "keys", "actions": actions}]}
        self._ask("POST", f"{self._session}/actions", sent)

    def seen(self, selector: str) -> bool:
        return bool(self._ask("GET", f"{self._session}/element/{self._find(selector)}/displayed"))

    def text(self, selector: str) -> str:
        return str(self._ask("GET", f"{self._session}/element/{self._find(selector)}/text"))

    def run(self, script: str) -> Any:
        """What a piece of JavaScript returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def picture(self) -> bytes:
        """PNG of what is in sight."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Wait until it is so; a loaded machine gets time."""
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, (
                f"not within {PATIENCE_S:.0f} s: {what}; the page shows {self.text('body')!r}"
            )
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._end()

    def _find(self, selector: str) -> str:
        found = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _ask(self, method: str, path: str, sent: Any = None) -> Any:
        data = None if sent is None else json.dumps(sent).encode()
        request = Request(f"{self._root}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=PATIENCE_S) as reply:
            return json.load(reply)["value"]

    def _port(self) -> int:
        end = time.monotonic() + PATIENCE_S
        while True:
            self._log.seek(0)
            said = re.search(r"started successfully on port (\d+)", self._log.read())
            if said:
                return int(said[1])
            assert self._process.poll() is None, "chromedriver died"
            assert time.monotonic() < end, "chromedriver does not start"
            time.sleep(0.02)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE_S)
        self._log.close()
