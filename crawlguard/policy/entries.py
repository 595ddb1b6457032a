"""Agents and networks: how the entries of the catalogue, and a site's own, are read."""

from __future__ import annotations

from typing import Any

from ..signals.ua import CATEGORIES, Agent, Pattern
from .model import Network
from .nodes import Node
from .problems import problem
from .types import INVALID, Choice, Cidr, Field, FileName, Integer, Json, Many, Name, Record, Report, Text


def _token(node: Node, report: Report) -> Any:
    text = Text("a token", 200).read(node, report)
    return text if text is INVALID else Pattern(token=text)


_PATTERN = Record(
    "a UA pattern",
    {
        "token": Field(Text("a token", 200), "The literal.", required=True),
        "case": Field(Choice(("exact", "any")), "exact: upper and lower case matter."),
        "at": Field(Choice(("start", "whole")), "start: only at the beginning. whole: the whole User-Agent."),
        "after": Field(Many(Text(limit=200, empty=True)), "One of these must follow."),
        "open": Field(Choice(("left", "right", "both")), "No boundary check on that side."),
        "with": Field(Many(Text(limit=200)), "Each must stand somewhere in the User-Agent."),
        "without": Field(Many(Text(limit=200)), "None may stand in the User-Agent."),
    },
    lambda place, **kw: pattern(kw),
    shorthand=_token,
    shorthand_schema=Text().schema(),
)


def pattern(raw: str | dict[str, Any]) -> Pattern:
    """A Pattern from its catalogue form: a token, or a mapping with it."""
    if isinstance(raw, str):
        return Pattern(token=raw)

    def folded(key: str) -> tuple[str, ...]:
        value = raw.get(key, ())
        return tuple(v.lower() for v in ([value] if isinstance(value, str) else value))

    return Pattern(
        token=raw["token"],
        exact=raw.get("case") == "exact",
        at=raw.get("at", ""),
        open=raw.get("open", ""),
        after=folded("after"),
        with_=folded("with"),
        without=folded("without"),
    )


class Listing(Many):
    """A list that may be empty."""

    def read(self, node: Node, report: Report) -> Any:
        return () if node.kind == "list" and not node.items else Many.read(self, node, report)

    def schema(self) -> Json:
        item = self.item.schema()
        listed = {"type": "array", "items": item}
        return {"anyOf": [item, listed]} if self.single else listed


_texts = Listing(Text(limit=1024), unique=False)
AGENT = Record(
    "an agent",
    {
        "name": Field(Text("a name", 80), "The field's name of it.", required=True),
        "operator": Field(Text("an operator", 80), "Who runs it.", required=True),
        "category": Field(Choice(tuple(sorted(CATEGORIES))), "What kind it is.", required=True),
        "does": Field(Text(limit=300), "What it does, in one sentence."),
        "user_agent": Field(Listing(_PATTERN), "How it shows in a User-Agent."),
        "robots": Field(_texts, "Its robots.txt product tokens."),
        "honours_robots": Field(Choice(("yes", "no", "unknown")), "Whether it obeys robots.txt."),
        "honours_says": Field(Choice(("operator", "observers", "disputed", "nobody")), "Who says so."),
        "docs": Field(Text("a URL", 500)),
        "ranges": Field(_texts, "URLs of its published ranges."),
        "fcrdns": Field(_texts, "Suffixes of its forward-confirmed reverse DNS names."),
        "web_bot_auth": Field(Text("a URL", 500)),
        "samples": Field(_texts, "User-Agents that are this agent."),
        "near_misses": Field(_texts, "User-Agents that look like it and are not."),
        "source": Field(Text("a URL", 500)),
        "date": Field(Text("a date", 10)),
    },
    lambda place, **kw: (Agent(**kw), place),
)


class _ListUrl(Text):
    """Where a list is fetched: over https alone, because what comes from there decides who is let in."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text.read(self, node, report)
        if isinstance(text, str) and (not text.startswith("https://") or not text.isascii() or not text.isprintable() or " " in text):
            advice = "write an https:// URL; after a # the key of a JSON object whose part alone counts"
            report(problem("CG007", node.place, f"{text[:80]!r} is not the URL of a list", advice))
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "maxLength": self.limit, "pattern": "^https://[!-~]+$"}


def _cidrs(node: Node, report: Report) -> Any:
    values = Many(Cidr(), unique=False).read(node, report)
    return values if values is INVALID else Network(node.place, "", cidrs=values)


NETWORK = Record(
    "a network",
    {
        "cidrs": Field(Many(Cidr(), unique=False), "Addresses and CIDRs."),
        "asns": Field(Many(Integer(1, 4_294_967_294, "AS")), "Autonomous system numbers."),
        "tags": Field(Many(Name()), "Words by which several networks are named at once."),
        "file": Field(FileName("a file name", 500), "A file with one address or CIDR a line, # for comments."),
        "name": Field(Name()),
        "operator": Field(Text("an operator", 80)),
        "ranges": Field(
            Many(_ListUrl("a URL", 500)),
            "URLs of the operator's lists, which crawlguard update reads; all of them together are the network.",
        ),
        "agents": Field(Many(Text(limit=80)), "Agents of the catalogue that come from here."),
        "source": Field(Text("a URL", 500)),
        "date": Field(Text("a date", 10)),
    },
    lambda place, agents=(), source="", name="", **kw: Network(place, name, **kw),
    shorthand=_cidrs,
    shorthand_schema=Many(Cidr()).schema(),
    extra={"minProperties": 1},
)
