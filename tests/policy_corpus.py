"""What the tests of policies share: requests, clocks and guards, and the corpora with what each of their files expects."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crawlguard import Guard
from crawlguard.decision import Decision
from crawlguard.loader import parse_policy
from crawlguard.request import RequestView

from .conftest import SHARED

POLICIES = Path(__file__).parent / "data" / "policies"
GOOD = sorted((POLICIES / "good").glob("*.yaml"))
BAD = sorted((POLICIES / "bad").glob("*.yaml"))

DATA = {
    kind: str(SHARED / "mmdb" / "maxmind_test" / name)
    for kind, name in (("asn", "GeoLite2-ASN-Test.mmdb"), ("country", "GeoIP2-Country-Test.mmdb"))
}
TELSTRA, LEVEL3, BRITISH, NOBODY = "1.128.0.1", "216.160.83.56", "2.125.160.216", "203.0.113.7"
"""AS1221 and no country; AS209 and US; no AS and GB; neither."""

SECOND = 1_000_000_000


class Clock:
    """A clock in nanoseconds that stands until it is set. It starts late, so that no time near zero is special."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.start = self.now = round(seconds * SECOND)

    def __call__(self) -> int:
        return self.now

    def at(self, seconds: float) -> None:
        """Set the time to so many seconds after the start."""
        self.now = self.start + round(seconds * SECOND)


def view(
    path: str = "/",
    *,
    ua: str | None = None,
    ip: str = "203.0.113.7",
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> RequestView:
    """A request; a User-Agent of None is not sent at all."""
    sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if ua is not None:
        sent.append((b"user-agent", ua.encode("latin-1")))
    return RequestView(method, path, sent, ip, "https")


def guard_of(*rules: dict[str, Any], clock: Clock | None = None, **top: Any) -> Guard:
    """A guard with these rules; ids are r1, r2, ... where none are given."""
    numbered = [{"id": f"r{n}", "then": "block", **rule} for n, rule in enumerate(rules, 1)]
    policy, problems = parse_policy(json.dumps({"version": 1, **top, "rules": numbered}))
    assert policy is not None, problems
    return Guard(policy, clock=clock or Clock(), store="memory")


def simple_policy(*names: str, include: str = "") -> str:
    """A policy whose rules are each about a path of their own."""
    text = "version: 1\n" + (f"include: {include}\n" if include else "")
    return text + "rules:\n" + "".join(f"  - {{id: {name}, when: {{path: /{name}$}}, then: block}}\n" for name in names)


def text_of(path: Path) -> str:
    """A policy file's text, whatever is wrong with its bytes."""
    raw = path.read_bytes()
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return raw.decode(encoding, "replace").replace("\0", "")


@dataclass(frozen=True)
class Expectation:
    """One line ``# expect: {request} -> action rule [key=value]...``; a rule of "-" is none."""

    line: int
    request: dict[str, Any]
    wanted: dict[str, str]

    def said(self, decision: Decision) -> dict[str, str]:
        """A decision in the words of the expectation: only what it asks about, but always shadow, score and tags."""
        words = {
            "action": str(decision.action),
            "rule": decision.rule or "-",
            "retry": str(decision.retry_after) if decision.retry_after is not None else "",
            "score": str(decision.score) if decision.score else "",
            "tags": ",".join(decision.tags),
            "shadow": ",".join(f"{one.rule}:{one.action}" for one in decision.shadow),
            "status": str(decision.status),
        }
        return {k: v for k, v in words.items() if k in self.wanted or (v and k != "status")}


def expectations(path: Path) -> list[Expectation]:
    """All expectations of a good policy, in order: they share one guard, and so its rates."""
    found = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.startswith("# expect:"):
            request, arrow, wanted = line.removeprefix("# expect:").partition("->")
            assert arrow, f"{path.name}:{number}: no '->'"
            action, rule, *rest = wanted.split()
            more = dict(word.split("=", 1) for word in rest)
            found.append(Expectation(number, json.loads(request), {"action": action, "rule": rule, **more}))
    return found


def warned(path: Path) -> list[str]:
    """The ids after ``# warns:`` in a good policy."""
    for line in text_of(path).splitlines():
        if line.startswith("# warns:"):
            return sorted(line.removeprefix("# warns:").split())
    return []


_EXPECTED = re.compile(r"(CG\d{3}) (?:line (\d+) column (\d+)|whole file|anywhere)(?: in ([^\s;]+))?")


def expected_problems(path: Path) -> list[tuple[str, str, int, int]]:
    """What a bad policy's first line names: (file, id, line, column), sorted; file and place of "whole file" are "" and 0."""
    first = text_of(path).splitlines()[0]
    return sorted((file, code, int(line or 0), int(column or 0)) for code, line, column, file in _EXPECTED.findall(first))


class _Core(yaml.SafeLoader):
    """YAML as editors read it (the 1.2 core schema): NO is a text, a date too."""


_Core.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def plain(source: Path | str) -> Any:
    """A policy (a file, or text) as the plain data that an editor's schema check sees. Raises yaml.YAMLError."""
    return yaml.load(source if isinstance(source, str) else source.read_bytes(), Loader=_Core)
