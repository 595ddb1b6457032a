"""What the site says on its own answers: headers, compiled once, at the price of a look-up. Values in, values out."""

from __future__ import annotations

import re

from ..policy.model import Policy
from .paths import EVERYTHING, decide
from .robots import SIGNALS_OF, Will
from .uses import told_by, url_text

USAGE_OF = (("train-ai", "ai-train"), ("search", "search"))
"""The labels of Content-Usage and the use that each is about."""

MOST_KNOWN = 1024
"""Sets of headers that are kept; as many combinations of path patterns have hardly any paths in common with a site."""

RSL_TYPE = "application/rsl+xml"
_WORD = re.compile(r"[a-z*][a-z0-9_.*-]*")


class Headers:
    """What the site says on its own answers, compiled once; made anew only for paths that no known one is like.

    X-Robots-Tag says what somebody reads: ``noai`` and ``noimageai`` (img2dataset, datadiligence) where training is refused, and
    ``noarchive`` (Bing: neither in Copilot's answers nor in training, still in search results) where AI input is refused besides.
    Google's ``noindex`` and ``nosnippet`` also change what people find, so no rule about AI can mean them.
    """

    __slots__ = ("_always", "_known", "_tests", "_told", "_usage", "_with")

    def __init__(self, policy: Policy, will: Will) -> None:
        robots = policy.robots
        self._told = {use: [lines for (lines,) in told_by(policy, (will,), use)] for use in SIGNALS_OF}
        self._usage = robots.usage
        self._with = (
            url_text(robots.tdm_policy),
            f'<{url_text(robots.license)}>; rel="license"; type="{RSL_TYPE}"' if robots.license else "",
        )
        globs = dict.fromkeys(line.glob for said in self._told.values() for lines in said for line in lines)
        globs.pop(EVERYTHING, None)
        self._tests = tuple(glob.matches for glob in globs)
        self._known: dict[tuple[bool, ...], tuple[tuple[str, str], ...]] = {}
        self._always = () if self._tests else self._make("/")

    def for_path(self, path: str) -> tuple[tuple[str, str], ...]:
        """The headers for a decoded path without query: (name, value), printable ASCII."""
        if not self._tests:
            return self._always
        key = tuple([test(path) for test in self._tests])
        found = self._known.get(key)
        if found is None:
            found = self._make(path)
            if len(self._known) < MOST_KNOWN:
                self._known[key] = found
        return found

    def _make(self, path: str) -> tuple[tuple[str, str], ...]:
        served = {use: {decide(lines, path) for lines in said} for use, said in self._told.items()}
        reserved, closed = False in served["ai-train"], True not in served["ai-input"]
        policy_url, link = self._with
        found = (
            ("Content-Usage", self._preferences(served)),
            ("X-Robots-Tag", "noai, noimageai" + ", noarchive" * closed if reserved else ""),
            ("tdm-reservation", "1" if reserved else "0"),
            ("tdm-policy", policy_url if reserved else ""),
            ("Link", link),
        )
        return tuple(pair for pair in found if pair[1])

    def _preferences(self, served: dict[str, set[bool]]) -> str:
        """The dictionary of Content-Usage (draft-ietf-aipref-attach-05). A label that agents are told differently about is left out."""
        pairs = self._usage or ()
        if pairs == "auto":
            pairs = tuple((label, "y" if True in served[use] else "n") for label, use in USAGE_OF if len(served[use]) == 1)
        return ", ".join(f"{label}={value}" for label, value in pairs if _WORD.fullmatch(label) and _WORD.fullmatch(value))


def response_headers(policy: Policy, will: Will, path: str) -> tuple[tuple[str, str], ...]:
    """The headers for one path; for many, keep a ``Headers``."""
    return Headers(policy, will).for_path(path)
