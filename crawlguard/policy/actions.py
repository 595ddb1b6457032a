"""The actions of ``then``: how each is read. A rule has at most one final action, besides its tags and weight."""

from __future__ import annotations

from typing import Any

from .model import AUTO, FINAL_ACTIONS, RESERVED_ACTIONS, Then
from .nodes import Node
from .problems import problem
from .types import INVALID, Choice, Duration, Field, Integer, Json, Many, Name, Record, Report, Text


class _HeaderText(Text):
    """A text that goes out as a header's value, and must not be able to end its line."""

    def schema(self) -> Json:
        return {"type": ["string", "number"], "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": self.limit}

    def read(self, node: Node, report: Report) -> Any:
        text = Text.read(self, node, report)
        if isinstance(text, str) and (text != text.strip() or any(ord(c) < 32 or ord(c) > 126 for c in text)):
            message = f"{self.what} has control or non-ASCII characters, or blanks around it"
            report(problem("CG033", node.place, message, "use printable ASCII on one line"))
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


class ThenType:
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
