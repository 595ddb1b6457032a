"""The RSL document (Really Simple Licensing 1.0): what the rules allow, refuse and price, as licences. Values in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple
from xml.etree import ElementTree as ET

from ..policy.model import Policy, Rule
from .paths import EVERYTHING, Glob, _closure, decide, overlap
from .robots import Will, will_of
from .uses import Told, told_by, url_text

RSL = "https://rslstandard.org/rsl"
"""The namespace of RSL 1.0 (2.2)."""

RSL_USES = {"search": ("search",), "ai-input": ("ai-input", "ai-index"), "ai-train": ("ai-train",)}
"""The words of RSL 1.0 (3.4.1.1) for each use of SIGNALS_OF: what AI search fetches is indexed before it is put into a model."""
FREE, PRICED = "", "?"
_PRICE = re.compile(r"(?P<currency>[A-Z]{3}) +(?P<amount>[0-9]+(?:\.[0-9]+)?)|(?P<amount2>[0-9]+(?:\.[0-9]+)?) +(?P<currency2>[A-Z]{3})")


class Scope(NamedTuple):
    """A ``content`` of an RSL document: paths, and for each use in the order of RSL_USES its price, FREE, or None where it is refused."""

    url: str
    glob: Glob
    terms: tuple[str | None, ...]


def rsl_xml(policy: Policy, will: Will, host: str | None = None) -> str:
    """The RSL document (RSL 1.0 of 10 December 2025, with errata). ``host`` as for ``will_of``.

    All contents that match a path count together, whatever their order: the narrower scope goes before the wider, but a use that
    is both permitted and prohibited is not licensed (3.1.1). ``permits`` lists all that is allowed (3.5), so a use is prohibited
    by name only where no narrower scope permits it, and readers that add up prohibitions come to the same.
    """
    root = ET.Element("rsl", {"xmlns": RSL, "max-age": "1"})  # days, as for robots.txt (RFC 9309 2.4); it would be 30
    scopes, _ = scopes_of(policy, will, host)
    for scope in scopes:
        content = ET.SubElement(root, "content", {"url": scope.url})
        narrower = [s for s in scopes if len(s.url) > len(scope.url) and _meet(s.glob, scope.glob)]
        refused = [n for n, price in enumerate(scope.terms) if price is None]
        silent = [n for n in refused if any(s.terms[n] is not None for s in narrower)]
        prices: list[str | None] = [*sorted({price for price in scope.terms if price is not None})]
        for price in prices or [None]:
            license_ = ET.SubElement(content, "license")
            if price is not None:
                _words(license_, "permits", (n for n, p in enumerate(scope.terms) if p == price))
            # Without permits nothing would hold back what is not prohibited.
            _words(license_, "prohibits", (n for n in refused if price is None or n not in silent))
            if price:
                _payment(license_, price)
        if policy.robots.tdm_policy:
            ET.SubElement(content, "terms").text = url_text(policy.robots.tdm_policy)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _words(license_: ET.Element, name: str, uses: Iterable[int]) -> None:
    every = tuple(RSL_USES.values())
    words = [word for use in uses for word in every[use]]
    if words:
        ET.SubElement(license_, name, {"type": "usage"}).text = " ".join(words)


def _payment(license_: ET.Element, price: str) -> None:
    """What a request costs: the guard asks for it at each one, which RSL calls ``crawl`` (3.7)."""
    payment, found = ET.SubElement(license_, "payment", {"type": "crawl"}), _PRICE.fullmatch(price)
    if found:
        currency = found["currency"] or found["currency2"]
        ET.SubElement(payment, "amount", {"currency": currency}).text = found["amount"] or found["amount2"]


def _meet(one: Glob, other: Glob) -> bool:
    try:
        return bool(overlap(one, other))
    except OverflowError:
        return True


def _price(rule: Rule) -> str:
    return next((value for name, value in rule.then.headers if name.lower() == "crawler-price"), PRICED)


def scopes_of(policy: Policy, will: Will, host: str | None = None) -> tuple[list[Scope], list[str]]:
    """The scopes of the RSL document, wider ones first, and examples of paths for which the longest that matches is wrong.

    An agent has to pay where it is served, and would not be if all rules with that price refused it.
    """
    prices = sorted({_price(rule) for rule in policy.rules if rule.then.action == "price"})
    wills = [will, *(will_of(replace(policy, rules=tuple(_refusing(policy.rules, price))), host) for price in prices)]
    told = {use: told_by(policy, wills, use) for use in RSL_USES}
    globs = dict.fromkeys(line.glob for said in told.values() for row in said for lines in row for line in lines)
    every, complete = _closure([EVERYTHING, *globs])
    found: list[Scope] = []
    wrong = [] if complete else ["*"]
    for glob in sorted(every, key=lambda g: (sum(o.covers(g) for o in every), g)):
        path = glob.member()
        terms = tuple(_term(said, prices, path, use == "ai-train") for use, said in told.items())
        around = [s for s in found if s.glob.matches(path)]
        alike = max((len(s.url) for s in around if s.terms == terms), default=0)
        rival = max((len(s.url) for s in around if s.terms != terms), default=0)
        if alike > rival:
            continue
        url = _padded(glob, rival + 1)
        wrong += [url] if len(url) <= rival else []
        found.append(Scope(url, glob, terms))
        if glob.anchored:  # a policy's path ends before the query, that of a URL does not
            found.append(Scope(url.removesuffix("$") + "?", Glob((*glob.pieces[:-1], glob.pieces[-1] + "?")), terms))
    return found, wrong


def _refusing(rules: Iterable[Rule], price: str) -> Iterator[Rule]:
    for rule in rules:
        hit = rule.then.action == "price" and _price(rule) == price
        yield rule._replace(then=rule.then._replace(action="block")) if hit else rule


def _term(said: Told, prices: Sequence[str], path: str, strict: bool) -> str | None:
    """What a use costs at a path. ``strict``: the worst that one of its agents is told, else the best."""
    found: set[str | None] = set()
    for base, *others in said:
        asked = (price for price, lines in zip(prices, others, strict=True) if not decide(lines, path))
        found.add(next(asked, FREE) if decide(base, path) else None)
    served = {price for price in found if price is not None}
    if not served or (strict and None in found):
        return None
    asked_for = served - {FREE}
    if not asked_for or (FREE in served and not strict):
        return FREE
    return asked_for.pop() if len(asked_for) == 1 else PRICED


def _padded(glob: Glob, length: int) -> str:
    """The pattern, with wildcards that add nothing until it is that long, if it has a place for them."""
    url = glob.line()
    at = url.rfind("*") if glob.anchored else len(url)
    return url if at < 0 else url[:at] + "*" * (length - len(url)) + url[at:]
