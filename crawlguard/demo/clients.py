"""Sends the clients of ``visitors`` to a site, as real programs, and notes what each met.

curl (or httpx) says itself what it got. A browser does not, and cannot be given an address: it comes from 127.0.0.1, and the
decision log tells what it asked for.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import content
from .sites import DemoError, Site, end, unbreakable
from .visitors import CHROME, FIREFOX, FLOOD, FLOOD_EACH, PERSON, PERSON_STEPS, SERVED, SLOWED, VISITORS, Visit, Visitor

if TYPE_CHECKING:
    import httpx

PATIENCE = 10.0
"""Seconds that a client waits for one answer."""
BROWSER_WITHIN = 15.0
"""Seconds for a browser to start, show one page and end: Chromium takes three on a small machine."""

_NULL = subprocess.DEVNULL

BROWSERS = ("Chromium", "lynx", "w3m")
"""Real browsers, which take part when they are installed."""
_CHROMIUM_FLAGS = (
    "--headless --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --no-proxy-server"
)


class Tour:
    """Sends every client to one site. ``wide``: loopback has an address for each client; else a header tells them apart.

    ``home`` is a directory for what programs leave behind, ``deadline`` the monotonic time at which all must be done.
    """

    def __init__(self, site: Site, *, wide: bool, home: Path, deadline: float) -> None:
        self.site, self.wide, self.home, self.deadline = site, wide, home, deadline
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all clients: each would load its own otherwise

    def all(self) -> list[Visit]:
        """Every visit, in order. Raises DemoError when the time is up."""
        visits = [self._bot(visitor) for visitor in VISITORS]
        visits += self._flood_and_person()
        visits += [self._browser(name, command) for name, command in self._browsers()]
        return visits

    def _within(self, seconds: float) -> float:
        """``seconds``, or what is left of the demo's time. Raises DemoError when nothing is."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DemoError(f"the clients of the {self.site.name} site took too long; is the machine very busy?")
        return min(seconds, left)

    # ---- clients that say what they got

    def _bot(self, visitor: Visitor) -> Visit:
        curl, start = shutil.which("curl"), self.site.events()[1]
        visit = Visit(client=visitor.name, program="curl" if curl else "httpx", site=self.site, must=visitor.must)
        if visitor.paths == ("/robots.txt",):
            visit.unruled = "always served: it says what is allowed"
        if curl:
            source = ["--interface", visitor.address] if self.wide else ["--header", f"X-Forwarded-For: {visitor.address}"]
            command = [curl, "-q", "--silent", "--noproxy", "*", "--max-time", str(PATIENCE), *source, "--user-agent", visitor.user_agent]
            command += ["--write-out", "%{http_code}\n"]
            for path in visitor.paths:
                command += ["--output", os.devnull, self.site.url + path]
            for status in self._run(command, PATIENCE).split():
                visit.count(int(status))
        else:
            self._ask(visit, visitor.address, {"User-Agent": visitor.user_agent}, [(path, {}) for path in visitor.paths])
        visit.rules = _rules(self.site.events(start)[0], (visitor.address,))
        return visit

    def _ask(
        self, visit: Visit, address: str, headers: Mapping[str, str], steps: Iterable[tuple[str, Mapping[str, str]]]
    ) -> list[httpx.Response]:
        import httpx

        source = {} if self.wide else {"X-Forwarded-For": address}
        transport = httpx.HTTPTransport(verify=self.tls, local_address=address if self.wide else None)
        answers = []
        with httpx.Client(
            transport=transport, base_url=self.site.url, timeout=self._within(PATIENCE), trust_env=False, headers={**headers, **source}
        ) as client:
            for path, own in steps:
                try:
                    answers.append(client.get(path, headers=dict(own)))
                    visit.count(answers[-1].status_code)
                except httpx.HTTPError:
                    visit.count(0)
        return answers

    def _flood_and_person(self) -> list[Visit]:
        """A browser reads the site while the flood is on: the one must not pay for the other."""
        flood = Visit(client=f"Chrome, {len(FLOOD)} addresses of one /24", program="httpx", site=self.site, must=SLOWED)
        person = Visit(client="Firefox, during that flood", program="httpx", site=self.site, must=SERVED)
        parts = [Visit(client=address, program="httpx", site=self.site, must=SLOWED) for address in FLOOD]
        start, tripped = self.site.events()[1], threading.Event()

        def one(part: Visit) -> None:
            for _ in range(FLOOD_EACH):
                for answer in self._ask(part, part.client, {"User-Agent": CHROME}, [("/", {"Accept": "text/html"})]):
                    if answer.status_code == 429:
                        tripped.set()
                        if not answer.headers.get("Retry-After", "").isdigit():
                            part.complaints.append("was told to slow down without a Retry-After")

        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(one, part) for part in parts]
            tripped.wait(self._within(PATIENCE))
            self._ask(person, PERSON, FIREFOX, PERSON_STEPS)
            for each in sent:
                each.result()
        for part in parts:
            flood.served += part.served
            flood.refused += part.refused
            flood.errors += part.errors
            flood.complaints += part.complaints[:1] if not flood.complaints else []
        lines = self.site.events(start)[0]
        flood.rules = _rules(lines, FLOOD)
        person.rules = _rules(lines, (PERSON,))
        return [flood, person]

    # ---- browsers, whose requests only the log knows

    def _browsers(self) -> Iterator[tuple[str, list[str]]]:
        chromium = _chromium()
        if chromium:
            flags = _CHROMIUM_FLAGS.split()
            flags += ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
            yield BROWSERS[0], [chromium, *flags, f"--user-data-dir={self.home / f'chromium-{self.site.port}'}", "--dump-dom"]
        for name in BROWSERS[1:]:
            found = shutil.which(name)
            if found:
                yield name, [found, "-dump"]

    def absent(self) -> list[str]:
        """The browsers that are not installed."""
        there = {name for name, _ in self._browsers()}
        return [name for name in BROWSERS if name not in there]

    def _browser(self, name: str, command: list[str]) -> Visit:
        visit = Visit(client=name, program=os.path.basename(command[0]), site=self.site, must=SERVED)
        start = self.site.events()[1]
        shown = self._run([*command, self.site.url + "/"], BROWSER_WITHIN)
        lines = [line for line in self.site.events(start)[0] if line["client"] in ("127.0.0.1", None)]
        # A request that shadow rules spoke about has a line for each of them, and none of its own when it was served.
        asked = {(line["time"], line["method"], line["path"]): 200 for line in lines}
        asked |= {
            (line["time"], line["method"], line["path"]): line["status"]
            for line in lines
            if line["action"] != "allow" and not line["shadow"]
        }
        for status in asked.values():
            visit.count(status)
        visit.rules = _rules(lines, ("127.0.0.1", None))
        if content.NAME not in shown:
            visit.complaints.append("did not show the page")
        return visit

    def _run(self, command: Sequence[str], within: float) -> str:
        """A program's output, "" when it cannot be run; it and all that it started are gone afterwards."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_") and not k.lower().endswith("_proxy")}
        env |= {"HOME": str(self.home)}  # the programs keep no traces in the user's own directories
        timeout = self._within(within)
        try:
            process = subprocess.Popen(command, stdin=_NULL, stdout=subprocess.PIPE, stderr=_NULL, env=env, start_new_session=True)  # noqa: S603
        except OSError:
            return ""
        try:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=timeout)[0].decode("utf-8", "replace")
            return ""
        finally:
            with unbreakable():
                if process.poll() is None:
                    process.terminate()
                end(process)


def _rules(lines: Iterable[Mapping[str, Any]], addresses: Sequence[str | None]) -> Counter[tuple[str, str, bool]]:
    return Counter((line["rule"], line["action"], line["shadow"]) for line in lines if line["client"] in addresses and line["rule"])


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    if sys.platform == "darwin":
        names += ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium")
    return next(filter(None, map(shutil.which, names)), None)
