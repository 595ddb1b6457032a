"""Drives real browsers as people use them: a page, a look for its links, a click on one of them, the next page.

Chromium speaks its DevTools protocol, Firefox WebDriver BiDi (W3C), both JSON over one websocket. Each person has a browser context of
their own, as in a private window: own cookies, own cache, own proxy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from crawlguard.demo.sites import end

READY_WITHIN = 40.0
"""Seconds for a browser to start on a busy machine."""
PAGE_WITHIN = 30.0
"""Seconds for one page with all that belongs to it."""

_CHROMIUM = (
    "--headless --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-default-apps --disable-extensions --remote-debugging-port=0"
)
_FIREFOX = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.allow_hijacking_localhost": True,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}
_CLICK = "[...document.links].filter(a => a.pathname.startsWith('/articles/'))[{at}]?.click()"


class BrowserError(Exception):
    """A browser did not start, or did not show a page in time."""


class Person(Protocol):
    """Somebody at a browser."""

    def visit(self, url: str) -> None:
        """Type an address."""

    def click(self, at: int) -> None:
        """Follow the page's link of that number to an article."""

    def leave(self) -> None:
        """Close the window: nothing is kept of it."""


class _Wire:
    """Commands and events over one websocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.number, self.events = socket, 0, list[dict[str, Any]]()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of WebDriver BiDi, or of DevTools for the whole browser."""
        return self._ask({"method": method, "params": parameters})

    def ask_page(self, session: str, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of DevTools for one page."""
        return self._ask({"method": method, "params": parameters, "sessionId": session})

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, **message}))
        deadline = time.monotonic() + PAGE_WITHIN
        while (told := self._next(deadline)).get("id") != self.number:
            self.events.append(told)
        if "error" in told:
            raise BrowserError(f"{message['method']}: {told['error']} {told.get('message', '')}")
        result: dict[str, Any] = told.get("result", {})
        return result

    def wait(self, method: str, **wanted: Any) -> None:
        """Wait for an event, and forget those before it. Raises BrowserError when it does not come."""
        deadline = time.monotonic() + PAGE_WITHIN
        while True:
            event = self.events.pop(0) if self.events else self._next(deadline)
            if event.get("method") == method and wanted.items() <= {**event, **event["params"]}.items():
                return

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(self.socket.recv(timeout=max(0.0, deadline - time.monotonic())))
        except (TimeoutError, ConnectionClosed) as error:
            raise BrowserError(f"the browser does not answer: {error!r}") from None
        return told


class _ChromiumPage:
    def __init__(self, wire: _Wire, proxy: int) -> None:
        # Chromium goes to loopback without a proxy unless it is told not to.
        made = wire.ask("Target.createBrowserContext", proxyServer=f"socks5://127.0.0.1:{proxy}", proxyBypassList="<-loopback>")
        self.context = str(made["browserContextId"])
        target = wire.ask("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.wire, self.session = wire, str(wire.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        wire.ask_page(self.session, "Page.enable")

    def visit(self, url: str) -> None:
        self._load("Page.navigate", url=url)

    def click(self, at: int) -> None:
        self._load("Runtime.evaluate", expression=_CLICK.format(at=at), userGesture=True)

    def leave(self) -> None:
        self.wire.ask("Target.disposeBrowserContext", browserContextId=self.context)

    def _load(self, method: str, **parameters: Any) -> None:
        self.wire.events.clear()
        self.wire.ask_page(self.session, method, **parameters)
        self.wire.wait("Page.loadEventFired", sessionId=self.session)


class Chromium:
    """A running Chromium, in which people have windows."""

    def __init__(self, wire: _Wire) -> None:
        self.wire = wire

    def person(self, proxy: int) -> Person:
        """A person whose connections go through the relay on a port."""
        return _ChromiumPage(self.wire, proxy)


class _FirefoxPage:
    def __init__(self, wire: _Wire, proxy: int) -> None:
        way = {"proxyType": "manual", "socksProxy": f"127.0.0.1:{proxy}", "socksVersion": 5}
        self.wire, self.user = wire, str(wire.ask("browser.createUserContext", proxy=way)["userContext"])
        self.page = str(wire.ask("browsingContext.create", type="tab", userContext=self.user)["context"])

    def visit(self, url: str) -> None:
        self.wire.ask("browsingContext.navigate", context=self.page, url=url, wait="complete")

    def click(self, at: int) -> None:
        self.wire.events.clear()
        self.wire.ask(
            "script.evaluate",
            expression=_CLICK.format(at=at),
            target={"context": self.page},
            awaitPromise=False,
            userActivation=True,
        )
        self.wire.wait("browsingContext.load", context=self.page)

    def leave(self) -> None:
        self.wire.ask("browser.removeUserContext", userContext=self.user)


class Firefox:
    """A running Firefox, in which people have windows."""

    def __init__(self, wire: _Wire) -> None:
        self.wire = wire
        wire.ask("session.new", capabilities={})
        wire.ask("session.subscribe", events=["browsingContext.load"])

    def person(self, proxy: int) -> Person:
        """A person whose connections go through the relay on a port."""
        return _FirefoxPage(self.wire, proxy)


@contextmanager
def chromium(home: Path) -> Iterator[Chromium]:
    """Chromium without a screen, its profile in ``home``. Raises BrowserError when it does not start."""
    program = _found("chromium", "chromium-browser", "google-chrome")
    flags = [*_CHROMIUM.split(), f"--user-data-dir={home}", f"--user-agent={chrome_name(program)}"]
    flags += ["--no-sandbox"] if os.getuid() == 0 else []
    with _running([program, *flags, "about:blank"], home, rb"DevTools listening on (ws://\S+)") as wire:
        yield Chromium(wire)


@contextmanager
def firefox(home: Path) -> Iterator[Firefox]:
    """Firefox without a screen, its profile in ``home``. Raises BrowserError when it does not start."""
    program = _found("firefox-esr", "firefox")
    home.mkdir(parents=True, exist_ok=True)
    told = "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _FIREFOX.items())
    (home / "user.js").write_text(told, "utf-8")
    command = [program, "--headless", "--no-remote", "--profile", str(home), "--remote-debugging-port=0", "about:blank"]
    with _running(command, home, rb"WebDriver BiDi listening on (ws://\S+)", path="/session") as wire:
        yield Firefox(wire)


class Browsers:
    """Both of them, each started when somebody first sits down at it, and running until all is over: Firefox takes ten seconds to start."""

    def __init__(self, home: Path) -> None:
        self._home, self._open = home, ExitStack()

    @cached_property
    def chromium(self) -> Chromium:
        """Chromium."""
        return self._open.enter_context(chromium(self._home / "chromium"))

    @cached_property
    def firefox(self) -> Firefox:
        """Firefox."""
        return self._open.enter_context(firefox(self._home / "firefox"))

    def end(self) -> None:
        """Both are gone afterwards."""
        self._open.close()


def chrome_name(program: str) -> str:
    """The User-Agent that this Chromium has when it has a screen: without one it says HeadlessChrome, which no person's does."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=READY_WITHIN, check=True).stdout
    major = re.search(r" (\d+)\.", told)
    if major is None:
        raise BrowserError(f"{program} --version says {told!r}")
    return f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major[1]}.0.0.0 Safari/537.36"


def _found(*names: str) -> str:
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise BrowserError(f"{names[0]} is not installed; .ci/run names the packages")
    return program


@contextmanager
def _running(command: list[str], home: Path, says: bytes, path: str = "") -> Iterator[_Wire]:
    home.mkdir(parents=True, exist_ok=True)
    out = home / "out"
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")} | {"HOME": str(home)}
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not (found := re.search(says, out.read_bytes())):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            if process.returncode is not None or time.monotonic() > deadline:
                raise BrowserError(f"{command[0]} did not start; it said:\n{out.read_text('utf-8', 'replace')}")
        with connect(found[1].decode() + path, max_size=None, proxy=None, ping_interval=None) as socket:
            yield _Wire(socket)
    finally:
        process.terminate()
        end(process)
