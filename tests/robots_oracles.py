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
from collections.abc import Callable, Hashable, Sequence
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

_applies_to = _ruleset._RuleSet.applies_to


@lru_cache(1 << 19)
def _protego_score(named: str, token: str) -> int:
    """How well a group of this name fits a token, by Protego: the same names meet the same tokens in file after file."""
    group = _ruleset._RuleSet(Protego())
    group.user_agent = named
    return _applies_to(group, token)


_ruleset._RuleSet.applies_to = lambda group, token: _protego_score(group.user_agent, token)  # type: ignore[method-assign, assignment]

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


def _as_named(may: Callable[[str, str], bool], named: Callable[[], bool], tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    """The answers of a parser of Google's: ``named`` says whether the file speaks to the one who asked last.

    To all others it speaks alike: each of them is asked about the first path, and one of them about the rest."""
    others: list[bool] = []
    said = []
    for token in map(cut, tokens):
        first = may(token, paths[0])
        if named():
            rest = [may(token, path) for path in paths[1:]]
        else:
            others = rest = others or [may(token, path) for path in paths[1:]]
        said.append([first, *rest])
    return said


def _google(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    matcher = googlebot.RobotsMatcher()
    return _as_named(
        lambda token, path: bool(matcher.OneAgentAllowedByRobots(text, token, SITE + path)), matcher.ever_seen_specific_agent, tokens, paths
    )


def _fork(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    matcher = RobotsMatcher()
    return _as_named(
        lambda token, path: bool(matcher.is_allowed(text, token, SITE + path)), lambda: matcher.ever_seen_specific_agent, tokens, paths
    )


def _by_group(
    group: Callable[[str], Hashable], may: Callable[[str, str], bool], tokens: Sequence[str], paths: Sequence[str]
) -> list[list[bool]]:
    """The answers of a parser that first finds a token's group of rules: of each group one token is asked about all paths."""
    rows: dict[Hashable, list[bool]] = {}
    said = []
    for token in tokens:
        found = group(token)
        if found not in rows:
            rows[found] = [may(token, path) for path in paths]
        said.append(rows[found])
    return said


def _protego(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    file = Protego.parse(text)

    def group(token: str) -> Hashable:
        found = file._get_matching_rule_set(token)
        return found and tuple(found._rules)

    return _by_group(group, lambda token, path: file.can_fetch(SITE + path, token), tokens, paths)


def _robotspy(text: str, tokens: Sequence[str], paths: Sequence[str]) -> list[list[bool]]:
    file = RobotsParser.from_string(text)
    everybody = file.find_rules("*")  # for a file without such a group each call makes a new empty one
    return _by_group(
        lambda token: id(file.agents_rules.get(token.lower(), everybody)),
        lambda token, path: file.can_fetch(token, SITE + path),
        [*map(cut, tokens)],
        paths,
    )


# ---- npm's, in a process of its own

_SCRIPT = r"""
const parse = require("robots-parser");
// A URL comes to the same parts for each of a thousand tokens.
const Url = URL, urls = new Map();
globalThis.URL = function (text, base) {
  if (!urls.has(text)) urls.set(text, new Url(text, base));
  return urls.get(text);
};
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
  const {site, text, tokens, paths} = JSON.parse(line);
  urls.clear();
  const file = parse(site + "/robots.txt", text);
  // As _by_group: the rules that it took for its last answer, and the answers of all that have the same.
  let taken;
  file._rules = new Proxy(file._rules, {get: (groups, name) => (taken = groups[name])});
  const rows = new Map();
  const said = tokens.map((token) => {
    file.isAllowed(site + paths[0], token);
    const group = JSON.stringify(taken);
    if (!rows.has(group)) rows.set(group, paths.map((path) => (file.isAllowed(site + path, token) ? "1" : "0")).join(""));
    return rows.get(group);
  });
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
