"""Who visits: each with addresses of its own, what it really is, and the program that it is, as a table; and how they are sent."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crawlguard.demo.sites import end

from .browsers import Browsers, Chromium, Firefox, chrome_name
from .relay import relays
from .site import ARTICLES, DRAFTS

PATIENCE = 60.0
"""Seconds that any program has for its whole visit."""
AT_ONCE = 3
"""Programs of machines that run at the same time."""
PAGES = 4
"""How many pages a person looks at."""

DECLARED, CRAWLER, TOOL, SWARM, FEED, MONITOR, PERSON = "declared", "crawler", "tool", "swarm", "feed", "monitor", "person"
"""What a visitor really is, in the words of the analyzer's classes."""

_MOZILLA = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; "
_GPTBOT = _MOZILLA + "GPTBot/1.2; +https://openai.com/gptbot)"
_CLAUDEBOT = _MOZILLA + "ClaudeBot/1.0; +claudebot@anthropic.com)"
_CCBOT = "CCBot/2.0 (https://commoncrawl.org/faq/)"
_BYTESPIDER = "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)"
_META = "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)"
_UPTIME = "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"
_FRESHRSS = "FreshRSS/1.24.3 (Linux; https://freshrss.org)"


class VisitorError(Exception):
    """A program is not installed."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """One visitor: its name, what it really is, and the addresses that it comes from."""

    name: str
    kind: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curl:
    """What curl sends from each address: a User-Agent, and for paths (curl's globs). ``flags``: more of curl's options."""

    user_agent: str
    paths: tuple[str, ...]
    flags: tuple[str, ...] = ()


CURLS: dict[Visitor, Curl] = {
    Visitor("GPTBot", DECLARED, ("127.10.0.1", "127.10.0.2")): Curl(_GPTBOT, ("/robots.txt", "/articles/[000-049].html")),
    Visitor("ClaudeBot", DECLARED, ("127.11.0.1",)): Curl(_CLAUDEBOT, ("/robots.txt", "/sitemap.xml", "/articles/[050-129].html")),
    Visitor("CCBot", DECLARED, ("127.12.0.1",)): Curl(_CCBOT, ("/robots.txt", "/", "/articles/[100-159].html")),
    Visitor("Bytespider", DECLARED, ("127.13.0.1", "127.13.0.2", "127.13.0.3")): Curl(_BYTESPIDER, (*DRAFTS, "/articles/[160-219].html")),
    Visitor("meta-externalagent", DECLARED, ("127.14.0.1",)): Curl(_META, ("/robots.txt", "/articles/[000-039].html")),
    Visitor("FreshRSS", FEED, ("127.30.0.1",)): Curl(_FRESHRSS, ("/feed.xml?[1-8]",)),
    Visitor("a script that reads the feed", FEED, ("127.31.0.1",)): Curl("newsticker/0.3", ("/feed.xml",)),
    Visitor("UptimeRobot", MONITOR, ("127.32.0.1",)): Curl(_UPTIME, ("/?[1-10]",), ("--head",)),
}  # fmt: skip
WGET = Visitor("wget -r", TOOL, ("127.20.0.1",))
SCRAPY = Visitor("scrapy", TOOL, ("127.21.0.1",))
HTTRACK = Visitor("httrack", TOOL, ("127.22.0.1",))
HIDDEN_WGET = Visitor("wget -r as Chrome, pages alone", CRAWLER, ("127.23.0.1",))
THE_SWARM = Visitor("curl as Chrome", SWARM, tuple(f"127.80.{net}.{host}" for net in range(8) for host in range(1, 31)))
SWARM_EACH = 3
CHROMIUMS = tuple(Visitor(f"Chromium {n}", PERSON, (f"127.{40 + n}.7.9",)) for n in range(1, 9))
FIREFOXES = tuple(Visitor(f"Firefox {n}", PERSON, (f"127.{60 + n}.7.9",)) for n in range(1, 4))
LYNX = Visitor("lynx", PERSON, ("127.70.7.9",))
W3M = Visitor("w3m", PERSON, ("127.71.7.9",))

ALL = (*CURLS, WGET, SCRAPY, HTTRACK, HIDDEN_WGET, THE_SWARM, *CHROMIUMS, *FIREFOXES, LYNX, W3M)
PEOPLE = tuple(visitor for visitor in ALL if visitor.kind == PERSON)
RELAYED = (*PEOPLE, HTTRACK)
"""Those whose programs cannot choose an address."""


def visit(port: int, home: Path, browsers: Browsers, pages: int = PAGES) -> None:
    """Send everybody to the site on a port, machines and people at the same time, and return when all have gone.

    ``home``: a directory to be made for what programs leave behind. ``pages``: how many a person looks at.
    Raises VisitorError or BrowserError when a program is not installed or does not do its part.
    """
    home.mkdir()
    url, chrome = f"http://127.0.0.1:{port}", chrome_name(_found("chromium"))
    with relays([visitor.addresses[0] for visitor in RELAYED], port) as ports, ThreadPoolExecutor(AT_ONCE + 1) as pool:
        ways = {visitor: ports[visitor.addresses[0]] for visitor in RELAYED}
        sent = [pool.submit(_people, lambda: browsers.chromium, [ways[visitor] for visitor in CHROMIUMS], url, pages)]
        sent += [pool.submit(_run, command, home) for command in _machines(url, chrome, home, ways)]
        text = [(visitor.name, ways[visitor]) for visitor in (LYNX, W3M)]
        _people(lambda: browsers.firefox, [ways[visitor] for visitor in FIREFOXES], url, pages, lambda dice: _as_text(text, home, dice))
        for each in sent:
            each.result()


def _machines(url: str, chrome: str, home: Path, ways: Mapping[Visitor, int]) -> Iterator[list[str]]:
    """The command lines of all machines, the long ones first."""
    spider = [sys.executable, "-m", "scrapy", "runspider", str(Path(__file__).with_name("spider.py")), "-a", f"start={url}/"]
    yield [*spider, "-s", "ROBOTSTXT_OBEY=1", "-s", f"DOWNLOAD_BIND_ADDRESS={SCRAPY.addresses[0]}", "-s", "TELNETCONSOLE_ENABLED=0"]
    # HTTrack's limits are made for strangers' sites: with them it asks once a second here.
    mirror = ["-O", str(home / "httrack"), "-q", "-I0", "-C0", "-%!", "-%c0", "-A100000000"]
    yield [_found("httrack"), f"http://127.0.0.1:{ways[HTTRACK]}/", *mirror]
    wget = [_found("wget"), "--no-config", "--quiet", "--no-proxy", "--recursive", "--level=inf", "--tries=1", f"{url}/"]
    yield [*wget, f"--bind-address={WGET.addresses[0]}", f"--directory-prefix={home / 'wget'}", "--page-requisites"]
    pages = ["--execute=robots=off", "--reject=css,js,png,ico", f"--user-agent={chrome}"]
    yield [*wget, f"--bind-address={HIDDEN_WGET.addresses[0]}", f"--directory-prefix={home / 'hidden'}", *pages]
    for visitor, curl in CURLS.items():
        for address in visitor.addresses:
            yield _curl(address, url, curl)
    dice = random.Random(1)
    for address in THE_SWARM.addresses:
        articles = tuple(f"/articles/{number:03}.html" for number in dice.sample(range(ARTICLES), SWARM_EACH))
        yield _curl(address, url, Curl(chrome, articles))


def _curl(address: str, url: str, curl: Curl) -> list[str]:
    command = [_found("curl"), "-q", "--silent", "--noproxy", "*", "--interface", address, "--user-agent", curl.user_agent, *curl.flags]
    for path in curl.paths:
        command += ["--output", os.devnull, url + path]
    return command


def _people(
    browser: Callable[[], Chromium | Firefox],
    ways: Sequence[int],
    url: str,
    pages: int,
    beside: Callable[[random.Random], None] | None = None,
) -> None:
    """Everybody at one browser, page by page in turns: while one reads, the others click. ``beside``: who else reads meanwhile."""
    dice = random.Random(2)
    people = [browser().person(way) for way in ways]
    for person in people:
        person.visit(f"{url}/")
    for _ in range(pages - 1):
        for person in people:
            person.click(dice.randrange(6))
        if beside:
            beside(dice)
    for person in people:
        person.leave()


def _as_text(readers: Sequence[tuple[str, int]], home: Path, dice: random.Random) -> None:
    """An article for each of the people at text browsers: programs, and the ports of their relays."""
    for name, way in readers:
        _run([_found(name), "-dump", f"http://127.0.0.1:{way}/articles/{dice.randrange(ARTICLES):03}.html"], home)


def _run(command: Sequence[str], home: Path) -> None:
    """Run a program to its end; it and all that it started are gone afterwards, however it ends."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")} | {"HOME": str(home)}
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=env, cwd=home, start_new_session=True)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.terminate()
        end(process)


def _found(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise VisitorError(f"{name} is not installed; .ci/run names the packages")
    return program
