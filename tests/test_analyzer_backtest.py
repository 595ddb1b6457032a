"""The backtest against ``Ruleset.evaluate``, row by row, over generated policies of every kind of condition and over the bundled ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer import backtest_facts
from crawlguard_analyzer.backtest import Backtest
from crawlguard_analyzer.backtest_sight import BACK, LATE, Clock, leaves, of_a_log, view_of
from crawlguard_analyzer.rows import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.catalogue import policy_names
from crawlguard.client_ip import parse_ip
from crawlguard.decision import Decision
from crawlguard.events import Counters, EventLog, Once, Privacy
from crawlguard.live import Live
from crawlguard.loader import load_policy
from crawlguard.policy.conditions import _FIELDS
from crawlguard.policy.model import Log, Network, Policy
from crawlguard.policy.nodes import Place
from crawlguard.policy.schema import RULE
from crawlguard.policy.terms import Counts, Dynamic
from crawlguard.signals.rate import US
from crawlguard.signals.ua import Agent, Pattern
from crawlguard.store import MemoryStore
from crawlguard.yamlio import parse

from .policy_corpus import BRITISH, DATA, LEVEL3, NOBODY, TELSTRA

LINES, POLICIES = 2000, 50
"""Lines of a generated log, and generated policies: together 100,000 decisions that are compared."""
MONTH = 40 * 86_400

AGENTS = tuple(
    Agent(name=name, operator=operator, category=category, user_agent=(Pattern(token=token),))
    for name, operator, category, token in (
        ("Alpha", "One", "training", "alphabot"),
        ("AlphaPlus", "One", "search-engine", "alphabot-plus"),
        ("Beta", "Two", "training", "betabot"),
    )
)
NETWORKS = {
    "near": Network(Place(), "near", cidrs=("10.0.0.0/9", "2001:db8::/32"), tags=("tagged",)),
    "systems": Network(Place(), "systems", asns=(1221,)),
}
UAS = [
    "",
    " ",
    "alphabot/1.0",
    "AlphaBot-Plus/2",
    "x alphabot betabot",
    "betabot",
    "Mozilla/5.0 (X11) Firefox/140.0",
    "Mozilla/5.0 é\ufffd",
    "u" * 600,
]
IPS = [
    TELSTRA,
    LEVEL3,
    BRITISH,
    NOBODY,
    "10.0.0.1",
    "10.0.0.2",
    "10.200.3.4",
    "2001:db8::5",
    "2001:db8::6",
    "::ffff:10.0.0.1",
    "a.host.example",
    "",
]
TARGETS = ["/", "/a", "/a/b?q=1", "/A", "/a/b.php", "/%61", "/x/a/y", "/a$", "/robots.txt", "/robots%2Etxt?x", "/robots.txt2", "*", "", "/é?\ufffd",
           "http://a.example/a/b", "HTTP://a.example/ROBOTS.txt", "https://a.example/%72obots.txt", "https://a.example", "a.example:443", "/?/robots.txt"]  # fmt: skip
METHODS, HOSTS, REFERRERS = (
    ["GET", "POST", "HEAD", ""],
    ["a.example", "B.A.example:80", "other", ""],
    ["", "https://a.example/one", "ONE two"],
)


def rows_of(columns: dict[str, list[Any]]) -> pl.DataFrame:
    """Rows with these columns, the others as if a log had not said them."""
    height = len(next(iter(columns.values())))
    blank = {"time": 0, "method": "GET", "target": "/", "protocol": "HTTP/1.1", "status": 200, "bytes": 100, "spent": -1}
    return pl.DataFrame({name: columns.get(name, [blank.get(name, "")] * height) for name in ROWS}, schema=ROWS)


def some_rows(rng: random.Random, lines: int, least: int = 1) -> pl.DataFrame:
    """A mixed log: bursts, late lines, and now and then a log that begins at an earlier time again. ``least``: different values of a column."""
    now, times, back = 1_700_000_000, [], 0
    for _ in range(lines):
        now += rng.choice((0, 0, 0, 0, 1, 2, 30))
        if rng.random() < 1 / 500:
            back = rng.choice((-LATE * 30, 0, 86_400))
        times.append(now - back - rng.choice((0, 0, 0, 1, LATE, LATE + 1, 5000)) * (rng.random() < 0.05))
    few = [rng.sample(pool, rng.randint(min(least, len(pool)), len(pool))) for pool in (IPS, METHODS, TARGETS, REFERRERS, UAS, HOSTS)]
    names = ("ip", "method", "target", "referrer", "ua", "host")
    return rows_of({"time": times, **{name: rng.choices(pool, k=lines) for name, pool in zip(names, few, strict=True)}})


def shards(rows: pl.DataFrame, rng: random.Random) -> Iterator[pl.DataFrame]:
    """The rows in parts of any size."""
    at = 0
    while at < rows.height:
        size = rng.choice((1, 7, 100, 900))
        yield rows[at : at + size]
        at += size


# ---- the same by evaluate, one request after the other


def one_by_one(times: Iterable[int]) -> Iterator[int]:
    """The clock, as its docstring has it; microseconds."""
    now = ahead = late = 0
    for time in times:
        late = late + 1 if now - (time + ahead) > LATE else 0
        if late > BACK:
            ahead, late = now + MONTH - time, 0
        now = max(now, time + ahead)
        yield now * US


def evaluated(policy: Policy, rows: pl.DataFrame, *, of_log: bool = True) -> list[Decision]:
    """What ``Ruleset.evaluate`` says to each row."""
    live = Live(policy, MemoryStore(1 << 20), EventLog(Log(), Privacy(), Counters(), Once()))
    ruleset = of_a_log(live.ruleset) if of_log else live.ruleset
    said = []
    for row, now in zip(rows.iter_rows(named=True), one_by_one(rows["time"].to_list()), strict=True):
        view = view_of(row["method"], row["target"], row["ua"], row["host"], row["referrer"])
        said.append(ruleset.evaluate(view, ruleset.user_agent(view.first(b"user-agent")), live.facts(parse_ip(row["ip"])), live.store, now))
    return said


def plain(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """Decisions as rows of ``Backtest.decide``."""
    return [
        {"action": str(d.action), "rule": d.rule or "", "status": d.status, "shadow": [str(one.rule) for one in d.shadow]}
        for d in decisions
    ]


def same(policy: Policy, rows: pl.DataFrame, rng: random.Random) -> None:
    """Hold the two against each other."""
    backtest = Backtest(policy)
    found = pl.concat([backtest.decide(part) for part in shards(rows, rng)]).to_dicts()
    wanted = plain(evaluated(policy, rows))
    wrong = [n for n in range(rows.height) if found[n] != wanted[n]]
    assert not wrong, (wrong[0], rows.row(wrong[0], named=True), found[wrong[0]], wanted[wrong[0]])


# ---- generated policies


def some(*values: Any) -> st.SearchStrategy[Any]:
    """One of the values, or a list of some of them."""
    return st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))


def texts(*values: str) -> st.SearchStrategy[Any]:
    """A text condition written out."""
    kinds = st.dictionaries(st.sampled_from(["is", "prefix", "suffix", "contains"]), some(*values), min_size=1, max_size=2)
    return st.one_of(kinds, st.fixed_dictionaries({"regex": st.sampled_from(["a.*b", "^/?a", "[0-9]"])}))


windows = st.fixed_dictionaries({"requests": st.sampled_from([1, 2, 5, 20]), "within": st.sampled_from(["1s", "5s", "1m", "1h"])})
rates = st.builds(
    lambda per, plain, more, hold: {"per": per, **({"windows": more} if plain is None else plain), **({"block_for": hold} if hold else {})},
    per=some("ip", "subnet", "asn", "agent", "fingerprint"),
    plain=st.one_of(windows, st.none()),
    more=st.lists(windows, min_size=1, max_size=3, unique_by=lambda w: (w["requests"], w["within"])),
    hold=st.sampled_from([None, None, "3s", "2m"]),
)
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "agent": st.one_of(some("Alpha", "Beta"), st.fixed_dictionaries({"category": some("training", "search-engine")})),
    "user_agent": st.one_of(some("alpha", "BOT", "/1"), texts("alphabot", "u", "1.0"), st.fixed_dictionaries({"missing": st.booleans()})),
    "ip": some("10.0.0.0/8", "10.0.0.1", "2001:db8::/33"),
    "network": st.one_of(some("near", "systems"), st.fixed_dictionaries({"tag": st.just("tagged")})),
    "asn": some(1221, 209),
    "country": some("US", "gb"),
    "path": st.one_of(some("/a", "/a$", "/a/*.php$", "*/a", "/"), texts("/a", "a", "/A")),
    "method": some("GET", "post"),
    "host": st.one_of(some("a.example", "*.A.example"), texts("a", ".example")),
    "header": st.one_of(
        st.fixed_dictionaries({"name": st.sampled_from(["referer", "user-agent", "host", "x-test"]), "missing": st.booleans()}),
        st.builds(lambda kinds, name: {"name": name, **kinds}, texts("one", "two", "a"), st.sampled_from(["Referer", "X-Test"])),
    ),
    "rate": rates,
    "swarm": st.one_of(st.just(True), st.fixed_dictionaries({"per": some("asn", "path"), "clients": st.just(10)})),
    "score": st.fixed_dictionaries({"at_least": st.integers(-3, 4), "below": st.integers(0, 9)}),
}
plain_leaf = st.one_of(*(st.fixed_dictionaries({name: strategy}) for name, strategy in LEAVES.items()))
# Rates of some requests alone, above all of those of which something is not known, are what is hardest to count.
signatures = st.sampled_from(
    [
        {"per": "path", "requests": 2, "within": "1m"},
        {"per": "ip", "distinct_paths": 2, "within": "1m", "block_for": ["1m", "1h"]},
        {"per": "global", "errors": 2, "within": "1m"},
        {"per": "subnet", "requests": 2, "within": "1m", "assets": "under 2%"},
    ]
)  # which a log judges no more than a swarm
leaf = st.one_of(
    plain_leaf, st.fixed_dictionaries({"rate": signatures}), st.builds(lambda one, rate: {**one, "rate": rate}, plain_leaf, rates)
)
conditions = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    max_leaves=6,
)
actions = st.one_of(
    st.sampled_from(["allow", "block", "throttle", "hide", "price"]),
    st.fixed_dictionaries({"weigh": st.integers(-2, 4)}),
    st.fixed_dictionaries({"tag": st.just("x")}),
    st.fixed_dictionaries({"weigh": st.integers(-2, 4), "block": st.just({"status": 451})}),
)
rule_lists = st.lists(
    st.fixed_dictionaries({"then": actions}, optional={"when": conditions, "mode": st.sampled_from(["shadow", "enforce"])}),
    min_size=3,
    max_size=8,
)


def policy_of(rules: list[dict[str, Any]], mode: str = "enforce") -> Policy:
    """The rules as a policy, without the checks that refuse senseless ones: those must be right too."""
    problems: list[object] = []
    read = []
    for number, rule in enumerate(rules):
        node = parse(json.dumps({"id": f"r{number}", **rule}).encode(), "test", problems.append)
        assert node is not None
        read.append(RULE.read(node, problems.append))
    assert problems == []
    return Policy(mode=mode, rules=tuple(read), agents=AGENTS, networks=NETWORKS, asn=DATA["asn"], country=DATA["country"])


def test_every_kind_of_condition_is_generated() -> None:
    assert set(LEAVES) | {"all", "any", "not"} == {*_FIELDS, "all", "any", "not"}


@settings(max_examples=POLICIES, deadline=None)
@given(rules=rule_lists, mode=st.sampled_from(["enforce", "enforce", "shadow"]), seed=st.integers(0, 1 << 32))
def test_a_generated_policy_decides_as_evaluate_does(rules: list[dict[str, Any]], mode: str, seed: int) -> None:
    rng = random.Random(seed)
    same(policy_of(rules, mode), some_rows(rng, LINES), rng)


BUSY = {"per": "ip", "requests": 3, "within": "20s"}
HARD: dict[str, list[dict[str, Any]]] = {
    "what is unknown is not counted": [{"when": {"host": "a.example", "rate": BUSY}}],
    "one rate, asked by several plans": [
        {"when": {"any": [{"agent": "Alpha"}, {"path": "/a"}, {"country": "US"}], "rate": BUSY}},
        {"when": {"any": [{"agent": "Beta"}, {"all": [{"method": "POST"}, {"rate": {**BUSY, "per": "subnet"}}]}], "rate": BUSY}, "then": "hide"},
    ],
    "a penalty": [{"when": {"rate": {**BUSY, "block_for": "5m"}}}],
    "a penalty of several windows": [
        {"when": {"rate": {"per": ["ip", "agent"], "block_for": "1m", "windows": [
            {"requests": 2, "within": "3s"}, {"requests": 9, "within": "1m"}, {"requests": 40, "within": "1h"}]}}}
    ],
    "the opposite of a rate": [{"when": {"not": {"rate": BUSY}}, "then": "allow"}, {"then": "price"}],
    "slow windows": [{"when": {"rate": {"per": "fingerprint", "requests": 20, "within": "1d"}}}],
    "scores": [
        {"when": {"path": "/a"}, "then": {"weigh": 2}},
        {"when": {"method": "POST"}, "then": {"weigh": 3, "tag": "post"}},
        {"when": {"score": {"at_least": 2, "below": 5}, "rate": BUSY}, "then": "throttle"},
        {"when": {"score": 5}, "mode": "shadow"},
        {"when": {"not": {"score": 1}, "user_agent": "bot"}, "then": "hide"},
    ],
    "scores in shadow": [{"mode": "shadow", "then": {"weigh": 5}}, {"when": {"score": 5}}],
    "rehearsed and really in shadow": [
        {"when": {"path": "/a"}, "mode": "shadow"},
        {"when": {"method": ["GET", "POST"], "rate": BUSY}},
        {"when": {"agent": "Alpha"}, "then": "hide"},
        {"when": {"rate": {**BUSY, "within": "1m"}}, "mode": "enforce", "then": "throttle"},
        {"then": "price"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_what_is_hard_is_decided_as_evaluate_does(name: str, mode: str) -> None:
    rng = random.Random(name)
    same(policy_of([{"then": "block", **rule} for rule in HARD[name]], mode), some_rows(rng, 3 * LINES, least=99), rng)


@pytest.mark.parametrize("name", policy_names())
def test_a_bundled_policy_decides_as_evaluate_does(name: str) -> None:
    """Tight bursts of known and unknown agents, so that the stances' wide rates trip too."""
    rng = random.Random(name)
    policy = load_policy(f"builtin:{name}")
    uas = ["", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "GPTBot/1.2", "Scrapy/2.11", "CCBot/2.0"]
    uas += [f"Mozilla/5.0 (compatible; {agent.user_agent[0].token}/1.0)" for agent in rng.sample(policy.agents, 60) if agent.user_agent]
    ips = [f"198.51.100.{n}" for n in range(6)] + ["66.249.66.1", "157.55.39.1", "2001:db8::1", "unknown.example"]
    columns: dict[str, list[Any]] = {
        "time": [1_700_000_000 + n // 900 for n in range(6 * LINES)],
        "ip": rng.choices(ips, [9, 4, 1, 1, 1, 1, 1, 1, 1, 1], k=6 * LINES),
        "ua": rng.choices(uas, k=6 * LINES),
        "target": rng.choices([*TARGETS, "/feed/", "/index.xml?x"], k=6 * LINES),
        "method": rng.choices(METHODS, k=6 * LINES),
    }
    same(policy, rows_of(columns), rng)


def test_where_a_log_says_all_that_a_policy_asks_it_is_the_policy_itself() -> None:
    rng = random.Random(5)
    rows = some_rows(rng, LINES).with_columns(pl.col("host").replace("", "a.example"))
    policy = policy_of(
        [{"then": "block", "when": {"host": "a.example", "not": {"header": {"name": "referer", "missing": True}}, "rate": BUSY}}]
    )
    assert plain(evaluated(policy, rows)) == plain(evaluated(policy, rows, of_log=False))


def test_every_test_of_the_language_says_what_it_reads() -> None:
    """A new condition has to be taught to the backtest: what it reads is either known to it, or unknown to every log."""
    rules = [{"then": "block", "when": {name: value}} for name, value in (
        ("path", "/a"), ("host", "a"), ("method", "GET"), ("header", {"name": "x-test", "is": "a"}), ("score", 3), ("rate", BUSY),
    )]  # fmt: skip
    compiled = Backtest(policy_of(rules))._decider.compiled
    reads = [leaf.reads for rule in compiled.rules for leaf in leaves(rule.term) if isinstance(leaf, Dynamic)]
    assert [one.per if isinstance(one, Counts) else one for one in reads] == ["path", "host", "method", "header x-test", "score", ("ip",)]


def test_a_penalty_outlasts_the_shard_in_which_it_began() -> None:
    policy = policy_of([{"then": "block", "when": {"rate": {**BUSY, "block_for": "5m"}}}])
    backtest = Backtest(policy)
    assert backtest.decide(rows_of({"time": [0] * 4, "ip": ["10.0.0.1"] * 4}))["action"].to_list() == ["allow"] * 3 + ["block"]
    others = rows_of({"time": [200, *range(210, 900, 10)], "ip": ["10.0.0.1", *(f"10.0.1.{n}" for n in range(69))]})
    assert backtest.decide(others)["action"].to_list() == ["block"] + ["allow"] * 69


def test_what_is_remembered_of_addresses_and_user_agents_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_facts, "ADDRESSES", 20)
    monkeypatch.setattr(backtest_facts, "AGENTS", 20)
    rng = random.Random(7)
    same(
        policy_of([{"then": "block", "when": {"agent": "Alpha", "rate": BUSY}}, {"then": "hide", "when": {"rate": BUSY}}]),
        some_rows(rng, LINES),
        rng,
    )
    backtest = Backtest(policy_of([{"then": "block"}]))
    for n in range(50):
        backtest.feed(rows_of({"time": [n] * 15, "ip": [f"10.0.{n}.{m}" for m in range(15)]}))
    assert len(backtest._decider._facts.addresses.names) <= 20
    long = rows_of({"time": [60, 60], "ip": ["x" * 500_000, "2001:db8::7%" + "y" * 500_000], "ua": ["z" * 500_000] * 2})
    assert backtest.decide(long)["action"].to_list() == ["block"] * 2
    facts = backtest._decider._facts
    assert sum(facts.addresses.names.str.len_bytes()) + sum(facts.agents.names.str.len_bytes()) < 20_000


# ---- time


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), max_size=300), st.integers(0, 300), st.integers(0, 50))
def test_the_clock_is_the_same_however_the_log_is_cut(times: list[int], cut: int, repeats: int) -> None:
    times = [time for time in times for _ in range(repeats)][:2000]
    clock = Clock(MONTH)
    found = [*clock.steady(pl.Series(times[:cut], dtype=pl.Int64)), *clock.steady(pl.Series(times[cut:], dtype=pl.Int64))]
    assert found == list(one_by_one(times))
    assert found == sorted(found)


def test_a_late_line_charges_nobody_and_a_second_file_starts_afresh() -> None:
    """Three a minute are admitted. One download that is logged late leaves the others' clock alone; a log that begins again does not
    find everybody at one moment."""
    policy = policy_of([{"then": "throttle", "when": {"rate": {"per": "ip", "requests": 3, "within": "1m"}}}])
    calm = [1000 + 20 * n for n in range(200)]
    late = [*calm[:100], 1000, *calm[100:]]
    backtest = Backtest(policy)
    backtest.feed(rows_of({"time": late, "ip": ["10.0.0.1"] * 100 + ["10.0.0.2"] + ["10.0.0.1"] * 100}))
    assert backtest.result().actions == {"allow": 201}
    assert (backtest.result().late, backtest.result().restarts) == (1, 0)
    again = Backtest(policy)
    for _ in range(3):
        again.feed(rows_of({"time": calm, "ip": [f"10.0.{n % 90}.1" for n in range(200)]}))
    assert again.result().actions == {"allow": 600}
    assert again.result().restarts == 2
