"""The shape of a policy file: the tables that read it, and that describe it to editors."""

from __future__ import annotations

from typing import Any

from .actions import ThenType
from .conditions import All, HeaderName, When
from .documents import ROBOTS, SERVE
from .entries import AGENT, NETWORK, Listing
from .model import ClientIp, Log, Rule, Store
from .nodes import Node
from .problems import problem
from .types import INVALID, Choice, Cidr, Duration, Field, FileName, Integer, Json, Many, Mapped, Name, Record, Report, Share, Text
from .urls import SHAPE, parse_url

RULE = Record(
    "a rule",
    {
        "id": Field(Name(), "The rule's name in logs and reports.", required=True),
        "when": Field(When(), "The conditions, all of which must hold. Without it the rule always matches."),
        "then": Field(ThenType(), "What to do.", required=True),
        "mode": Field(Choice(("enforce", "shadow")), "shadow: log what the rule would do, and go on."),
        "reason": Field(Text("a reason", 200), "One sentence for the log and for the refused client."),
    },
    lambda place, id, then, when=None, **kw: Rule(place, id, then, when or All(place), **kw),
)


class _Placed(FileName):
    """A text with the place where it stood."""

    def read(self, node: Node, report: Report) -> Any:
        text = FileName.read(self, node, report)
        return text if text is INVALID else (text, node.place)


class _Proxy(Cidr):
    """An address or CIDR of a proxy, or a word for several."""

    def read(self, node: Node, report: Report) -> Any:
        return node.text if node.text in ("private", "unix") else Cidr.read(self, node, report)


class _StoreUrl(Text):
    """Where a store on another machine is."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text.read(self, node, report)
        if isinstance(text, str):
            found = parse_url(text)
            if isinstance(found, str):
                what, _, cure = found.partition("; ")
                report(problem("CG040", node.place, f"the store's URL cannot be used: {what}", cure or SHAPE))
                return INVALID
        return text


_STORE_URL = _StoreUrl("a store's URL", 1000, shape="^[a-z+]+://")


def _store(node: Node, report: Report) -> Any:
    if "://" in node.text:
        url = _STORE_URL.read(node, report)
        return url if url is INVALID else Store(url=url)
    kind = Choice(("shared", "memory")).read(node, report)
    return kind if kind is INVALID else Store(kind)


class _LogTarget(FileName):
    """off, logging, or a file; not a word that only looks like one of the first two."""

    def read(self, node: Node, report: Report) -> Any:
        text = FileName.read(self, node, report)
        if isinstance(text, str) and text.lower() in ("false", "no", "none", "null", "true", "yes", "on", "stdout", "stderr"):
            report(
                problem("CG007", node.place, f"{text!r} is no log target", "write off, logging, or a file's name such as decisions.jsonl")
            )
            return INVALID
        return text


def _log(node: Node, report: Report) -> Any:
    to = _LogTarget("a log target", 500).read(node, report)
    return to if to is INVALID else Log(to)


POLICY: dict[str, Field] = {
    "version": Field(Integer(1, 1_000), "The version of the policy language: 1."),
    "mode": Field(Choice(("enforce", "shadow")), "shadow: decide and log, never act."),
    "include": Field(Many(FileName("a file name", 500)), "Further policies: builtin:NAME, files, globs. Their rules come after this file's."),
    "disable": Field(Many(Name()), "Ids of included rules to leave out."),
    "client_ip": Field(
        Record(
            "'client_ip'",
            {
                "trusted_proxies": Field(Many(_Proxy()), "CIDRs, private, unix."),
                "header": Field(HeaderName(), "The one header that the proxy sets."),
            },
            lambda place, **kw: ClientIp(**kw),
        ),
        "Where the client's address comes from behind a reverse proxy.",
    ),
    "networks": Field(Mapped("'networks'", NETWORK), "Your own named networks."),
    "agents": Field(Many(AGENT, single=False, unique=False), "Your own agents, besides the catalogue's."),
    "data": Field(
        Record("'data'", {"asn": Field(_Placed("a file name", 500), "An ASN database (mmdb)."), "country": Field(_Placed("a file name", 500), "A country database (mmdb).")}),
        "Address databases.",
    ),
    "missing_data": Field(Choice(("error", "inactive")), "What to do with a rule whose data is missing."),
    "store": Field(
        Record(
            "'store'",
            {
                "kind": Field(Choice(("shared", "memory")), "shared: all workers of this host. memory: each process alone."),
                "path": Field(FileName("a file name", 500), "Where the shared table lies."),
                "size": Field(Integer(65_536, 1 << 32), "Bytes of the shared table."),
                "url": Field(
                    _STORE_URL, "Valkey or Redis, on which many hosts count: valkey://HOST:6379/0. kind is then the one that counts while it is away."
                ),
                "site": Field(Name(), "The name under which hosts count together; by default that of the policy's file."),
                "batch": Field(
                    Duration(low=10_000, high=1_000_000),
                    "For very large sites: 10ms to 1s (100ms), after which each process tells the server what it did; no request is a call.",
                ),
            },
            lambda place, **kw: Store(**kw),
            shorthand=_store,
            shorthand_schema={"anyOf": [Choice(("shared", "memory")).schema(), _STORE_URL.schema()]},
        ),
        "Where rates are counted.",
    ),
    "log": Field(
        Record(
            "'log'",
            {"to": Field(_LogTarget("a log target", 500), "off, logging, or a file's path."), "sample": Field(Share(), "The share of plain allows to log as well.")},
            lambda place, **kw: Log(**kw),
            shorthand=_log,
            shorthand_schema=Text().schema(),
        ),
        "The decision log.",
    ),
    "privacy": Field(
        Record("'privacy'", {"addresses": Field(Choice(("full", "subnet", "keyed")), "What an address looks like in logs and exports.")}),
        "What is written about visitors.",
    ),
    "robots": Field(ROBOTS, "What robots.txt and its neighbours say beside the verdicts of the rules."),
    "serve": Field(SERVE, "The documents that the middleware answers by itself."),
    "rules": Field(Listing(RULE, single=False, unique=False), "Tried in order; the first final action decides."),
}  # fmt: skip

DOCUMENT = Record("a policy", POLICY, extra={"required": ["version"]})
"""A policy file. Its keys are read one by one (see ``loader``), so that a broken one hides no other's problems."""


def json_schema() -> Json:
    """The JSON Schema (draft 2020-12) of a policy file, for editors; made from the same tables that read it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crawlguard policy",
        **DOCUMENT.schema(),
        "$defs": {"when": When().schema()},
    }
