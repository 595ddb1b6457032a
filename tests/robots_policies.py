"""Random policies for the proof of the robots.txt writer: what each means is asked of the compiled rules, never of the exporter.

A policy here is a list of rules as YAML would give them. Its paths are spelled from a few pieces, so that they clash.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

from hypothesis import strategies as st

from crawlguard import load_policy
from crawlguard.catalogue import agents, read_agents
from crawlguard.decision import Action
from crawlguard.errors import Problem
from crawlguard.export.verdicts import speakers
from crawlguard.policy.compile import compile_policy
from crawlguard.policy.conditions import All, AnyOf, Condition, Not, TextIs
from crawlguard.policy.model import Network, Policy, Robots, Rule
from crawlguard.policy.nodes import Place
from crawlguard.policy.ruleset import UNKNOWN_CLIENT, Client, Ruleset, UaFacts
from crawlguard.policy.schema import RULE
from crawlguard.request import RequestView
from crawlguard.signals.ua import AI_CATEGORIES, CATEGORIES, MAX_UA, Agent
from crawlguard.store import MemoryStore
from crawlguard.yamlio import parse

HOST = "site.example"
STRANGER = "SomebodysBot"
"""A token that nobody has listed, and a User-Agent with it."""
NOBODY_KNOWS = Client(None, UNKNOWN_CLIENT.mask, ip_key=11 << 40, subnet_key=12 << 40, asn=64500)
"""A client of whom no condition on addresses knows anything, and whose requests can be counted all the same."""
NOTHING_MORE = Robots()
HOUR = 3_600_000_000
URL_SAFE = "/~!$&'()*+,;=:@-._"
"""What clients leave as it is in a path (RFC 3986 3.3)."""

# ---- the rules

PIECES = ("a", "b", "/", "ab", "é", "日", " ", "=", "+", ".p", "%", "~", "(", "$", "#")
words = st.lists(st.sampled_from(PIECES[:3] * 3 + PIECES), min_size=1, max_size=3).map("".join).filter(str.strip)
"""Parts of decoded paths."""
escaped = words.map(lambda text: quote(text, safe="/" + "".join(c for c in "ab=+.~(")))
patterns = st.tuples(
    st.sampled_from(["/", "/", "/a", "*", "/*"]), st.lists(escaped, max_size=3).map("*".join), st.sampled_from(["", "", "*", "$"])
).map("".join)


def some(item: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(item, st.lists(item, min_size=1, max_size=3, unique=True))


paths = st.one_of(
    some(patterns),
    some(patterns),
    st.dictionaries(st.sampled_from(["prefix", "is"]), some(words.map("/".__add__)), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["suffix", "contains"]), some(words), min_size=1, max_size=2),
)
FAMILIES = ("Googlebot", "Google-Extended", "Googlebot-Image", "GPTBot", "ChatGPT-User", "OAI-SearchBot", "Applebot", "Applebot-Extended", "AI2Bot",
    "ClaudeBot", "CCBot", "bingbot", "PerplexityBot", "Bytespider", "Amazonbot", "Meta-ExternalAgent")  # fmt: skip


@cache
def tokens() -> dict[str, int]:
    """Every token of the catalogue (lower case), and the number of the agent that speaks by it."""
    found = speakers(Policy(agents=agents()))
    return {token: who.number for token, who in found.items() if who.number is not None}


def _names() -> list[str]:
    known = {agents()[number].name for number in tokens().values()}
    return [name for name in FAMILIES if name in known] * 8 + sorted(known)


names = st.deferred(lambda: st.sampled_from(_names()))
operators = st.deferred(lambda: st.sampled_from(sorted({agents()[number].operator for number in tokens().values()})))
categories = st.sampled_from(sorted(AI_CATEGORIES) * 2 + sorted(CATEGORIES))
whom = st.one_of(
    some(names).map(lambda v: {"agent": v}),
    some(categories).map(lambda v: {"agent": {"category": v}}),
    operators.map(lambda v: {"agent": {"operator": v}}),
    st.booleans().map(lambda v: {"agent": {"ai": v}}),
    st.tuples(some(categories), some(names)).map(lambda v: {"agent": {"category": v[0], "name": v[1]}}),
)
where = paths.map(lambda v: {"path": v})
beside = st.one_of(  # what a reader of robots.txt does not know of itself, or knows well
    st.sampled_from(["203.0.113.0/24", "2001:db8::/32"]).map(lambda v: {"ip": v}),
    st.just({"network": "office"}),
    st.just({"asn": 64500}),
    some(st.sampled_from(["GET", "POST", "HEAD"])).map(lambda v: {"method": v}),
    st.sampled_from([HOST, "*.example", "shop.example", {"prefix": "site"}, {"contains": ["shop", "SITE"]}]).map(lambda v: {"host": v}),
    st.tuples(st.sampled_from(["ip", "subnet", "agent", "asn", "fingerprint", ["ip", "agent"]]), st.integers(1, 50)).map(
        lambda v: {"rate": {"per": v[0], "requests": v[1], "within": "10m"}}
    ),
    st.one_of(st.integers(-3, 6), st.fixed_dictionaries({"below": st.integers(-3, 6)})).map(lambda v: {"score": v}),
)
conditions = st.recursive(
    st.one_of(whom, where, where, beside),
    lambda inner: st.one_of(
        inner.map(lambda v: {"not": v}),
        st.lists(inner, min_size=1, max_size=3).map(lambda v: {"all": v}),
        st.lists(inner, min_size=1, max_size=3).map(lambda v: {"any": v}),
        st.tuples(inner, inner).map(lambda v: {**v[0], **v[1]}),
    ),
    max_leaves=5,
)
whens = st.one_of(
    conditions,
    where,
    where,
    st.tuples(whom, where).map(lambda v: {**v[0], **v[1]}),
    st.tuples(whom, where).map(lambda v: {"all": [v[0], {"not": v[1]}]}),
    whom,
)
thens = st.one_of(
    st.sampled_from(["allow", "block", "block", "block", "hide", "throttle", "price"]),
    st.fixed_dictionaries({"weigh": st.integers(-4, 6)}),
    st.fixed_dictionaries({"tag": st.just("seen")}),
    st.fixed_dictionaries({"weigh": st.integers(1, 6), "block": st.none()}),
)
rules = st.lists(
    st.fixed_dictionaries({"then": thens, "when": whens}, optional={"mode": st.sampled_from(["enforce", "enforce", "shadow"])}),
    min_size=2,
    max_size=7,
)


def _patterns_of(pieces: list[str]) -> st.SearchStrategy[str]:
    """Patterns that all hold the path with these pieces: some of them stand for anything, and the end may be open."""
    stars = st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces))

    def spell(starred: list[bool], upto: int, end: str) -> str:
        kept = ["*" if star else quote(piece) for star, piece in zip(starred, pieces, strict=True)]
        return "/" + ("".join(kept) + "$" if end == "$" else "".join(kept[:upto]) + end)

    return st.builds(spell, stars, st.integers(0, len(pieces)), st.sampled_from(["", "", "*", "$"]))


clashing = st.lists(st.sampled_from(PIECES), min_size=2, max_size=5).flatmap(
    lambda pieces: st.lists(
        st.fixed_dictionaries(
            {
                "then": st.sampled_from(["allow", "block"]),
                "when": st.tuples(st.sampled_from([{}, {}, {"agent": {"ai": True}}]), _patterns_of(pieces)).map(
                    lambda v: {**v[0], "path": v[1]}
                ),
            }
        ),
        min_size=2,
        max_size=5,
    )
)
"""Rules about one and the same path, which differ in how wide they are: the longest pattern is seldom that of the first of them."""

robots = st.fixed_dictionaries(
    {
        "comment": st.one_of(st.none(), st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]) | st.just("\n"), max_size=60)),
        "sitemaps": st.lists(st.just("https://site.example/sitemap.xml"), max_size=2).map(tuple),
        "license": st.one_of(st.none(), st.just("https://site.example/license.xml")),
        "delays": st.lists(
            st.tuples(st.sampled_from(["*", "bingbot", "gptbot", "GPTBot/1.2", "Somebody else"]), st.integers(1, 60)), max_size=2
        ).map(tuple),
        "signals": st.one_of(st.none(), st.just("auto"), st.just((("ai-train", "no"),))),
        "usage": st.one_of(st.none(), st.just("auto")),
    }
).map(lambda v: Robots(**cast("dict[str, Any]", v)))


@cache
def _default() -> Policy:
    return load_policy("builtin:default")


def policy_of(listed: Sequence[dict[str, Any]], include: bool = False, mode: str = "enforce", robots: Robots = NOTHING_MORE) -> Policy:
    """The policy with these rules, and after them the bundled default's. Not checked: rules in vain are welcome here."""
    made: list[Rule] = []
    problems: list[Problem] = []
    for number, rule in enumerate(listed):
        node = parse(json.dumps({"id": f"r{number}", **rule}).encode(), "test", problems.append)
        assert node is not None, problems
        read = RULE.read(node, problems.append)
        assert not problems, problems
        made.append(read)
    default = _default()
    networks = {**default.networks, "office": Network(Place(), "office", ("198.51.100.0/24",))}
    return Policy(
        mode=mode,
        rules=(*made, *(default.rules if include else ())),
        agents=agents(),
        networks=networks,
        missing_data="inactive",
        robots=robots,
    )


class Drawn(NamedTuple):
    """What a policy is made of: small to print, where a policy holds the catalogue."""

    rules: list[dict[str, Any]]
    include: bool = False
    mode: str = "enforce"
    robots: Robots = NOTHING_MORE

    def policy(self) -> Policy:
        """The policy itself."""
        return policy_of(self.rules, self.include, self.mode, self.robots)


policies = st.builds(
    Drawn, rules | clashing, st.sampled_from([False, False, False, True]), st.sampled_from(["enforce"] * 7 + ["shadow"]), robots
)

# ---- what they mean


@cache
def _samples() -> dict[str, bytes]:
    """For each agent that shows in a User-Agent one that names it."""
    return {agent.name: agent.samples[0].encode()[:MAX_UA] for agent in read_agents() if agent.samples}


def facts(ruleset: Ruleset, number: int, agent: Agent) -> UaFacts:
    """What the guard makes of an agent's own User-Agent; of one that never shows in a User-Agent, what it would."""
    raw = _samples().get(agent.name)
    if raw is None:
        return UaFacts(ruleset.agent_masks[number], (agent,), ruleset.agent_key(agent.name))
    found = ruleset.user_agent(raw)
    assert found.agent is not None
    assert found.agent.name == agent.name
    return found


def meant(policy: Policy, urls: Sequence[str]) -> dict[str, tuple[bool, ...]]:
    """What a policy means: for each token (``STRANGER`` for those that nobody has listed) whether it is served at each URL.

    By the compiled rules: each agent comes as itself, from an address that nobody knows, every other hour."""
    ruleset, store = compile_policy(policy), MemoryStore()
    views = [RequestView("GET", unquote(url.partition("?")[0]), [(b"host", HOST.encode())], "203.0.113.9") for url in urls]
    now = HOUR
    by_facts: dict[tuple[int, bool], tuple[bool, ...]] = {}
    rows = {}
    stranger = ruleset.user_agent(f"{STRANGER}/1.0".encode())
    assert not stranger.agents
    asked = [(token, facts(ruleset, number, policy.agents[number])) for token, number in tokens().items()]
    for token, ua in [*asked, (STRANGER, stranger)]:
        key = ua.mask, bool(ua.key)
        if key not in by_facts:
            row = []
            for view in views:
                now += 2 * HOUR
                decision = ruleset.evaluate(view, ua, NOBODY_KNOWS, store, now)
                row.append(decision.action not in (Action.BLOCK, Action.HIDE))
            by_facts[key] = tuple(row)
        rows[token] = by_facts[key]
    return rows


# ---- where they are asked


def urls_for(policy: Policy, seed: int, count: int = 30) -> list[str]:
    """Paths as a client spells them: out of the policy's own patterns, beside them, and at random; some with a query."""
    rnd = random.Random(seed)
    texts = [text for rule in policy.rules for text in _texts(rule.when)] or ["/"]
    found = {"/": None}
    while len(found) < count:
        path = rnd.choice(texts) if rnd.random() < 0.8 else "/" + _junk(rnd)
        path = "".join(_junk(rnd) if part == "*" else part for part in _parts(path))
        if rnd.random() < 0.4:
            at = rnd.randrange(len(path) + 1)
            path = rnd.choice([path[:at], path + _junk(rnd), path[:at] + rnd.choice(PIECES) + path[at:], path[:at] + path[at + 1 :]])
        url = quote(path if path.startswith("/") else "/" + path, safe=URL_SAFE)
        if {".", ".."} & set(url.split("/")):  # clients resolve these before they ask
            continue
        found.setdefault(url + rnd.choice(["", "", "", "?", "?q", "?x1"]))
    return list(found)


def _junk(rnd: random.Random) -> str:
    return "".join(rnd.choice(PIECES) for _ in range(rnd.randrange(4)))


def _parts(pattern: str) -> list[str]:
    """A pattern's decoded letters, and its stars."""
    body = pattern.removesuffix("$") if "*" in pattern or "%" in pattern else pattern
    return [part for piece in body.split("*") for part in (unquote(piece), "*")][:-1]


def _texts(when: Condition) -> list[str]:
    if isinstance(when, All | AnyOf):
        return [text for part in when.of for text in _texts(part)]
    if isinstance(when, Not):
        return _texts(when.of)
    if not isinstance(when, TextIs) or when.what != "path":
        return []
    shapes = {"suffix": "*{}", "contains": "*{}*"}
    return [shapes.get(kind, "{}").format(value) for kind, values in when.tests for value in values]
