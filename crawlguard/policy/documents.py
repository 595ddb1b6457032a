"""``robots`` and ``serve``: how a policy says what stands beside its verdicts in robots.txt and its neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .model import Robots, Serve
from .nodes import Node
from .problems import problem
from .types import INVALID, Choice, Field, FileName, Flag, Integer, Json, Many, Record, Report, Text, closest

SIGNALS = {
    "search": ("yes", "no"),
    "ai-input": ("yes", "no"),
    "ai-train": ("yes", "no"),
    "use": ("immediate", "reference", "full"),
}
"""Labels of Content-Signal (contentsignals.org) and their values."""
USAGES = {"search": ("y", "n"), "train-ai": ("y", "n")}
"""Labels of Content-Usage (draft-ietf-aipref-vocab-08) and their values."""

_PRODUCT = r"\*|[A-Za-z0-9]([A-Za-z0-9_.!/ -]{0,58}[A-Za-z0-9!])?"
_URL = r"https?://[A-Za-z0-9\[][!-~]{0,500}"


class Url:
    """An absolute http or https URL, in characters that may stand in a header."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text("a URL", 512).read(node, report)
        if isinstance(text, str) and not re.fullmatch(_URL, text):
            advice = "write it whole and percent-encoded, for example https://example.org/license.xml"
            report(problem("CG040", node.place, f"{text[:80]!r} is not an absolute http(s) URL", advice))
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^https?://[!-~]+$"}


@dataclass(eq=False, repr=False)
class _Pairs:
    """A mapping from labels that are known to values that are known, or ``auto``, or ``off``."""

    what: str
    labels: Mapping[str, tuple[str, ...]]

    def read(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            word = Choice(("auto", "off")).read(node, report)
            return None if word == "off" else word
        found: dict[str, str] = {}
        for key, value in node.pairs:
            if key.text not in self.labels:
                report(problem("CG004", key.place, f"{self.what} has no label {key.text!r}", closest(key.text, list(self.labels))))
                return INVALID
            read = Choice(self.labels[key.text]).read(value, report)
            if read is INVALID:
                return INVALID
            found[key.text] = read
        return tuple(found.items()) or None

    def schema(self) -> Json:
        properties = {label: {"enum": list(values)} for label, values in self.labels.items()}
        return {"anyOf": [{"enum": ["auto", "off"]}, {"type": "object", "properties": properties, "additionalProperties": False}]}


class _Delays:
    """A mapping from robots.txt tokens (or ``*``) to seconds."""

    def read(self, node: Node, report: Report) -> Any:
        if node.kind != "map":
            seconds = Integer(1, 86_400).read(node, report)
            return seconds if seconds is INVALID else (("*", seconds),)
        found: list[tuple[str, int]] = []
        for key, value in node.pairs:
            if not re.fullmatch(_PRODUCT, key.text):
                advice = "write the agent's product token, such as bingbot, or '*'"
                report(problem("CG022", key.place, f"{key.text[:60]!r} is not a robots.txt token", advice))
                return INVALID
            seconds = Integer(1, 86_400).read(value, report)
            if seconds is INVALID:
                return INVALID
            found.append((key.text, seconds))
        return tuple(found)

    def schema(self) -> Json:
        seconds = Integer(1, 86_400).schema()
        return {"anyOf": [seconds, {"type": "object", "additionalProperties": seconds, "propertyNames": {"pattern": f"^({_PRODUCT})$"}}]}


class _Comment:
    """Lines for people; no control characters."""

    def read(self, node: Node, report: Report) -> Any:
        text = Text("a comment", 4096).read(node, report)
        if isinstance(text, str) and any(ord(c) < 32 and c != "\n" for c in text):
            report(problem("CG007", node.place, "the comment holds a control character", "write plain lines of text"))
            return INVALID
        return text

    def schema(self) -> Json:
        return {"type": "string", "maxLength": 4096, "pattern": "^[^\\u0000-\\u0009\\u000b-\\u001f]*$"}


ROBOTS = Record(
    "'robots'",
    {
        "comment": Field(_Comment(), "Lines that stand at the head of robots.txt."),
        "sitemap": Field(Many(Url()), "URLs of sitemaps."),
        "license": Field(Url(), "Where the RSL document of the site lies."),
        "tdm_policy": Field(Url(), "Where the site says how text and data mining can be licensed."),
        "crawl_delay": Field(_Delays(), "Seconds between requests, for all or by token. Few agents obey it."),
        "content_signal": Field(_Pairs("content_signal", SIGNALS), "Content-Signal: auto takes it from the rules."),
        "content_usage": Field(_Pairs("content_usage", USAGES), "Content-Usage (a draft of the IETF): auto takes it from the rules."),
        "merge": Field(FileName("a file name", 500), "An existing robots.txt, whose groups are kept."),
    },
    lambda place, sitemap=(), crawl_delay=(), content_signal="auto", content_usage=None, **kw: Robots(
        place, sitemaps=sitemap, delays=crawl_delay, signals=content_signal, usage=content_usage, **kw
    ),
)

SERVE = Record(
    "'serve'",
    {
        "robots": Field(Flag(), "/robots.txt"),
        "tdmrep": Field(Flag(), "/.well-known/tdmrep.json"),
        "rsl": Field(Flag(), "The RSL document, where robots: {license: ...} says it lies."),
        "ai_txt": Field(Flag(), "/ai.txt"),
        "headers": Field(Flag(), "Content-Usage, X-Robots-Tag, tdm-* and Link headers on the application's own answers."),
    },
    lambda place, **kw: Serve(**kw),
)
