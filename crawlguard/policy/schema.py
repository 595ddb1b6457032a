"""The policy file as data: one dataclass per mapping, and the tables that read them and describe them to editors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import Problem
from ..signals.ua import CATEGORIES, Agent, Pattern
from .conditions import All, Condition, HeaderName, When
from .nodes import Node, Place
from .problems import problem
from .types import INVALID, Choice, Cidr, Duration, Field, FileName, Integer, Json, Many, Mapped, Name, Record, Report, Share, Text

VERSION = 1
RESERVED_ACTIONS = frozenset(("challenge", "tarpit", "decoy"))
FINAL_ACTIONS = ("allow", "block", "throttle", "hide", "price")
AUTO = -1
"""``retry_after: auto``: the exact wait of the rate that tripped, in whole seconds rounded up."""
RETRY_WITHOUT_RATE = 60
"""Seconds of ``retry_after: auto`` when no rate condition says how long: a polite client's usual pause."""


class Then(NamedTuple):
    """What a rule does: tags, weight, and at most one final action with its answer."""

    place: Place
    action: str | None = None
    tags: tuple[str, ...] = ()
    weigh: int = 0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    html: str | None = None
    json: str | None = None
    retry_after: int = AUTO
    block_for: int | None = None
    custom: bool = False


class Rule(NamedTuple):
    """One rule. ``mode`` None takes the policy's."""

    place: Place
    id: str
    then: Then
    when: Condition
    mode: str | None = None
    reason: str | None = None


class Network(NamedTuple):
    """A named set of addresses, by CIDRs, by a file of CIDRs, or by autonomous systems."""

    place: Place
    name: str
    cidrs: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    file: str | None = None


class ClientIp(NamedTuple):
    """Whose word about the client's address is taken."""

    trusted_proxies: tuple[str, ...] = ()
    header: str = "x-forwarded-for"


class Store(NamedTuple):
    """Where rates are counted. ``size`` in bytes, for ``shared``."""

    kind: str = "shared"
    path: str | None = None
    size: int = 16 << 20


class Log(NamedTuple):
    """The decision log. ``sample``: the share of plain allows that is logged too."""

    to: str = "off"
    sample: float = 0.0


@dataclass(slots=True)
class Policy:
    """A whole policy, its includes already merged: own rules first, then the included ones in their order.

    What ``load_policy`` returns and what every door takes. ``sources`` are the files it was made of, and
    the globs (plain names are escaped as for ``glob``), for reloading.
    """

    mode: str = "enforce"
    rules: tuple[Rule, ...] = ()
    agents: tuple[Agent, ...] = ()
    networks: dict[str, Network] = field(default_factory=dict)
    client_ip: ClientIp = field(default_factory=ClientIp)
    asn: str | None = None
    country: str | None = None
    missing_data: str = "error"
    store: Store = field(default_factory=Store)
    log: Log = field(default_factory=Log)
    addresses: str = "full"
    name: str = "policy"
    sources: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _HeaderText(Text):
    """A text that goes out as a header's value, and must not be able to end its line."""

    def schema(self) -> Json:
        return {"type": ["string", "number"], "pattern": "^[ -~]*[!-~][ -~]*$", "maxLength": self.limit}

    def read(self, node: Node, report: Report) -> Any:
        text = Text.read(self, node, report)
        if isinstance(text, str) and any(ord(c) < 32 or ord(c) > 126 for c in text):
            report(problem("CG033", node.place, f"{self.what} has control or non-ASCII characters", "use printable ASCII on one line"))
            return INVALID
        return text


_HEADER_TEXT = _HeaderText("a header's value", 1024)


def _then(node: Node, report: Report) -> Any:
    if node.kind == "text":
        return _then_word(node, report)
    if node.kind != "map" or not node.pairs:
        report(
            problem(
                "CG005",
                node.place,
                f"expected an action, found {node.describe()}",
                f"write one of: {', '.join(FINAL_ACTIONS)}, or weigh: N, tag: name",
            )
        )
        return INVALID
    found: dict[str, Any] = {}
    broken, final = False, []
    for key, value in node.pairs:
        name = key.text
        if name in RESERVED_ACTIONS:
            report(
                problem(
                    "CG009",
                    key.place,
                    f"the action {name!r} is reserved: this version does not have it yet",
                    "use block or throttle until a release notes that it works",
                )
            )
            broken = True
        elif name not in _ACTIONS:
            words = list(_ACTIONS)
            report(problem("CG004", key.place, f"no action is called {name!r}", f"write one of: {', '.join(words)}"))
            broken = True
        else:
            read = _ACTIONS[name].read(value, report) if not (name in FINAL_ACTIONS and value.kind == "null") else {}
            if read is INVALID:
                broken = True
            elif name in FINAL_ACTIONS:
                final.append(name)
                found |= {"action": name, "custom": bool(read), **read}
            else:
                found[{"tag": "tags"}.get(name, name)] = read
    if len(final) > 1:
        report(
            problem("CG025", node.place, f"the rule has {len(final)} final actions: {', '.join(final)}", "keep one; a rule decides once")
        )
        broken = True
    return INVALID if broken else Then(node.place, **found)


def _then_word(node: Node, report: Report) -> Any:
    if node.text in RESERVED_ACTIONS:
        report(
            problem(
                "CG009",
                node.place,
                f"the action {node.text!r} is reserved: this version does not have it yet",
                "use block or throttle until a release notes that it works",
            )
        )
        return INVALID
    word = Choice(FINAL_ACTIONS).read(node, report)
    return word if word is INVALID else Then(node.place, action=word)


class _ThenType:
    """``then``: a word, or a mapping of actions to their options."""

    def read(self, node: Node, report: Report) -> Any:
        return _then(node, report)

    def schema(self) -> Json:
        properties = {name: kind.schema() for name, kind in _ACTIONS.items()}
        mapping = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
        return {"anyOf": [{"enum": list(FINAL_ACTIONS)}, mapping]}


class _RetryAfter:
    """``auto`` or a duration; the value is in whole seconds, AUTO for auto."""

    def read(self, node: Node, report: Report) -> Any:
        if node.kind == "text" and node.text == "auto":
            return AUTO
        value = Duration(low=1_000_000).read(node, report)
        return value if value is INVALID else -(-value // 1_000_000)

    def schema(self) -> Json:
        return {"anyOf": [{"const": "auto"}, Duration().schema()]}


class _HeadersType:
    """Response headers: a name to a value, neither able to end its line."""

    def read(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            report(problem("CG005", node.place, f"expected headers as a mapping, found {node.describe()}", "write name: value lines"))
            return INVALID
        broken = False
        for key, value in node.pairs:
            name, text = key.text, _HEADER_TEXT.read(value, report)
            own = name.lower() in ("content-length", "transfer-encoding", "connection", "retry-after")
            bad_name = not name.isascii() or not name.replace("-", "").isalnum()
            if own or bad_name:
                cure = f"{name} is written by the guard itself; remove it" if own else "use letters, digits and '-' in the name"
                report(problem("CG033", key.place, f"the header {name[:60]!r} cannot be set here", cure))
            elif text is not INVALID:
                continue
            broken = True
        return INVALID if broken else tuple((k.text, v.text) for k, v in node.pairs)

    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": _HEADER_TEXT.schema()}


def _body(node: Node, report: Report) -> Any:
    text = Text("a body", 65_536).read(node, report)
    return text if text is INVALID else {"text": text}


class _Flattened:
    """A record whose keys move up into the mapping that holds it (``body: {html: ...}`` becomes ``html=...``)."""

    def __init__(self, fields: dict[str, Field], extra: dict[str, Field], what: str = "the answer") -> None:
        self.inner = Record(what, {**fields, **extra})

    def read(self, node: Node, report: Report) -> Any:
        found = self.inner.read(node, report)
        if isinstance(found, dict):
            found |= found.pop("body", {})
            amount = found.pop("amount", None)
            if amount:
                found["headers"] = (*found.get("headers", ()), ("crawler-price", amount))
        return found

    def schema(self) -> Json:
        return {"anyOf": [self.inner.schema(), {"type": "null"}]}


_page = Text("a body", 65_536)
_BODY = Record(
    "'body'",
    {"text": Field(_page), "html": Field(_page), "json": Field(_page)},
    shorthand=_body,
    shorthand_schema=_page.schema(),
    extra={"minProperties": 1},
)
_ANSWER = {
    "status": Field(Integer(200, 599), "The HTTP status to answer with."),
    "headers": Field(_HeadersType(), "Further response headers."),
    "body": Field(_BODY, "The body: one text, or one per media type."),
}
_HOLD = {"block_for": Field(Duration(), "Once over the rate, keep the client out for this long.")}
_ACTIONS: dict[str, Any] = {
    "allow": _Flattened({}, {}, "'allow'"),
    "block": _Flattened(_ANSWER, _HOLD),
    "throttle": _Flattened(_ANSWER, {"retry_after": Field(_RetryAfter(), "auto, or a time."), **_HOLD}),
    "hide": _Flattened(_ANSWER, _HOLD),
    "price": _Flattened(_ANSWER, {"amount": Field(_HeaderText("a price", 64), "What a request costs: USD 0.01.")}),
    "weigh": Integer(-1000, 1000),
    "tag": Many(Name()),
}

RULE = Record(
    "a rule",
    {
        "id": Field(Name(), "The rule's name in logs and reports.", required=True),
        "when": Field(When(), "The conditions, all of which must hold. Without it the rule always matches."),
        "then": Field(_ThenType(), "What to do.", required=True),
        "mode": Field(Choice(("enforce", "shadow")), "shadow: log what the rule would do, and go on."),
        "reason": Field(Text("a reason", 200), "One sentence for the log and for the refused client."),
    },
    lambda place, id, then, when=None, **kw: Rule(place, id, then, when or All(place), **kw),
)


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


class _Placed(FileName):
    """A text with the place where it stood."""

    def read(self, node: Node, report: Report) -> Any:
        text = FileName.read(self, node, report)
        return text if text is INVALID else (text, node.place)


class _Proxy(Cidr):
    """An address or CIDR of a proxy, or a word for several."""

    def read(self, node: Node, report: Report) -> Any:
        return node.text if node.text in ("private", "unix") else Cidr.read(self, node, report)


class _Listing(Many):
    """A list that may be empty."""

    def read(self, node: Node, report: Report) -> Any:
        return () if node.kind == "list" and not node.items else Many.read(self, node, report)

    def schema(self) -> Json:
        item = self.item.schema()
        listed = {"type": "array", "items": item}
        return {"anyOf": [item, listed]} if self.single else listed


_texts = _Listing(Text(limit=1024), unique=False)
AGENT = Record(
    "an agent",
    {
        "name": Field(Text("a name", 80), "The field's name of it.", required=True),
        "operator": Field(Text("an operator", 80), "Who runs it.", required=True),
        "category": Field(Choice(tuple(sorted(CATEGORIES))), "What kind it is.", required=True),
        "does": Field(Text(limit=300), "What it does, in one sentence."),
        "user_agent": Field(_Listing(_PATTERN), "How it shows in a User-Agent."),
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
        "agents": Field(Many(Text(limit=80)), "Agents of the catalogue that come from here."),
        "source": Field(Text("a URL", 500)),
        "date": Field(Text("a date", 10)),
    },
    lambda place, operator="", agents=(), source="", date="", name="", **kw: Network(place, name, **kw),
    shorthand=_cidrs,
    shorthand_schema=Many(Cidr()).schema(),
    extra={"minProperties": 1},
)


def _store(node: Node, report: Report) -> Any:
    kind = Choice(("shared", "memory")).read(node, report)
    return kind if kind is INVALID else Store(kind)


def _log(node: Node, report: Report) -> Any:
    to = FileName("a log target", 500).read(node, report)
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
            },
            lambda place, **kw: Store(**kw),
            shorthand=_store,
            shorthand_schema=Choice(("shared", "memory")).schema(),
        ),
        "Where rates are counted.",
    ),
    "log": Field(
        Record(
            "'log'",
            {"to": Field(FileName("a log target", 500), "off, logging, or a file's path."), "sample": Field(Share(), "The share of plain allows to log as well.")},
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
    "rules": Field(_Listing(RULE, single=False, unique=False), "Tried in order; the first final action decides."),
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
