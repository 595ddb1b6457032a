"""Five readers of robots.txt that are not ours, asked alike: what may these tokens fetch of these URLs?

Two carry Google's own parser in C++. They and robotspy know product tokens alone (RFC 9309 2.2.1), so they are asked as such a
crawler asks: by its token's leading letters, "_" and "-". The one in JavaScript is a process of its own, fed a file at a time.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from jwm.robotstxt import googlebot
from protego import Protego, _ruleset
from robots import RobotsParser
from robotstxt import RobotsMatcher

SITE = "http://site.example"
NPM_PACKAGE = "robots-parser@3.0.1"
NPM_DIRECTORY = Path(__file__).resolve().parents[1] / ".build" / "npm"

# A URL comes to the same path for each of a thousand tokens: two thirds of what these two take is spent on that.
for owner, name in ((RobotsParser, "normalize_url"), (_ruleset, "_quote_path")):
    setattr(owner, name, staticmethod(lru_cache(4096)(getattr(owner, name))))

Ask = Callable[[str, Sequence[str], Sequence[str]], list[list[bool]]]
"""(robots.txt, tokens, paths with queries) -> for each token, whether it may fetch each of the paths."""


class Reader(NamedTuple):
    """``cuts``: it wants product tokens. ``slow``: a question costs it a fifth of a millisecond, for it parses the file each time."""

    name: str
    ask: Ask
    cuts: bool = False
    slow: bool = False


@cache
def cut(token: str) -> str:
    """A token as RFC 9309's readers take it; as it is where nothing would be left of it."""
    found = re.match("[A-Za-z_-]*", token)
    return (found and found[0]) or token


def _google(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    matcher = googlebot.RobotsMatcher()
    return [[bool(matcher.OneAgentAllowedByRobots(text, cut(token), SITE + path)) for path in paths] for token in tokens]


def _fork(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    matcher = RobotsMatcher()
    return [[bool(matcher.is_allowed(text, cut(token), SITE + path)) for path in paths] for token in tokens]


def _protego(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    file = Protego.parse(text)
    file._get_matching_rule_set = cache(file._get_matching_rule_set)  # type: ignore[method-assign]  # a token comes to the same rules for each path
    return [[file.can_fetch(SITE + path, token) for path in paths] for token in tokens]


def _robotspy(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    file = RobotsParser.from_string(text)
    return [[file.can_fetch(cut(token), SITE + path) for path in paths] for token in tokens]


# ---- npm's, in a process of its own

_SCRIPT = r"""
const parse = require("robots-parser");
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
  const {site, text, tokens, paths} = JSON.parse(line);
  const file = parse(site + "/robots.txt", text);
  const said = tokens.map((token) => paths.map((path) => (file.isAllowed(site + path, token) ? "1" : "0")).join(""));
  process.stdout.write(JSON.stringify(said) + "\n");
});
"""


def _installed() -> Path:
    """Where npm has put the package; fetched once, into a directory that appears whole or not at all. Raises RuntimeError."""
    home = NPM_DIRECTORY / NPM_PACKAGE
    if home.is_dir():
        return home
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            "the tests of robots.txt read it with npm's robots-parser too: install nodejs and npm (apt-get install nodejs npm)"
        )
    NPM_DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=NPM_DIRECTORY) as partial:
        command = [
            npm,
            "install",
            "--prefix",
            partial,
            "--no-save",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            NPM_PACKAGE,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise RuntimeError(
                f"npm could not fetch {NPM_PACKAGE}, which the tests of robots.txt need; is its registry reachable?\n{done.stderr}"
            )
        os.replace(shutil.move(partial, f"{partial}.whole"), home)
        os.mkdir(partial)  # for the context manager to remove
    return home


@cache
def _node() -> subprocess.Popen[str]:
    home, node = _installed(), shutil.which("node") or shutil.which("nodejs")
    if node is None:
        raise RuntimeError("npm is here and node is not: install nodejs")
    process = subprocess.Popen([node, "-e", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home)
    atexit.register(_stop, process)
    return process


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdin and process.stdout:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _robots_parser(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    process = _node()
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"site": SITE, "text": text, "tokens": list(tokens), "paths": list(paths)}) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("robots-parser's process has ended; see its words above")
    return [[mark == "1" for mark in row] for row in json.loads(answer)]


READERS = (
    Reader("google", _google, cuts=True, slow=True),
    Reader("fork", _fork, cuts=True),
    Reader("protego", _protego),
    Reader("robotspy", _robotspy, cuts=True),
    Reader("robots-parser", _robots_parser),
)
