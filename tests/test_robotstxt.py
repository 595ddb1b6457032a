"""The robots.txt reader against four others, two of them Google's own; every difference has a name and a reason here."""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from protego import Protego
from robots import RobotsParser

from crawlguard.export.pattern import canonical, compile_pattern
from crawlguard.export.robotstxt import LIMIT, LINE_LIMIT, google_token, parse

try:
    from jwm.robotstxt import googlebot
except ImportError:  # no wheel for Python 3.13 and later
    googlebot = None
try:
    from robotstxt import RobotsMatcher as ForkedMatcher
except ImportError:  # no wheel for Python 3.14 and later
    ForkedMatcher = None

needs_google = pytest.mark.skipif(googlebot is None, reason="jwm.robotstxt has no wheel for this Python")
needs_fork = pytest.mark.skipif(ForkedMatcher is None, reason="fast-robotstxt has no wheel for this Python")

SITE = "http://site.example"


def google(text: str, token: str, path: str) -> bool:
    """Google's parser itself (jwm.robotstxt). It wants URLs in the form in which a crawler sends them."""
    return bool(googlebot.RobotsMatcher().OneAgentAllowedByRobots(text, token, SITE + path))


def forked(text: str, token: str, path: str) -> bool:
    """Google's parser with some changes (fast-robotstxt)."""
    return bool(ForkedMatcher().is_allowed(text, token, SITE + path))


def protego(text: str, token: str, path: str) -> bool:
    """Scrapy's."""
    return Protego.parse(text).can_fetch(SITE + path, token)


def robotspy(text: str, token: str, path: str) -> bool:
    return RobotsParser.from_string(text).can_fetch(token, SITE + path)


READERS = {"google": google, "forked": forked, "protego": protego, "robotspy": robotspy}
HERE = {name for name in READERS if not (name == "google" and googlebot is None) and not (name == "forked" and ForkedMatcher is None)}


def ours(text: str, token: str, path: str, exact: bool = True) -> bool:
    return parse(text.encode()).allows(token, path, exact)


# ---- random files whose parts clash


def joined(parts: list[str], most: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=most).map("".join)


TOKENS = st.sampled_from(["a", "ab", "abc", "A", "a-b", "a_b", "b"])
ODD_TOKENS = st.sampled_from(["a b", "a/1", "a1", "1a", "*", "* x", "*\tx", "*a", "", "é", "a\xa0", "Mozilla/5.0 (compatible; a/1)"])
PIECES = ["a", "b", "/", "*", "$", "%2F", "%3f", "é", "%c3%A9", "%", "?", "ab", "//", ".", "=", ";"]
PATHS = joined(["a", "b", "/", "*", "$", "%2F", "%3F", "%C3%A9", "?", "ab", "//", ".", "=", ";", "#"], 6).map("/".__add__)
PATTERNS = st.one_of(joined(PIECES, 5).map("/".__add__), joined(PIECES, 5))
SEPARATORS = st.sampled_from([":", ": ", " : ", ":\t", " ", "\t", "  ", ""])
COMMENTS = st.sampled_from(["", "", "", " # c", "#c:d"])
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"])
AGENT_KEYS = st.sampled_from(["User-agent", "user-agent", "USER-AGENT", " User-Agent ", "useragent", "user agent", "User-agents"])
RULE_KEYS = st.sampled_from(["Allow", "Disallow", "disallow", "DISALLOW", "Allowed", "dissallow", "disalow", "diasllow", "disallaw"])
OTHER_KEYS = st.sampled_from(["Sitemap", "site-map", "Crawl-delay", "Content-Signal", "foo", "al low", "", "user_agent", "Host"])


def line(keys: st.SearchStrategy[str], values: st.SearchStrategy[str], separators: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(keys, separators, values, COMMENTS, ENDS).map("".join)


def files(
    tokens: st.SearchStrategy[str], patterns: st.SearchStrategy[str], *, wild: bool = True, others: bool = True
) -> st.SearchStrategy[str]:
    """Robots files. ``wild``: with misspelt keys and missing colons; ``others``: with lines that are no rules."""
    separators = SEPARATORS if wild else st.just(": ")
    agents = line(AGENT_KEYS if wild else st.just("User-agent"), tokens, separators)
    rules = line(RULE_KEYS if wild else st.sampled_from(["Allow", "Disallow"]), patterns, separators)
    kinds = [agents, rules, rules]
    if others:
        kinds.append(line(OTHER_KEYS, patterns, separators))
    return st.lists(st.one_of(kinds), max_size=14).map("".join)


@needs_google
@given(files(TOKENS | ODD_TOKENS, PATTERNS), TOKENS, PATHS)
@settings(max_examples=600)
@example("User-agent: a\nCrawl-delay: 1\nUser-agent: b\nDisallow: /\n", "a", "/")
@example("\ufeffUser-agent: a\nDisallow: /\n", "a", "/")
@example("User-agent: a\x00b\nDisallow: /a\x00b\n", "a", "/a")
@example("User-agent: a\nDisallow: /" + "a" * 17_000 + "$\n", "a", "/" + "a" * 17_000)
@example("User-agent: a\r\r\nDisallow: /\r", "a", "/")
def test_reads_as_google_does_whatever_is_written(text: str, token: str, path: str) -> None:
    assert ours(text, token, path, exact=False) == google(text, token, path)


@needs_google
@given(files(TOKENS | st.just("*"), PATTERNS), TOKENS, PATHS)
@settings(max_examples=300)
def test_proper_tokens_read_the_same_exactly(text: str, token: str, path: str) -> None:
    assert ours(text, token, path) == google(text, token, path)


@needs_google
@given(st.text(max_size=80), TOKENS)
@settings(max_examples=200)
def test_any_text_reads_as_google_does(text: str, token: str) -> None:
    text = "User-agent: a\n" + text
    assume(not re.search(r"%[0-9A-Fa-f]{2}|/index\.htm", text))
    assert ours(text, token, "/", exact=False) == google(text, token, "/")


# ---- the others: the same, but for what is named

# A token that begins another one, at its end or before "-" and the like, names that one too for protego.
APART = st.sampled_from(["xa", "yb", "zc", "*"])
CLEAN = joined(["a", "b", "/", "*", "%C3%A9", ".c", "ab", "-"], 5).map("/".__add__)
CLEAN_PATHS = joined(["a", "b", "/", "%C3%A9", ".c", "ab", "-"], 6).map("/".__add__)


@given(files(APART, CLEAN | CLEAN.map("{}$".format), wild=False, others=False), APART.filter(str.isalpha), CLEAN_PATHS)
@settings(max_examples=400)
@pytest.mark.parametrize("reader", [pytest.param(forked, marks=needs_fork), protego])
def test_plain_files_read_alike(reader: Callable[[str, str, str], bool], text: str, token: str, path: str) -> None:
    assume("//" not in path)
    assert ours(text, token, path) == reader(text, token, path)


@given(
    files(APART, joined(["a", "b", "/", "ab", ".c"], 5).map("/".__add__), wild=False, others=False), APART.filter(str.isalpha), CLEAN_PATHS
)
@settings(max_examples=200)
def test_files_without_wildcards_read_alike_by_robotspy(text: str, token: str, path: str) -> None:
    assume("//" not in path + text and "\r" not in text)
    named = re.findall(r"User-agent: ([^#\s]+)", text)
    assume(len(named) == len(set(named)))  # of groups that share an agent, it gives the rules of one to agents of the other
    assert ours(text, token, path) == robotspy(text, token, path)


NOBODY: frozenset[str] = frozenset()
# (what differs, file, token, path, what RFC 9309 and we say, who says otherwise)
DIFFERENCES = [
    ("robots.txt itself is always allowed", "User-agent: a\nDisallow: /", "a", "/robots.txt", True, {"google", "forked", "robotspy"}),
    ("an escaped unreserved character is that character", "User-agent: a\nDisallow: /%41", "a", "/A", False, {"google"}),
    ("what no URL holds as it is, is escaped", "User-agent: a\nDisallow: /a b", "a", "/a%20b", False, {"google", "robotspy"}),
    ("an escaped reserved character is not that character", "User-agent: a\nDisallow: /a%2Fb", "a", "/a/b", True, {"forked", "robotspy"}),
    ("... nor in a query", "User-agent: a\nDisallow: /a?b%26", "a", "/a?b&", True, {"forked", "protego", "robotspy"}),
    ("%24 is a plain dollar", "User-agent: a\nDisallow: /a%24", "a", "/a$", False, {"google"}),
    ("Allow of an index page says nothing of its directory", "User-agent: a\nDisallow: /\nAllow: /index.html", "a", "/", False,
     {"google", "forked", "protego"}),
    ("a token with a digit is itself", "User-agent: AI2Bot\nDisallow: /", "AI2Bot", "/", False, {"google", "forked", "robotspy"}),
    ("... and not its beginning", "User-agent: AI2Bot\nDisallow: /", "AI", "/", True, {"google", "forked", "robotspy"}),
    ("a token does not name those that it begins", "User-agent: a\nDisallow: /", "a-b", "/", True, {"protego"}),
    ("... even where * speaks of them", "User-agent: a\nAllow: /\nUser-agent: *\nDisallow: /", "a-b", "/", False, {"protego"}),
    ("only a rule ends the agents of a group", "User-agent: a\nCrawl-delay: 1\nUser-agent: b\nDisallow: /", "a", "/", False, {"protego"}),
    ("* with more behind it is *", "User-agent: * x\nDisallow: /", "a", "/", False, {"protego"}),
    ("dot segments are the crawler's to resolve", "User-agent: a\nDisallow: /a/.", "a", "/a/.", False, {"forked"}),
    ("slashes are not merged", "User-agent: a\nDisallow: //a", "a", "//a", False, {"robotspy"}),
    ("a dollar with a star is the end", "User-agent: a\nDisallow: /*b$", "a", "/ab/", True, NOBODY),
    ("a bracket is a bracket", "User-agent: a\nDisallow: /*[b]c", "a", "/a[b]c", False, {"robotspy"}),
    ("a question mark is one", "User-agent: a\nDisallow: /*?$", "a", "/ab", True, {"robotspy"}),
    ("octets are counted as escaped", "User-agent: a\nDisallow: /é*\nAllow: /*a/b", "a", "/%C3%A9a/b", False, {"robotspy"}),
    ("a line may end with CR", "User-agent: a\rDisallow: /\r", "a", "/", False, {"robotspy"}),
    ("a byte order mark is skipped", "\ufeffUser-agent: a\nDisallow: /", "a", "/", False, {"protego", "robotspy"}),
    ("NEL is no end of a line", "User-agent: a\nDisallow: /a\x85Disallow: /b", "a", "/b", True, {"protego"}),
    ("a key that begins as one is one", "User-agents: a\nDisallowed: /", "a", "/", False, {"protego", "robotspy"}),
    ("frequent misspellings are forgiven", "User-agent: a\nDissallow: /", "a", "/", False, {"robotspy"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "token", "path", "allowed", "others"), DIFFERENCES, ids=[d[0] for d in DIFFERENCES])
def test_differences_are_exactly_the_known_ones(what: str, text: str, token: str, path: str, allowed: bool, others: set[str]) -> None:
    assert ours(text, token, path) is allowed
    assert {name for name in HERE if READERS[name](text, token, path) is not allowed} == others & HERE


# ---- paths and patterns


def naive(pattern: str, path: str) -> bool:
    """RFC 9309 2.2.3 a character at a time, on canonical texts."""
    anchored = pattern.endswith("$")
    reached = {0}
    for char in pattern[:-1] if anchored else pattern:
        reached = set(range(min(reached), len(path) + 1)) if char == "*" else {at + 1 for at in reached if path[at : at + 1] == char}
        if not reached:
            return False
    return not anchored or len(path) in reached


@given(joined(["a", "b", "/", "*", "$"], 8), joined(["a", "b", "/", "$"], 10).map("/".__add__))
@settings(max_examples=500)
def test_patterns_match_as_the_naive_reading_does(pattern: str, path: str) -> None:
    assert compile_pattern(pattern).matches(path) == naive(pattern, path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/"),
        ("a", "/a"),
        ("/a#b", "/a"),
        ("/%7euser", "/~user"),
        ("/%2f", "/%2F"),
        ("/é", "/%C3%A9"),
        ("/a b\"<>\\^`{|}", "/a%20b%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/%2a%24", "/*$"),
        ("/%zz%", "/%zz%"),
        ("/\ud800", "/?"),
        ("/\udcff", "/%FF"),
    ],
)  # fmt: skip
def test_canonical_paths(path: str, expected: str) -> None:
    assert canonical(path) == expected


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("GPTBot", "GPTBot"),
        ("GPTBot/1.0", "GPTBot"),
        ("AI2Bot", "AI"),
        ("img2dataset", "img"),
        ("Kangaroo Bot", "Kangaroo"),
        ("archive.org_bot", "archive"),
        ("Mozilla/5.0 (compatible; x)", "Mozilla"),
        ("360Spider", ""),
        ("*", "*"),
        ("* all", "*"),
        ("*bot", ""),
        ("", ""),
    ],
)
def test_google_token_is_what_google_extracts(value: str, token: str) -> None:
    assert google_token(value) == token
    if googlebot is not None and token not in ("", "*"):
        assert googlebot.RobotsMatcher.ExtractUserAgent(value) == token


# ---- the whole file


def test_groups_merge_and_nothing_is_lost() -> None:
    text = (
        "# head\nSitemap: /s\nDisallow: /early\n\n# of a\nUser-agent: a\nUSER-AGENT: B\n# in a\nCrawl-delay: 2\nDisallow: /x # why\n"
        "Sitemap: /t\nuser-agent: c\nDisallow:\n\nUser-agent: A\nAllow: /x/y\n# tail"
    )
    file = parse(text.encode())
    assert [[agent.value for agent in group.agents] for group in file.groups] == [["a", "B"], ["c"], ["A"]]
    assert [rule.line for rule in file.group_for("a") or ()] == [10, 16]
    assert file.group_for("c") is not None
    assert file.group_for("d") is None
    assert [other.key for other in file.groups[0].others] == ["Crawl-delay"]
    assert [line.number for line in file.outside] == [1, 2, 3, 11, 17]
    assert [line.number for line in file.groups[0].lines] == [4, 5, 6, 7, 8, 9, 10]
    assert file.groups[0].rules[0].pattern == "/x"
    assert file.lines[9].text == "Disallow: /x # why"
    assert not file.allows("a", "/x")
    assert file.allows("a", "/x/y")
    assert file.allows("c", "/x")
    assert file.allows("b", "/x/z") is False
    assert file.decides("b", "/x/z") == file.groups[0].rules[0]


@given(st.binary(max_size=300) | files(TOKENS | ODD_TOKENS, PATTERNS).map(str.encode))
@settings(max_examples=300)
def test_hostile_bytes_are_read_without_loss(raw: bytes) -> None:
    file = parse(raw)
    skipped = next(n for n in (3, 2, 1, 0) if raw[:n] == b"\xef\xbb\xbf"[:n])
    assert [line.text.encode("utf-8", "surrogateescape") for line in file.lines] == re.split(rb"\r\n|\r|\n", raw[skipped:])
    kept = [line.number for group in file.groups for line in group.lines] + [line.number for line in file.outside]
    assert sorted(kept) == list(range(1, len(file.lines) + 1))
    for token in ("a", "*", ""):
        for path in ("", "/", "/a%", "//\udcff?*$"):
            file.allows(token, path)
            file.allows(token, path, exact=False)


def test_only_500_kib_are_read() -> None:
    head = b"User-agent: a\nDisallow: /a\n"
    filler = b"#" * 99 + b"\n"
    text = head + filler * ((LIMIT - len(head)) // len(filler) - 1)
    text += b"#" * (LIMIT - len(text) - len(b"\nDisallow: /b")) + b"\nDisallow: /bc\nDisallow: /d\n"  # the limit cuts /bc to /b
    file = parse(text)
    assert [(flaw.code, flaw.line) for flaw in file.problems if flaw.code == "cut"] == [("cut", len(file.lines) + 1)]
    assert not file.allows("a", "/a")
    assert file.allows("a", "/b")
    assert file.allows("a", "/d")
    assert not parse(text[:LIMIT]).problems or parse(text[:LIMIT]).problems[0].code == "long-line"


def test_flaws_of_bytes_have_their_lines() -> None:
    raw = b"\xef\xbb\xbfUser-agent: a\r\nDisallow: /\xe9\rAllow: /\0x\n#" + b"x" * (LINE_LIMIT + 1)
    assert parse(raw).problems == ((1, "bom"), (2, "not-utf8"), (3, "nul"), (4, "long-line"))


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of the quickest of three. Without the collector, which walks through all that other tests have left."""
    best = 1e9
    gc.disable()
    try:
        for _ in range(3):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
    finally:
        gc.enable()
    return best


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "stars": lambda n: b"User-agent: a\nDisallow: /" + b"*a" * (n // 2) + b"b",
    "agents": lambda n: b"User-agent: a\n" * (n // 28) + b"Disallow: /\n" * (n // 28),
    "groups": lambda n: b"User-agent: a\nDisallow: /*/*/*b$\n" * (n // 34),
    "rules": lambda n: b"User-agent: a\n" + b"Disallow: /*a*a*a*b\n" * (n // 20),
    "empty lines": lambda n: b"\n" * n,
    "colons": lambda n: b":" * n,
    "percents": lambda n: b"User-agent: a\nDisallow: " + b"%" * n,
    "noise": lambda n: random.Random(5).randbytes(n),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_length_alone(kind: str) -> None:
    path = "/" + "a" * 2000

    def work(size: int) -> Callable[[], object]:
        raw = HOSTILE[kind](size)
        return lambda: parse(raw).allows("a", path)

    small, large = spent(work(LIMIT // 8)), spent(work(LIMIT))
    assert large < 40 * small + 0.05  # eight times as long: quadratic would be 64 times
