"""What the lint of a robots.txt can say, as data: codes, sentences and cures, known keys, signals, and tokens that are of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..policy.documents import SIGNALS, USAGES


class Finding(NamedTuple):
    """Something about a line of the file. ``line`` counts from 1; 0 speaks of the whole file.

    ``code`` is stable. ``severity``: "warning" (it does not do what it seems to say), or "info" (it does, but look at it).
    """

    line: int
    code: str
    severity: str
    message: str
    cure: str


WARNING, INFO = "warning", "info"

# code: (severity, what is so, what to do); {} are filled with texts of the file, made printable
SENTENCES: Mapping[str, tuple[str, str, str]] = {
    # the bytes
    "byte-order-mark": (WARNING, "a byte order mark precedes the first line, and some readers miss that line", "save the file as UTF-8 without it"),
    "too-big": (WARNING, "the file has {size} bytes, and crawlers read 512000 (RFC 9309 2.5): from here on nothing counts", "merge groups that say the same"),
    "nul-byte": (WARNING, "a NUL byte ends the line for Google's parser", "remove it; a file full of them is UTF-16: save it as UTF-8"),
    "not-utf8": (WARNING, "bytes that are not UTF-8: readers disagree on them", "save the file as UTF-8, or percent-encode the path"),
    "long-line": (WARNING, "the line is longer than the 16663 bytes that Google's parser reads of one", "split it"),
    "web-page": (WARNING, "this looks like a web page, not like a robots.txt: readers find no rule in it", "serve the file as text/plain"),
    "no-groups": (INFO, "no User-agent line: everything is allowed to everybody", "begin with 'User-agent: *'"),
    # lines
    "no-key": (WARNING, "no reader makes anything of this line", "write 'Key: value', or a # before a comment"),
    "no-colon": (WARNING, "without a colon only forgiving readers see {key}", "write '{key}: {value}'"),
    "misspelt-key": (WARNING, "only forgiving readers take {key} for {kind}", "write '{kind}'"),
    "unknown-key": (WARNING, "{key} is no key that crawlers are known to read", "{hint}"),
    "outside-group": (WARNING, "{key} stands before any User-agent line, so it speaks to nobody", "put it below 'User-agent: *'"),
    "rule-before-group": (WARNING, "the rule stands before any User-agent line, so it binds nobody", "put 'User-agent: *' above it"),
    "past-key": (WARNING, "{key} is not heeded: {why}", "{hint}"),
    "crawl-delay": (INFO, "Google does not heed Crawl-delay, and few others say that they do", "keep it for those; a rate limit of the guard binds all"),
    "crawl-delay-value": (WARNING, "Crawl-delay {value} is no number of seconds", "write for example 'Crawl-delay: 5'"),
    "not-absolute-url": (WARNING, "{key} is not an absolute URL: {value}", "begin it with https://"),
    "signal-key": (WARNING, "{key} has no signal {value}", "{hint}"),
    "signal-value": (WARNING, "{key} does not know the value of {value}", "{hint}"),
    "signal-twice": (WARNING, "{key} says {value} more than once", "say it once"),
    # tokens
    "no-token": (WARNING, "the User-agent line names nobody", "name a token, or *"),
    "star-and-more": (WARNING, "Google's parser reads {value} as *, others as a token that nobody has", "write 'User-agent: *'"),
    "star-in-token": (WARNING, "a * inside a token is no wildcard: {value} names nobody", "name each token on a line of its own"),
    "several-tokens": (WARNING, "{value} is read as one token, or cut to {cut}", "give each token a User-agent line of its own"),
    "user-agent-string": (WARNING, "{value} is a User-Agent string, not a token; Google's parser takes it for {cut}", "{hint}"),
    "token-version": (WARNING, "readers that compare the whole value do not find {cut} in {value}", "write 'User-agent: {cut}'"),
    "bad-token": (WARNING, "RFC 9309 allows letters, - and _ in a token; Google's parser takes {value} for {cut}", "{hint}"),
    "odd-token": (INFO, "{value} is the operator's own token, but RFC 9309 does not allow it; Google's parser takes it for {cut}", "keep it; the guard does not depend on it"),
    "unknown-token": (INFO, "no agent of the catalogue has the token {value}", "{hint}"),
    "not-a-robots-token": (INFO, "the catalogue knows {value}, but of no robots.txt token that it heeds", "the guard can stop it by its User-Agent"),
    "past-token": (INFO, "{value} is of the past: {why}", "{hint}"),
    # groups
    "token-twice": (INFO, "{value} is in this group already", "remove one of the two lines"),
    "groups-merge": (INFO, "{value} has a group at line {first} too: readers treat both as one", "merge them"),
    "joined-group": (WARNING, "no Allow or Disallow stands between this line and the agents above ({above}), so to most readers the rules below are theirs too",
        "give the group above a rule of its own, for example 'Allow: /'"),
    "no-rules": (INFO, "the group has no rule: {value} may fetch everything, whatever the group for * says", "add a rule if that is not meant"),
    # rules
    "pattern-url": (WARNING, "a rule holds a path, not a URL: this one matches nothing", "write '{hint}'"),
    "pattern-start": (WARNING, "paths begin with /, so {value} matches nothing", "write '{hint}'"),
    "pattern-characters": (WARNING, "URLs hold no such characters as they are: Google's parser matches nothing by {value}", "write '{hint}'"),
    "comment-in-pattern": (WARNING, "# begins a comment: the pattern ends before it and is {value}", "write %23 for a #, or a space before a comment"),
    "index-page": (INFO, "Google's parser reads this as allowing the directory {value} too", "nothing, if that is meant"),
    "empty-rule": (INFO, "a rule without a path says nothing", "remove it, or write the path"),
    "same-rule": (INFO, "line {first} says the same", "remove one of the two"),
    "no-effect": (INFO, "without this rule every path would be judged the same ({because})", "remove it"),
    "overruled": (WARNING, "line {first} always wins over this rule", "make this pattern longer, or remove it"),
    "not-compared": (INFO, "too many rules to find those without effect from here on", "merge rules"),
}  # fmt: skip

# Keys that mean something to somebody: those that are heeded, and those of the past with the reason.
HEEDED = frozenset(
    ("user-agent", "allow", "disallow", "sitemap", "crawl-delay", "content-signal", "content-usage", "license", "clean-param")
)
PAST_KEYS = {
    "noindex": ("Google dropped it in 2019", "send 'X-Robots-Tag: noindex'"),
    "nofollow": ("Google dropped it in 2019", "send 'X-Robots-Tag: nofollow'"),
    "host": ("Yandex dropped it in 2018", "redirect to the host that you want"),
    "request-rate": ("no large crawler reads it", "let the guard limit the rate"),
    "visit-time": ("no large crawler reads it", "let the guard limit the rate"),
    "cache-delay": ("no large crawler reads it", "remove it"),
    "robot-version": ("it is of a draft of 1996", "remove it"),
    "disallowaitraining": ("its draft expired in 2025", "write 'Content-Usage: train-ai=n', or groups for the training crawlers"),
    "allowaitraining": ("its draft expired in 2025", "write 'Content-Usage: train-ai=y'"),
}
IN_GROUPS = frozenset(("crawl-delay", "content-signal", "content-usage", "noindex", "nofollow", "request-rate", "visit-time"))

LABELS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"content-signal": SIGNALS, "content-usage": USAGES}

# Tokens that lists still carry though no crawler is known to use them: why, and what does the work today.
PAST_TOKENS = {
    "anthropic-ai": ("no crawler of Anthropic is known to use it", "name ClaudeBot"),
    "claude-web": ("Anthropic no longer documents it", "name ClaudeBot, Claude-SearchBot and Claude-User"),
    "facebookbot": ("Meta's page of crawlers no longer lists it", "name meta-externalagent"),
    "openai": ("it never was a crawler's token", "name GPTBot, OAI-SearchBot and ChatGPT-User"),
    "operator": ("it is part of ChatGPT agent now", "name ChatGPT-User"),
}

IGNORES_STAR = frozenset(("adsbot-google", "adsbot-google-mobile", "adsbot-google-mobile-apps", "apis-google", "mediapartners-google"))
"""Agents that heed only a group that names them (Google's list of special-case crawlers)."""

FOLLOWS = {"applebot": "googlebot"}
"""Agents that heed another one's group when none names them (Apple, "About Applebot")."""


def finding(line: int, code: str, **parts: object) -> Finding:
    """A finding by its code; texts of the file are made printable on the way."""
    severity, message, cure = SENTENCES[code]
    told = {key: shown(part) if isinstance(part, str) else part for key, part in parts.items()}
    return Finding(line, code, severity, message.format(**told), cure.format(**told))


def shown(text: str, most: int = 120) -> str:
    """A text of the file as it may go to a terminal: one line, no control characters, not too long."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFF:02x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in cut)
