"""The conditions of ``when``: what each is as data, and how it is read. What they mean is in ``compile``.

A ``when`` is an AND of its keys; inside a key, several keys are an AND and a list is an OR. ``all``, ``any`` and ``not`` nest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..signals.ua import CATEGORIES
from .nodes import Node, Place
from .problems import problem
from .rates import Rate, RateOver
from .swarms import SWARM, SwarmIs
from .types import INVALID, Choice, Cidr, Field, Flag, Integer, Json, Many, Name, Record, Report, Text, Type, closest

RESERVED = frozenset(("identity", "coherence", "trap", "proof"))
"""Conditions that a later version brings; using one is an error of its own, not "unknown key"."""

MAX_DEPTH = 12


class AgentIs(NamedTuple):
    """The User-Agent names an agent of the catalogue with these properties."""

    place: Place
    name: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()
    ai: bool | None = None


class TextIs(NamedTuple):
    """A text of the request (``what``: user_agent, path, host or a header) has one of these values, by each kind given."""

    place: Place
    what: str
    tests: tuple[tuple[str, tuple[str, ...]], ...]
    header: str = ""
    missing: bool | None = None


class AddressIn(NamedTuple):
    """The client's address is in one of these CIDRs."""

    place: Place
    cidrs: tuple[str, ...]


class NetworkIs(NamedTuple):
    """The client's address belongs to a named network, or to one with a tag."""

    place: Place
    name: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()


class AsnIs(NamedTuple):
    """The client's address is announced by one of these autonomous systems."""

    place: Place
    numbers: tuple[int, ...]


class CountryIs(NamedTuple):
    """The client's address is registered in one of these countries (ISO 3166-1 alpha-2)."""

    place: Place
    codes: tuple[str, ...]


class MethodIs(NamedTuple):
    """The request's method is one of these."""

    place: Place
    methods: tuple[str, ...]


class ScoreIs(NamedTuple):
    """The score that ``weigh`` actions have added up so far is at least, or below, a number."""

    place: Place
    at_least: int | None = None
    below: int | None = None


class All(NamedTuple):
    """Every one of ``of`` holds. An empty one always holds."""

    place: Place
    of: tuple[Condition, ...] = ()


class AnyOf(NamedTuple):
    """At least one of ``of`` holds."""

    place: Place
    of: tuple[Condition, ...]


class Not(NamedTuple):
    """``of`` does not hold; what is unknown stays unknown."""

    place: Place
    of: Condition


Condition = AgentIs | TextIs | AddressIn | NetworkIs | AsnIs | CountryIs | MethodIs | ScoreIs | RateOver | SwarmIs | All | AnyOf | Not

_texts = Many(Text("a text"))
_KINDS = {
    "is": Field(_texts, "The whole text is one of these."),
    "prefix": Field(_texts, "The text begins with one of these."),
    "suffix": Field(_texts, "The text ends with one of these."),
    "contains": Field(_texts, "The text holds one of these."),
    "regex": Field(_texts, "An RE2 expression is found in the text. Needs crawlguard[regex]."),
}
_MISSING = {"missing": Field(Flag(), "True: only requests without it. False: only requests that have it.")}


def _text_record(what: str, default_kind: str, extra: dict[str, Field], item: Type) -> Record:
    """A text condition: a value or list stands for ``default_kind``, a mapping names the kinds."""

    def build(place: Place, missing: bool | None = None, name: str = "", **kinds: tuple[str, ...]) -> TextIs:
        if missing is None and not kinds:
            missing = False  # a header by its name alone: it is there
        return TextIs(place, what, tuple(kinds.items()), name.lower(), missing)

    def shorthand(node: Node, report: Report) -> Any:
        values = Many(item).read(node, report)
        return values if values is INVALID else TextIs(node.place, what, ((default_kind, values),))

    return Record(
        f"{what!r}", {**extra, **_KINDS}, build, shorthand=shorthand, shorthand_schema=Many(item).schema(), extra={"minProperties": 1}
    )


class _PathPattern:
    """A path as robots.txt writes it: begins with / or *."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text("a path").read(node, report)
        if isinstance(text, str) and text[0] not in "/*":
            report(
                problem(
                    "CG034",
                    node.place,
                    f"the path {text[:60]!r} does not start with '/'",
                    f"write /{text[:60]}; '*' stands for anything and '$' for the end",
                )
            )
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^[/*]"}


class HeaderName:
    """A header's field name (RFC 9110 5.1)."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text("a header name", 64).read(node, report)
        if (isinstance(text, str) and not text.replace("-", "").replace("_", "").isalnum()) or (
            isinstance(text, str) and not text.isascii()
        ):
            report(
                problem(
                    "CG033", node.place, f"{text[:60]!r} is not a header name", "write letters, digits and '-', for example accept-language"
                )
            )
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


def _listed(build: type, item: Type) -> Type:
    """A condition that is one list."""
    return _Built(Many(item), build)


@dataclass(eq=False, repr=False)
class _Built:
    """A type whose value becomes ``build(place, value)``."""

    inner: Type
    build: Any

    def read(self, node: Node, report: Report) -> Any:
        value = self.inner.read(node, report)
        return value if value is INVALID else self.build(node.place, value)

    def schema(self) -> Json:
        return self.inner.schema()


def _agent_names(node: Node, report: Report) -> Any:
    names = Many(Text("an agent's name", 80)).read(node, report)
    return names if names is INVALID else AgentIs(node.place, name=names)


def _network_names(node: Node, report: Report) -> Any:
    names = Many(Name()).read(node, report)
    return names if names is INVALID else NetworkIs(node.place, name=names)


def _score(node: Node, report: Report) -> Any:
    number = Integer(-10_000, 10_000).read(node, report)
    return number if number is INVALID else ScoreIs(node.place, at_least=number)


AGENT = Record(
    "'agent'",
    {
        "name": Field(Many(Text("an agent's name", 80)), "Names as the catalogue has them: GPTBot."),
        "category": Field(Many(Choice(tuple(sorted(CATEGORIES)))), "Kinds of agents: training, search-engine, ..."),
        "operator": Field(Many(Text("an operator's name", 80)), "Who runs it: OpenAI."),
        "ai": Field(Flag(), "True: every AI category. False: every other agent of the catalogue."),
    },
    AgentIs,
    shorthand=_agent_names,
    shorthand_schema=Many(Text()).schema(),
    extra={"minProperties": 1},
)

NETWORK = Record(
    "'network'",
    {"name": Field(Many(Name()), "Networks by name."), "tag": Field(Many(Name()), "Networks by tag: cloud, hosting, ...")},
    NetworkIs,
    shorthand=_network_names,
    shorthand_schema=Many(Name()).schema(),
    extra={"minProperties": 1},
)

SCORE = Record(
    "'score'",
    {"at_least": Field(Integer(-10_000, 10_000)), "below": Field(Integer(-10_000, 10_000))},
    ScoreIs,
    shorthand=_score,
    shorthand_schema=Integer(-10_000, 10_000).schema(),
    extra={"minProperties": 1},
)


_FIELDS: dict[str, Field] = {
    "agent": Field(AGENT, "Who the User-Agent names, by the catalogue."),
    "user_agent": Field(_text_record("user_agent", "contains", _MISSING, Text("a text", 512)), "The User-Agent itself; case does not matter."),
    "ip": Field(_listed(AddressIn, Cidr()), "Addresses and CIDRs."),
    "network": Field(NETWORK, "Named networks, or networks by tag."),
    "asn": Field(_listed(AsnIs, Integer(1, 4_294_967_294, "AS")), "Autonomous system numbers."),
    "country": Field(_listed(CountryIs, Text("a country code", 2, shape="^[A-Za-z]{2}$")), "ISO 3166-1 alpha-2 codes."),
    "path": Field(_text_record("path", "robots", {}, _PathPattern()), "Paths as robots.txt writes them: a prefix, * and $."),
    "method": Field(_listed(MethodIs, Text("a method", 32)), "HTTP methods."),
    "host": Field(_text_record("host", "is", {}, Text("a host", 253)), "The Host header without its port."),
    "header": Field(
        _text_record("header", "is", {"name": Field(HeaderName(), "The header's name.", required=True), **_MISSING}, Text()),
        "A header by name; case does not matter.",
    ),
    "rate": Field(Rate(), "More than this, by this key."),
    "swarm": Field(SWARM, "Many addresses, few requests each, one behaviour: the client is one of a swarm."),
    "score": Field(SCORE, "What weigh actions have added up so far."),
}  # fmt: skip


@dataclass(eq=False, repr=False)
class When:
    """The mapping under ``when``, ``all``, ``any`` and ``not``."""

    depth: int = 0
    fields: dict[str, Field] = field(default_factory=lambda: _FIELDS)

    def read(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            report(
                problem(
                    "CG005",
                    node.place,
                    f"expected conditions as a mapping, found {node.describe()}",
                    "write condition: value lines, for example path: /private/",
                )
            )
            return INVALID
        if self.depth > MAX_DEPTH:
            report(problem("CG035", node.place, f"conditions nest more than {MAX_DEPTH} deep", "split the rule in two"))
            return INVALID
        parts = [self._one(key, value, report) for key, value in node.pairs]
        if any(p is INVALID for p in parts):
            return INVALID
        return parts[0] if len(parts) == 1 else All(node.place, tuple(parts))

    def _one(self, key: Node, value: Node, report: Report) -> Any:
        name, inner = key.text, When(self.depth + 1)
        if name in RESERVED:
            report(
                problem(
                    "CG009",
                    key.place,
                    f"the condition {name!r} is reserved: this version does not have it yet",
                    "remove it until a release notes that it works",
                )
            )
            return INVALID
        if name == "not":
            read = inner.read(value, report)
            return read if read is INVALID else Not(key.place, read)
        if name in ("all", "any"):
            reads = Many(inner, single=False, unique=False).read(value, report)
            return reads if reads is INVALID else (All if name == "all" else AnyOf)(key.place, reads)
        if name not in self.fields:
            report(problem("CG004", key.place, f"no condition is called {name!r}", closest(name, [*self.fields, "all", "any", "not"])))
            return INVALID
        if name == "header" and value.kind != "map":
            report(
                problem(
                    "CG005",
                    value.place,
                    f"expected a header's name and value, found {value.describe()}",
                    "write header: {name: accept-language, missing: true}",
                )
            )
            return INVALID
        return self.fields[name].type.read(value, report)

    def schema(self) -> Json:
        properties = {name: {**f.type.schema(), "description": f.note} for name, f in self.fields.items()}
        header = properties["header"]  # has no short form
        properties["header"] = {**header["anyOf"][1], "description": header["description"]}
        here = {"$ref": "#/$defs/when"}
        many = {"type": "array", "items": here, "minItems": 1}
        return {"type": "object", "additionalProperties": False, "properties": {**properties, "all": many, "any": many, "not": here}}
