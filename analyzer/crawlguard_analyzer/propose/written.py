"""A rule as text. What stands in it came out of a log, so it is written so that it can mean only one thing, and read back to be sure.

Texts are in double quotes with everything but plain ASCII escaped; comments hold printable ASCII alone, on one line each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from textwrap import wrap
from typing import Any

from crawlguard.loader import parse_policy
from crawlguard.policy import conditions as c
from crawlguard.policy.model import Rule
from crawlguard.policy.rates import RateOver

When = Mapping[str, Any]
"""The mapping under ``when`` as plain data: condition -> text, list of texts, or a mapping of its keys."""

WIDTH = 110
"""Characters of a comment's line."""
FEW, SHORT = 6, 8
"""Lists of more values than this have a line for each, or (when none is longer than SHORT) are wrapped."""
MOST_TEXT = 160
"""Characters of a log's text in a comment."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !#$%&'()*+,-./:;<=>?@[]^_`{|}~")


def quoted(text: str) -> str:
    """A YAML double-quoted scalar (YAML 1.2, 5.7 and 7.3.1) that is ASCII."""
    return '"' + "".join(char if char in _PLAIN else _escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return "\\" + char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(text: str, most: int = MOST_TEXT) -> str:
    """A log's text for people: printable ASCII, and cut."""
    plain = "".join(char if char in _PLAIN or char in '"\\' else _escape(char) for char in text[:most])
    return plain[:most] + ("..." if len(text) > most or len(plain) > most else "")


def comment(lines: Iterable[str], indent: str = "  ") -> Iterator[str]:
    """Lines of comment; what is long goes on in the next one."""
    for line in lines:
        for part in wrap(shown(line, 4096), WIDTH, break_on_hyphens=False, subsequent_indent="  ") or [""]:
            yield f"{indent}# {part}".rstrip()


def rule_text(id: str, when: When, then: str, reason: str, comments: Iterable[str]) -> str:
    """A rule in shadow mode, as an item of ``rules``, with its comments above it."""
    lines = [*comment(comments), f"  - id: {id}", "    mode: shadow", f"    reason: {quoted(reason)}", "    when:", *_mapping(when, 6)]
    return "\n".join([*lines, f"    then: {then}", ""])


def _mapping(value: When, indent: int) -> Iterator[str]:
    pad = " " * indent
    for key, one in value.items():
        if isinstance(one, Mapping):
            yield f"{pad}{key}:"
            yield from _mapping(one, indent + 2)
        elif isinstance(one, list) and one and isinstance(one[0], Mapping):
            yield f"{pad}{key}:"
            for item in one:
                first, *rest = _mapping(item, indent + 4)
                yield f"{pad}  - {first.lstrip()}"
                yield from rest
        elif isinstance(one, list) and len(one) > FEW and all(len(str(item)) <= SHORT for item in one):
            first, *rest = wrap(", ".join(map(_scalar, one)), WIDTH - indent)
            yield f"{pad}{key}: [{first}" + ("" if rest else "]")
            yield from (f"{pad}    {line}" + ("]" if line is rest[-1] else "") for line in rest)
        elif isinstance(one, list) and len(one) > FEW:
            yield f"{pad}{key}:"
            yield from (f"{pad}  - {_scalar(item)}" for item in one)
        elif isinstance(one, list):
            yield f"{pad}{key}: [{', '.join(map(_scalar, one))}]"
        else:
            yield f"{pad}{key}: {_scalar(one)}"


def _scalar(value: object) -> str:
    return quoted(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def read_back(text: str, when: When, *, asn: bool = False) -> Rule | None:
    """The rule that a text (see ``rule_text``) means to the guard; None when it is not exactly the one that was meant.

    ``asn``: the rule needs a database, which is not asked for here.
    """
    head = "version: 1\nmissing_data: inactive\nrules:\n" if asn else "version: 1\nrules:\n"
    policy, _ = parse_policy(head + text, "proposed")
    if policy is None or len(policy.rules) != 1:
        return None
    rule = policy.rules[0]
    return rule if rule.mode == "shadow" and meaning(rule.when) == _meant(when) else None


def needs_asn(when: When) -> bool:
    """Whether a rule is nothing without a database of autonomous systems."""
    return "asn" in when


def meaning(when: c.Condition) -> Any:
    """A condition without its places, for comparing."""
    if isinstance(when, c.All | c.AnyOf):
        return type(when).__name__, frozenset(map(meaning, when.of))
    if isinstance(when, c.Not):
        return "Not", meaning(when.of)
    if isinstance(when, RateOver):
        windows = tuple((w.requests, w.within) if w.what == "requests" else w[1:] for w in when.windows)
        return "RateOver", when.per, windows, when.block_for or when.shape
    return type(when).__name__, *(tuple(part) if isinstance(part, list) else part for part in when[1:])


_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}


def _meant(when: When) -> Any:
    """What a mapping means, by hand: the reader's own code is what this is held against."""
    parts = [_one(key, value) for key, value in when.items()]
    return parts[0] if len(parts) == 1 else ("All", frozenset(parts))


def _one(key: str, value: Any) -> Any:
    if key in ("all", "any"):
        return {"all": "All", "any": "AnyOf"}[key], frozenset(map(_meant, value))
    if key == "not":
        return "Not", _meant(value)
    many = _many
    if key == "agent":
        return "AgentIs", many(value.get("name")), many(value.get("category")), many(value.get("operator")), None
    if key == "ip":
        return "AddressIn", tuple(str(ip_network(cidr)) for cidr in value)
    if key == "asn":
        return "AsnIs", many(value)
    if key == "network":
        return "NetworkIs", many(value.get("name")), many(value.get("tag"))
    if key in ("user_agent", "path"):
        tests = tuple((kind, many(values)) for kind, values in value.items() if kind != "missing")
        return "TextIs", key, tests, "", value.get("missing")
    if key == "rate":
        windows = value.get("windows") or [value]
        return "RateOver", many(value["per"]), tuple((w["requests"], _microseconds(w["within"])) for w in windows), None
    raise ValueError(f"no proposal has the condition {key!r}")


def _many(value: Any) -> tuple[Any, ...]:
    return () if value is None else tuple(value) if isinstance(value, list) else (value,)


def _microseconds(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]
