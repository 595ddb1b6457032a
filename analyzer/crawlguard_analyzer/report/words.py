"""Numbers, names and reasons in words, and text of a log made harmless: what all views share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..analysis import Analysis, Totals
from ..tables import UNDECLARED

MOST = 300
"""Characters of a log's text that are shown."""

NEXT = "crawlguard propose LOG..."
"""The command that comes after a report, when it is not known of what."""

NAMES = {
    "person": "people",
    "unknown": "too little to tell",
    "declared": "declared crawlers",
    "tool": "tools, libraries",
    "feed": "feed readers",
    "monitor": "monitors",
    "crawler": "undeclared crawlers",
    "swarm": "swarms",
    "spoofed": "false names",
}
"""What the clients of a class are called."""

MEANINGS = {
    "person": "use the site as people do, with a browser",
    "unknown": "came too seldom to be told; never an accusation",
    "declared": "name themselves as a crawler, and nothing speaks against it",
    "tool": "name themselves as a library, a package manager or another program",
    "feed": "name themselves as a reader of feeds",
    "monitor": "name themselves as a monitor",
    "crawler": "call themselves a browser, or nothing, and behave like a crawler",
    "swarm": "many addresses, each with few requests, that behave as one crawler, together or with the crawlers beside them",
    "spoofed": "carry the name of a crawler, from outside its operator's published addresses",
}

REASONS = {
    "published": "in a network that a crawler's operator publishes",
    "near": "beside a network that a crawler's operator publishes",
    "cloud": "in a cloud or with a hosting company",
    "robots": "fetches robots.txt",
    "bare": "hardly any assets, where its pages need {:,.0f}",
    "unstyled": "images but hardly any styles, where its pages need {:,.0f}",
    "unreferred": "hardly any referrers, where links would leave {:,.0f}",
    "faceless": "no favicon",
    "breadth": "different pages a day: {:,.0f} times what is much here",
    "volume": "pages a day: {:,.0f} times what is much here",
    "pace": "pages in a minute: {:,.0f} times what is much here",
    "trickle": "{:,.0f} different pages, mostly one at a time",
    "tireless": "active in {:.0f} hours of a day",
    "sleepless": "seen at {:.0f} hours of the clock",
    "regular": "{:.0%} as even as a clock",
    "failing": "{:.0%} of its requests answered 4xx",
    "trapped": "asked {:,.0f}x for what only scanners ask for, or robots.txt forbids everybody",
    "heads": "{:.0%} HEAD requests",
    "nameless": "no User-Agent",
    "strange": "a User-Agent that is no browser's",
    "robotic": "calls itself a robot",
    "impossible": "a browser version that was never built",
    "ancient": "a browser {:.1f} years out of date",
    "outdated": "{:.0%} by HTTP/1, as browsers here do not",
}
"""The features that can speak for a machine, in words about one client; the number is the feature's value."""

TRAITS = {
    "bare": "hardly any assets with their pages",
    "unstyled": "images but hardly any styles",
    "unreferred": "hardly any referrers",
    "breadth": "many different pages",
    "volume": "many pages a day",
    "pace": "many pages in a minute",
    "trickle": "many different pages, mostly one at a time",
    "tireless": "active in most hours of a day",
    "sleepless": "seen at every hour of the clock",
    "regular": "as even as a clock",
    "failing": "many 4xx answers",
    "trapped": "asked for what only scanners ask for, or robots.txt forbids everybody",
    "heads": "HEAD requests",
    "ancient": "a browser out of date",
    "outdated": "HTTP/1, as browsers here do not",
}
"""Those whose words have a number, in words about many clients."""

_LAST_PLAIN = 0x24F
"""The last letter of Latin Extended-B. Below it nothing stacks, turns the direction of writing, or takes two columns."""


def plain(text: str, most: int = MOST) -> str:
    """Text of a log for eyes: on one line, cut, and all but plain printable characters as escapes.

    Control characters (so ANSI escapes and newlines), bidi controls, invisible, combining and right-to-left characters never pass.
    """
    cut = text[:most]
    if not cut.isascii() or not cut.isprintable():
        cut = "".join(c if c.isprintable() and ord(c) <= _LAST_PLAIN else _escape(c) for c in cut)
    return cut if len(text) <= most and len(cut) <= most else f"{cut[: most - 3]}..."


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def count(number: int, what: str, several: str = "") -> str:
    """``1 client``, ``1,200 clients``."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def size(bytes_: float) -> str:
    """``14 kB``, ``2.1 GB``: powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 999.5:
            return f"{bytes_:.3g} {unit}" if bytes_ < 99.95 else f"{bytes_:.0f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:,.1f} TB"


UNTIMED = "log $upstream_response_time or $request_time (nginx) or %D (Apache)"
"""What makes a log say how long the server took; JSON logs of proxies and the logs of load balancers say it already."""


def duration(micros: float) -> str:
    """``14 ms``, ``2.1 s``, ``35 min``, ``1,200 h``."""
    for most, unit, one in ((1e6, "ms", 1e3), (120e6, "s", 1e6), (7200e6, "min", 60e6)):
        if micros < most:
            return f"{micros / one:.3g} {unit}"
    return f"{micros / 3600e6:,.1f} h"


def short(number: float) -> str:
    """``950``, ``1.2k``, ``34M``: for axes and narrow columns."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 999.5:
            return f"{number:.0f}{unit}" if number >= 9.95 or number == int(number) else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:,.0f}T"


def percent(part: float, whole: float) -> str:
    """``0%``, ``<0.1%``, ``4.2%``, ``61%``; nothing is called 0% or 100% that is not."""
    if not whole or not part:
        return "0%"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1%"
    if share < 9.95:
        return f"{share:.1f}%"
    return ">99%" if 99.5 <= share < 100 else f"{share:.0f}%"


def moment(seconds: int | None) -> str:
    """``2026-10-01 06:25`` UTC; empty when it is not known, or no calendar has it."""
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return ""


def period(totals: Totals) -> str:
    """From when to when the log goes."""
    first, last = moment(totals.first), moment(totals.last)
    if not first or not last:
        return "no request"
    return f"{first} to {last} UTC" if first[:10] != last[:10] else f"{first} to {last[11:]} UTC"


def shares(analysis: Analysis) -> dict[str, int]:
    """Requests by class, of the classes that occur."""
    found = analysis.classes()
    return dict(zip(found["class"].to_list(), found["requests"].to_list(), strict=True))


def in_short(analysis: Analysis) -> list[str]:
    """What matters most, in a few sentences."""
    by_class = shares(analysis)
    whole = sum(by_class.values())
    if not whole:
        return ["The log holds no request."]
    hidden = sum(by_class.get(name, 0) for name in UNDECLARED)
    told = [f"Crawlers that name themselves made {percent(by_class.get('declared', 0), whole)} of the requests"]
    told.append(f"machines that hide what they are {percent(hidden, whole)}, and people {percent(by_class.get('person', 0), whole)}.")
    said = [", ".join(told)]
    top = analysis.agents.filter(analysis.agents["requests"] > analysis.agents["spoofed"]).head(1)
    if top.height:
        said.append(f"The busiest agent is {plain(top['agent'][0], 60)}, with {percent(top['requests'][0], whole)} of all requests.")
    disobeyed = analysis.agents.filter(analysis.agents["obeys"] == "no")["agent"].to_list()
    if disobeyed:
        said.append(f"Against robots.txt came {several(disobeyed)}.")
    if analysis.swarms.height:
        clients = int((analysis.clients["class"] == "swarm").sum())
        number = count(analysis.heights()["swarms"], "swarm")
        said.append(
            f"{number} of {count(clients, 'address', 'addresses')} together made {percent(by_class.get('swarm', 0), whole)} of the requests."
        )
    return said


def members(swarm: Mapping[str, Any]) -> str:
    """Who is a swarm: ``12 clients``, ``12 clients beside 3 crawlers``. One client alone is what is left of a group beside its crawlers."""
    beside = f" beside {count(swarm['beside'], 'crawler')}" if swarm["beside"] else " of a group" if swarm["clients"] == 1 else ""
    return f"{count(swarm['clients'], 'client')}{beside}"


def several(names: Iterable[str], most: int = 4) -> str:
    """``a``, ``a and b``, ``a, b, c and 9 more``."""
    shown = [plain(name, 60) for name in names]
    if len(shown) > most:
        shown[most - 1 :] = [f"{len(shown) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else "nobody"


def reasons(row: Mapping[str, Any]) -> list[str]:
    """Why a client is called a machine: each feature in words, with what it adds to the score. Of a swarm: what most members share."""
    told = zip(row["reasons"], row["values"], row["points"], strict=True)
    if "swarm" in row:
        return [f"{trait(name)}: {percent(share, 1)} of them" for name, share, _ in told]
    return [f"{reason(name, value)} (+{added:.2g})" for name, value, added in told]


def reason(name: str, value: float | None) -> str:
    """One feature of one client in words, by REASONS; a name that is not there stands for itself."""
    if name in REASONS:
        return REASONS[name].format(value or 0.0)
    shown = "" if value is None else f" {value:,.0f}" if abs(value) >= 100 or value == int(value) else f" {value:.2g}"
    return f"{trait(name)}{shown}"


def trait(name: str) -> str:
    """One feature of many clients in words, by TRAITS or REASONS; a name that is not there stands for itself."""
    known = TRAITS.get(name) or REASONS.get(name) or plain(name, 40).replace("_", " ")
    return known if "{" not in known else plain(name, 40)


def obedience(row: Mapping[str, Any]) -> str:
    """How an agent keeps to robots.txt, in a few words; a dash when nobody has looked."""
    fetched, disallowed = row["robots_fetched"], row["disallowed"] or 0
    if fetched is None:
        return "-"
    if row["obeys"] == "no":
        return f"disobeys {disallowed:,}x"
    if row["obeys"] == "yes":
        return "obeys"
    if fetched:
        return f"fetched {fetched:,}x"
    return "never fetched" if not disallowed else f"never fetched; {disallowed:,} disallowed"


def acted(action: str) -> bool:
    """Whether an action of the decision log kept anything from the visitor; one in shadow mode did not."""
    return action not in ("", "allow", "weigh", "tag") and not action.startswith("shadow")


def buckets(counts: Sequence[int], most: int) -> list[int]:
    """Sums of equal stretches, so that there are at most ``most`` of them; the last one may be shorter."""
    width = -(-len(counts) // most) if counts else 1
    return [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
