"""The kinds of values a policy is made of: each reads a Node, reports what is wrong with it, and knows its JSON Schema.

A type's ``read`` returns the value, or INVALID after it has reported a problem; so one run finds all errors at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, Protocol

from ..errors import Problem
from .nodes import Node
from .problems import problem


class _Invalid:
    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()
Report = Callable[[Problem], None]
Json = dict[str, Any]


class Type(Protocol):
    """What every kind of value can do."""

    def read(self, node: Node, report: Report) -> Any: ...
    def schema(self) -> Json: ...


def closest(word: str, known: Sequence[str]) -> str:
    """Advice: the nearest known word, or the whole list when nothing is near."""
    from difflib import get_close_matches  # only when something is wrong

    near = get_close_matches(word, known, 1, 0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(known[:24])
    return f"write one of: {shown}{', ...' if len(known) > 24 else ''}"


def _scalar(node: Node, what: str, report: Report) -> str | _Invalid:
    if node.kind == "text":
        return node.text
    report(problem("CG005", node.place, f"expected {what}, found {node.describe()}", f"write {what} here"))
    return INVALID


@dataclass(eq=False, repr=False)
class Text:
    """A non-empty text of at most ``limit`` characters."""

    what: str = "a text"
    limit: int = 4096
    empty: bool = False
    shape: str = r"\S"
    """The schema's pattern; ``read`` leaves what it adds to the checks of the whole policy."""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, self.what, report)
        if isinstance(text, str):
            if not text.strip() and not self.empty:
                report(problem("CG030", node.place, f"{self.what} is empty", "write it, or remove the key"))
                return INVALID
            if len(text) > self.limit:
                report(problem("CG015", node.place, f"{self.what} has {len(text)} characters", f"use at most {self.limit}"))
                return INVALID
        return text

    def schema(self) -> Json:
        shape: Json = {} if self.empty else {"pattern": self.shape}
        return {"type": ["string", "number"] if self.what != "a text" else "string", "maxLength": self.limit, **shape}


class FileName(Text):
    """A file's name, or a glob: a text that the operating system can take."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text.read(self, node, report)
        if isinstance(text, str) and any(ord(c) < 32 for c in text):
            report(
                problem("CG007", node.place, f"{self.what} holds a control character", "write the name on one line, in plain characters")
            )
            return INVALID
        return text


class Name:
    """An id: letters, digits, ``_ - .``; so that it can stand in a log, a header and a file name."""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "a name", report)
        if isinstance(text, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
            advice = "use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit"
            report(problem("CG022", node.place, f"{text[:80]!r} is not a plain name", advice))
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}


@dataclass(eq=False, repr=False)
class Integer:
    """A whole number from ``low`` to ``high``. ``prefix``: letters that may stand before it (``AS``)."""

    low: int
    high: int
    prefix: str = ""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "a whole number", report)
        if not isinstance(text, str):
            return INVALID
        digits = text[len(self.prefix) :] if self.prefix and text.upper().startswith(self.prefix) else text
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", digits):
            report(
                problem(
                    "CG005", node.place, f"expected a whole number, found {text[:60]!r}", f"write a number from {self.low} to {self.high}"
                )
            )
            return INVALID
        if not self.low <= int(digits) <= self.high:
            report(problem("CG015", node.place, f"{digits} is out of range", f"write a number from {self.low} to {self.high}"))
            return INVALID
        return int(digits)

    def schema(self) -> Json:
        number: Json = {"type": "integer", "minimum": self.low, "maximum": self.high}
        prefix = "".join(f"[{letter.upper()}{letter.lower()}]" for letter in self.prefix)  # ECMA 262 has no (?i:...)
        return {"anyOf": [number, {"type": "string", "pattern": f"^{prefix}[0-9]+$"}]} if prefix else number


class Share:
    """A share of all: 0 to 1, or a percentage."""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "a share", report)
        if not isinstance(text, str):
            return INVALID
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%?)", text.strip())
        value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
        if not 0 <= value <= 1:
            report(problem("CG015", node.place, f"{text[:60]!r} is not a share", "write a number from 0 to 1, or a percentage such as 1%"))
            return INVALID
        return value

    def schema(self) -> Json:
        return {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "^[0-9.]+%$"}]}


class Flag:
    """true or false."""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "true or false", report)
        if not isinstance(text, str):
            return INVALID
        if text.lower() not in ("true", "false"):
            report(problem("CG007", node.place, f"expected true or false, found {text[:60]!r}", "write true or false"))
            return INVALID
        return text.lower() == "true"

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(eq=False, repr=False)
class Choice:
    """One of a few words. ``fold`` compares without case and returns the word as listed."""

    words: tuple[str, ...]
    fold: bool = False

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "one word", report)
        if not isinstance(text, str):
            return INVALID
        for word in self.words:
            if text == word or (self.fold and text.lower() == word.lower()):
                return word
        report(problem("CG007", node.place, f"{text[:60]!r} is not one of the allowed values", closest(text, self.words)))
        return INVALID

    def schema(self) -> Json:
        return {"enum": list(self.words)}


_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}


def _spelt(us: int) -> str:
    unit = next(name for name in ("d", "h", "m", "s", "ms") if us % _UNITS[name] == 0)
    return f"{us // _UNITS[unit]}{unit}"


@dataclass(eq=False, repr=False)
class Duration:
    """A time such as ``500ms``, ``10s``, ``1m``, ``1h``, ``1d``; the value is in microseconds."""

    low: int = 1_000
    high: int = 31 * _UNITS["d"]

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "a duration", report)
        if not isinstance(text, str):
            return INVALID
        found = re.fullmatch(r"([0-9]{1,12})(ms|s|m|h|d|w)", text.strip())
        if not found:
            report(problem("CG014", node.place, f"{text[:60]!r} is not a duration", "write a number with a unit: 500ms, 10s, 1m, 1h, 1d"))
            return INVALID
        value = int(found[1]) * _UNITS[found[2]]
        if not self.low <= value <= self.high:
            report(problem("CG015", node.place, f"{text} is out of range", f"use a time from {_spelt(self.low)} to {_spelt(self.high)}"))
            return INVALID
        return value

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d|w)$"}


def _canonical(net: IPv4Network | IPv6Network) -> str:
    mapped = net.network_address.ipv4_mapped if isinstance(net, IPv6Network) and net.prefixlen >= 96 else None
    return str(net) if mapped is None else str(IPv4Network((mapped, net.prefixlen - 96)))


class Cidr:
    """An address or CIDR, returned in its canonical form; an IPv4-mapped one as IPv4, as clients' addresses are."""

    def read(self, node: Node, report: Report) -> Any:
        text = _scalar(node, "an address or CIDR", report)
        if not isinstance(text, str):
            return INVALID
        plain = "" if "%" in text else text  # a zone means something on one host only
        try:
            return _canonical(ip_network(plain))
        except ValueError:
            pass
        try:
            right = ip_network(plain, strict=False)
        except ValueError:
            report(
                problem(
                    "CG013",
                    node.place,
                    f"{text[:60]!r} is not an address or CIDR",
                    "write for example 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32",
                )
            )
        else:
            report(
                problem(
                    "CG012",
                    node.place,
                    f"{text} has host bits set",
                    f"write {right} for the network, or {text.partition('/')[0]} for the one address",
                )
            )
        return INVALID

    def schema(self) -> Json:
        return {"type": "string"}


@dataclass(eq=False, repr=False)
class Many:
    """A list, or one value standing for a list of one; returned as a tuple. Not empty, and nothing twice."""

    item: Type
    single: bool = True
    unique: bool = True

    def read(self, node: Node, report: Report) -> Any:
        if node.kind == "list":
            if not node.items:
                report(problem("CG030", node.place, "the list is empty", "name at least one value, or remove the key"))
                return INVALID
            nodes = node.items
        elif self.single and node.kind != "null":
            nodes = [node]
        else:
            report(problem("CG005", node.place, f"expected a list, found {node.describe()}", "write a list: [a, b]"))
            return INVALID
        values = [self.item.read(n, report) for n in nodes]
        if any(v is INVALID for v in values):
            return INVALID
        if self.unique:
            seen: set[Any] = set()
            for value, n in zip(values, nodes, strict=True):
                if value in seen:
                    report(problem("CG038", n.place, f"{n.describe()} stands twice in the list", "remove one of the two"))
                seen.add(value)
        return tuple(values)

    def schema(self) -> Json:
        item = self.item.schema()
        listed = {"type": "array", "items": item, "minItems": 1}
        return {"anyOf": [item, listed]} if self.single else listed


@dataclass(eq=False, repr=False)
class Field:
    """One key of a Record. ``note`` is the sentence that editors show."""

    type: Type
    note: str = ""
    required: bool = False


@dataclass(eq=False, repr=False)
class Record:
    """A mapping with known keys. ``read`` returns a dict of the keys that are there and fine, plus ``place``.

    ``reserved``: names that a later version will know. A record with a problem in any key is still read to its end.
    """

    what: str
    fields: Mapping[str, Field]
    build: Callable[..., Any] | None = None
    reserved: frozenset[str] = frozenset()
    shorthand: Callable[[Node, Report], Any] | None = None
    shorthand_schema: Json | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def read(self, node: Node, report: Report) -> Any:
        if self.shorthand and node.kind != "map":
            return self.shorthand(node, report)
        found = self.read_fields(node, report)
        if found is INVALID or self.build is None:
            return found
        return self.build(place=node.place, **found)

    def read_fields(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            report(
                problem(
                    "CG005",
                    node.place,
                    f"expected {self.what} as a mapping, found {node.describe()}",
                    f"write the keys of {self.what} here: {', '.join(list(self.fields)[:8])}",
                )
            )
            return INVALID
        found: dict[str, Any] = {}
        broken = False
        for key, value in node.pairs:
            name = key.text
            if name in self.reserved:
                report(
                    problem(
                        "CG009",
                        key.place,
                        f"{name!r} is reserved: this version does not have it yet",
                        "remove it until a release notes that it works",
                    )
                )
                broken = True
            elif name not in self.fields:
                report(problem("CG004", key.place, f"{self.what} has no key {name!r}", closest(name, list(self.fields))))
                broken = True
            else:
                read = self.fields[name].type.read(value, report)
                broken |= read is INVALID
                found[name] = read
        for name, spec in self.fields.items():
            if spec.required and name not in found:
                report(problem("CG006", node.place, f"{self.what} has no {name!r}", f"add {name}: ..."))
                broken = True
        if not node.pairs and self.extra.get("minProperties"):
            report(problem("CG030", node.place, f"{self.what} is empty", f"write one of: {', '.join(self.fields)}"))
            broken = True
        return INVALID if broken else found

    def schema(self) -> Json:
        properties = {}
        for name, spec in self.fields.items():
            properties[name] = {**spec.type.schema(), **({"description": spec.note} if spec.note else {})}
        own: Json = {"type": "object", "properties": properties, "additionalProperties": False, **self.extra}
        required = [n for n, s in self.fields.items() if s.required]
        if required:
            own["required"] = required
        return {"anyOf": [self.shorthand_schema, own]} if self.shorthand_schema else own


@dataclass(eq=False, repr=False)
class Mapped:
    """A mapping from free names to values of one type, returned as a dict of name -> (value, place)."""

    what: str
    value: Type

    def read(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            report(problem("CG005", node.place, f"expected {self.what} as a mapping, found {node.describe()}", "write name: value lines"))
            return INVALID
        found = {}
        for key, value in node.pairs:
            name, read = Name().read(key, report), self.value.read(value, report)
            if name is not INVALID and read is not INVALID:
                found[name] = (read, key.place)
        return found if len(found) == len(node.pairs) else INVALID

    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": self.value.schema()}
