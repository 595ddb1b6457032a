"""What is proposed for made-up sites; and that each rule does to every client, by the guard itself, exactly what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.agents import Registry
from crawlguard_analyzer.propose import Proposal, Proposals, propose
from crawlguard_analyzer.propose.load import load_of
from crawlguard_analyzer.propose.rates import limits, paces, round_up
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawlguard import catalogue
from crawlguard.guard import Guard
from crawlguard.loader import load_policy, parse_policy
from crawlguard.policy.model import Policy
from crawlguard.request import RequestView

from .analyzer_propose_sample import CHROME, DOTBOT, FIREFOX, GPTBOT, PETALBOT, SCRIPT, START, client, log, people, table
from .conftest import SHARED
from .mmdb_cut import cut
from .test_analyzer_propose_written import HOSTILE

TODAY = date(2026, 10, 1)


NAMED = ("DotBot", "PetalBot", "GPTBot", "Googlebot", "Uptime-Kuma")


def few(policy: Policy) -> Policy:
    """The policy with the agents that these tests need alone: it compiles in no time."""
    return replace(policy, agents=tuple(agent for agent in policy.agents if agent.name in NAMED))


DEFAULT = few(load_policy("builtin:default"))


@pytest.fixture
def live() -> Policy:
    return DEFAULT


def policy_of(found: Sequence[Proposal], *, on: bool) -> Policy:
    """The proposals as the guard reads them, switched on or as they are."""
    text = "".join(one.yaml for one in found) or "  []\n"
    if on:
        text = text.replace("    mode: shadow\n", "")
    policy, problems = parse_policy(f"version: 1\nrules:\n{text}")
    assert policy is not None, problems
    return few(policy)


def hit(found: Sequence[Proposal], clients: pl.DataFrame) -> dict[str, set[str]]:
    """Whom each rule would act on, asked one by one through the guard."""
    guard = Guard(policy_of(found, on=False), store="memory")
    told: dict[str, set[str]] = {}
    for row in clients.iter_rows(named=True):
        headers = [(b"user-agent", row["ua"].encode())] if row["ua"] else []
        for one in guard.decide(RequestView(path="/page", headers=headers, peer=row["client"])).shadow:
            told.setdefault(one.rule or "", set()).add(row["client"])
    return told


def ids(found: Proposals) -> list[str]:
    return [one.id for one in found.proposals]


def shards_of(rows: pl.DataFrame, size: int = 997) -> Any:
    def shards() -> Iterator[pl.DataFrame]:
        yield from rows.iter_slices(size)

    return shards


# ---- the property

uas = st.one_of(
    st.sampled_from([CHROME, FIREFOX, SCRIPT, DOTBOT, PETALBOT, GPTBOT, "", "Uptime-Kuma/1.23.1", *HOSTILE]),
    st.text(min_size=1, max_size=30),
).filter(lambda ua: ua == "" or bool(ua.strip()))
addresses = st.one_of(
    st.builds("198.51.{}.{}".format, st.integers(96, 103), st.integers(1, 4)),
    st.builds("2001:db8:{:x}::{:x}".format, st.integers(0, 3), st.integers(1, 3)),
)
classes = st.sampled_from(["crawler", "crawler", "swarm", "spoofed", "person", "unknown", "feed", "monitor", "tool"])
some_clients = st.lists(
    st.builds(client, addresses, classes, st.integers(1, 90), uas), min_size=1, max_size=30, unique_by=lambda row: row["client"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_clients)
def test_a_rule_hits_exactly_whom_it_says(rows: list[dict[str, Any]]) -> None:
    clients = table(rows)
    found = propose(clients, DEFAULT, today=TODAY)
    acted = hit(found.proposals, clients)
    kinds = dict(clients.select("client", "class").iter_rows())
    for one in found.proposals:
        mine = acted.get(one.id, set())
        decided = {row["client"] for row in rows if row["agent"] == "GPTBot"}  # refused already: nobody's gain, and no risk
        assert len(mine - decided) == one.evidence.clients
        assert sum(kinds[c] == "person" for c in mine - decided) == one.risk.people == 0
        assert not any(kinds[c] in ("feed", "monitor") for c in mine)
        assert one.evidence.requests == sum(row["requests"] for row in rows if row["client"] in mine - decided)
        assert one.evidence.requests >= one.evidence.adds >= 1
    json.dumps(found.to_dict())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_clients)
def test_the_same_on_the_log_itself(rows: list[dict[str, Any]]) -> None:
    clients = table(rows)
    found = propose(clients, DEFAULT, today=TODAY, shards=shards_of(log(clients)))
    static = [one for one in found.proposals if "rate" not in one.when]
    acted = hit(static, clients)
    decided = {row["client"] for row in rows if row["agent"] == "GPTBot"}
    for one in static:
        assert len(acted.get(one.id, set()) - decided) == one.evidence.clients
    for one in found.proposals:
        assert one.proved
        assert one.risk.people == 0
        assert not {"feed", "monitor", "person"} & set(one.evidence.classes)


# ---- sites


def test_a_crawler_of_many_addresses_is_one_rule(live: Policy) -> None:
    rows = [*people(150), *(client(f"198.51.{96 + n % 4}.{n}", "crawler", 40) for n in range(1, 60))]
    found = propose(table(rows), live, today=TODAY)
    assert ids(found) == ["proposed-subnet-198-51-96-0-22"]
    (one,) = found.proposals
    assert one.when == {"ip": ["198.51.96.0/22"]}
    assert one.evidence.clients == 59
    assert one.risk.people == one.risk.unsure == 0


def test_a_person_in_the_subnet_makes_the_rule_narrower(live: Policy) -> None:
    crawlers = [client(f"198.51.100.{n}", "crawler", 40, FIREFOX) for n in range(1, 9)]
    rows = [*people(150, ua=FIREFOX), *crawlers, client("198.51.100.99", "person", 30, CHROME)]
    found = propose(table(rows), live, today=TODAY)
    assert [one.when for one in found.proposals] == [{"ip": ["198.51.100.0/24"], "user_agent": {"is": FIREFOX}}]
    assert found.proposals[0].risk.people == 0


def test_a_program_is_known_by_its_user_agent_and_people_s_browsers_never_are(live: Policy) -> None:
    rows = [*people(50), *(client(f"203.{n}.113.7", "crawler", 60, SCRIPT) for n in range(40))]
    assert [one.when for one in propose(table(rows), live, today=TODAY).proposals] == [{"user_agent": {"is": SCRIPT}}]
    rows = [*people(50), *(client(f"203.{n}.113.7", "crawler", 60, CHROME) for n in range(40))]
    assert not any("user_agent" in one.when and "ip" not in one.when for one in propose(table(rows), live, today=TODAY).proposals)


def test_a_word_stands_for_many_versions_of_a_program(live: Policy) -> None:
    rows = [*people(50), *(client(f"203.{n}.113.7", "crawler", 30, f"sitegrab/2.{n} (linux {n})") for n in range(40))]
    assert [one.when for one in propose(table(rows), live, today=TODAY).proposals] == [{"user_agent": {"contains": ["sitegrab"]}}]


def test_a_browser_that_no_person_has_is_told_with_little_confidence(live: Policy) -> None:
    rows = [*people(50), *(client(f"{20 + n}.{n}.113.7", "swarm", 60, FIREFOX, swarm=None) for n in range(60))]
    (one,) = propose(table(rows), live, today=TODAY).proposals
    assert one.when == {"user_agent": {"is": FIREFOX}}
    assert one.confidence == "low"


def test_declared_crawlers_by_name_unless_the_policy_decides_or_they_bring_readers(live: Policy) -> None:
    rows = [
        *people(20),
        client("198.51.100.1", "declared", 500, DOTBOT),
        client("198.51.100.2", "declared", 500, GPTBOT),
        client("198.51.100.3", "declared", 500, PETALBOT),
    ]
    assert [one.when for one in propose(table(rows), live, today=TODAY).proposals] == [{"agent": {"name": ["DotBot"]}}]
    everything = few(load_policy("builtin:observe"))
    found = propose(table(rows), everything, today=TODAY)
    assert [one.when for one in found.proposals] == [{"agent": {"name": ["DotBot"]}}], "what a rehearsal refuses counts as refused"
    bare, _ = parse_policy("version: 1\nrules: []")
    assert bare is not None
    named = {next(iter(one.when["agent"]["name"])) for one in propose(table(rows), few(bare), today=TODAY).proposals}
    assert named == {"DotBot", "GPTBot"}


def test_a_crawler_that_brings_readers_is_slowed(live: Policy) -> None:
    clients = table([*people(20), client("198.51.100.3", "declared", 900, PETALBOT)])
    (one,) = propose(clients, live, today=TODAY, shards=shards_of(log(clients, pace=2))).proposals
    assert one.then == "throttle"
    assert one.when["agent"] == {"name": ["PetalBot"]}
    assert one.evidence.requests > 800
    assert any("readers" in note for note in one.notes)


def test_who_asks_faster_than_any_person_is_slowed_wherever_it_comes_from(live: Policy) -> None:
    crawlers = [client(f"{20 + n}.{n}.113.7", "crawler", 400) for n in range(12)]
    clients = table([*people(120), *crawlers])
    one, *_ = propose(clients, live, today=TODAY, shards=shards_of(log(clients, pace=25))).proposals
    assert one.id == "proposed-rate-ip"
    assert one.then == "throttle"
    assert one.evidence.classes == {"crawler": one.evidence.requests}
    assert one.evidence.requests > 0.8 * 12 * 400
    assert (one.confidence, one.risk.people) == ("high", 0)
    assert len(one.evidence.samples) == 3
    guard = Guard(policy_of([one], on=True), store="memory", clock=lambda: 1_000_000)
    asked = [guard.decide(RequestView(path="/a.css", peer="198.51.100.1")).action for _ in range(500)]
    assert set(asked) == {"allow"}, "parts of pages never count"


def test_limits_lie_above_people_and_those_who_must_not_be_hit(live: Policy) -> None:
    clients = table([*people(120), client("198.51.100.77", "monitor", 300), client("198.51.100.78", "crawler", 900)])
    waiting = {one.id: one for one in limits(load_of(clients, live), paces(shards_of(log(clients, pace=2))))}
    assert waiting["proposed-rate-ip"].when["rate"] == {
        "per": "ip",
        "windows": [{"requests": 250, "within": "1m"}, {"requests": 600, "within": "1h"}],
    }
    alone = {one.id: one for one in limits(load_of(table(people(120)), live), paces(shards_of(log(table(people(120))))))}
    assert [w["requests"] for w in alone["proposed-rate-ip"].when["rate"]["windows"]] == [40, 60, 150], "never below what anybody may do"


def test_what_the_log_contradicts_is_measured_anew(live: Policy) -> None:
    """The table says that a client comes with one User-Agent, the log that it has many."""
    rows = [*people(120), *(client(f"198.51.100.{n}", "crawler", 100, SCRIPT) for n in range(1, 9)), client("198.51.100.50", "person", 40)]
    clients = table(rows)
    requests = log(clients).with_columns(
        pl.when((pl.col("ua") == SCRIPT) & (pl.col("target").str.slice(-1) != "7")).then(pl.lit(CHROME)).otherwise(pl.col("ua")).alias("ua")
    )
    found = propose(clients, live, today=TODAY, shards=shards_of(requests))
    for one in found.proposals:
        if "user_agent" in one.when:
            assert one.evidence.requests <= 80
        assert one.risk.people == 0


def test_a_person_s_second_user_agent_is_found_on_the_log(live: Policy) -> None:
    clients = table([*people(120), *(client(f"{20 + n}.{n}.113.7", "crawler", 60, SCRIPT) for n in range(20))])
    requests = log(clients)
    also = requests.filter(pl.col("ip") == "81.2.0.7").head(8).with_columns(pl.lit(SCRIPT).alias("ua"))
    found = propose(clients, live, today=TODAY, shards=shards_of(pl.concat([requests, also]).sort("time", maintain_order=True)))
    assert found.proposals
    for one in found.proposals:
        assert one.risk.people == 0
        assert one.kind != "ua"


def test_people_are_named_where_a_rule_is_worth_one(live: Policy) -> None:
    rows = [
        *people(60),
        client("81.9.9.9", "person", 8, SCRIPT),
        *(client(f"{20 + n}.{n}.113.7", "crawler", 60, SCRIPT) for n in range(200)),
    ]
    found = propose(table(rows), live, today=TODAY)
    (one,) = (one for one in found.proposals if one.kind == "ua")
    assert (one.risk.people, one.risk.requests, one.confidence) == (1, 8, "low")
    assert [(trace.client, trace.requests) for trace in one.risk.traces] == [("81.9.9.9", 8)]
    assert "#   81.9.9.9, 8 requests (2 documents and 6 assets in all, styled) sitegrab" in one.yaml


def test_only_what_was_seen_lately_is_proposed_by_address(live: Policy) -> None:
    old = {"first": START - 60 * 86_400, "last": START - 50 * 86_400}
    rows = [*people(50), client("198.51.100.9", "crawler", 900, CHROME, **old)]
    assert ids(propose(table(rows), live, today=TODAY)) == []
    rows = [*people(50), client("198.51.100.9", "crawler", 900)]
    (one,) = propose(table(rows), live, today=TODAY).proposals
    assert (one.id, one.expires) == ("proposed-ip-198-51-100-9", date(2026, 10, 31))


def test_what_is_proposed_already_is_not_proposed_again(live: Policy) -> None:
    rows = [*people(50), *(client(f"203.{n}.113.7", "crawler", 60, SCRIPT) for n in range(40))]
    first = propose(table(rows), live, today=TODAY)
    reviewed = policy_of(first.proposals, on=False).rules
    again = propose(table(rows), live, today=TODAY, reviewed=reviewed)
    assert (ids(again), again.load) == ([], 0)


def test_without_addresses_rules_rest_on_names_alone(live: Policy) -> None:
    hashed = [client(f"k-{n:016x}", "crawler", 60, SCRIPT) for n in range(40)]
    found = propose(table([*people(3), *hashed, client("k-00000000000000ff", "crawler", 5000)]), live, today=TODAY)
    assert [one.when for one in found.proposals] == [{"user_agent": {"is": SCRIPT}}]
    rows = [client(f"k-{n:016x}", "crawler", 60) for n in range(40)]
    assert any("no rule by address" in note for note in propose(table(rows), live, today=TODAY).notes)


def test_of_whole_subnets_only_subnets_are_proposed(live: Policy) -> None:
    rows = [client(f"198.51.{n}.0/24", "crawler", 900) for n in range(96, 100)]
    found = propose(table([*rows, client("81.2.69.0/24", "person", 50)]), live, today=TODAY)
    assert [one.when for one in found.proposals] == [{"ip": ["198.51.96.0/22"]}]
    assert any("single address" in note for note in found.notes)


def test_a_network_operator_needs_a_database_and_says_so(live: Policy) -> None:
    rows = [*people(50), *(client(f"203.{n}.113.7", "crawler", 60, asn=64496) for n in range(40))]
    found = propose(table(rows), live, today=TODAY)  # the live policy has none, so the rule could not be tried
    assert not any("asn" in one.when for one in found.proposals)
    assert any("--asn" in note for note in found.notes)


@pytest.fixture(scope="module")
def asns(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real database, as far as the addresses below go."""
    return cut(SHARED / "mmdb" / "asn.mmdb", ["104.0.0.0/8", "203.0.0.0/8"], tmp_path_factory.mktemp("asn") / "asn.mmdb")


def test_a_network_operator_is_one_rule_with_its_database(live: Policy, asns: str) -> None:
    with_asn = replace(live, asn=asns)
    crawlers = [client(f"104.16.{n}.7", "crawler", 60, asn=13335) for n in range(0, 200, 5)]
    (one,) = propose(table([*people(50), *crawlers]), with_asn, today=TODAY).proposals
    assert one.when == {"asn": [13335]}
    assert one.evidence.clients == 40
    assert any("data: {asn: FILE.mmdb}" in note for note in one.notes)


def test_an_exit_that_many_people_share_is_never_proposed_by_its_place(live: Policy, asns: str) -> None:
    """A relay, a VPN or a company's proxy, whoever was seen coming out of it: not as a system, nor as a subnet, an address or a swarm."""
    with_asn = replace(live, asn=asns)
    seen = Registry(with_asn, catalogue.networks(), with_asn.asn).addresses(pl.Series([f"104.16.{n}.7" for n in range(8)]))
    assert (seen["asn"].unique().to_list(), seen["exit"].all()) == ([13335], True)  # cloudflare-exits in rules/networks
    out = [
        client(f"104.16.{net}.{n}", kind, 600, asn=13335, swarm="104.16.0.0/16" if kind == "swarm" else None)
        for net, kind in enumerate(("crawler", "swarm") * 4)
        for n in range(1, 9)
    ]
    beside = [client(f"104.15.{net}.{n}", "crawler", 600, asn=64496) for net in range(248, 256) for n in range(1, 5)]
    rows = table([*people(150), *out, *beside])
    exits = rows.with_columns(exit=pl.col("client").str.starts_with("104.16.").cast(pl.Float64))
    places = {
        str(place) for one in propose(rows, with_asn, today=TODAY).proposals for key in ("ip", "asn") for place in one.when.get(key, [])
    }
    assert "13335" in places or any(place.startswith("104.16.") for place in places)
    found = propose(exits, with_asn, today=TODAY).proposals
    assert found
    for one in found:
        assert one.when.get("asn") != [13335]
        assert not any(place.startswith("104.16.") for place in one.when.get("ip", []))
    assert not any(
        ip.startswith("104.16.") for clients in hit([one for one in found if "asn" not in one.when], exits).values() for ip in clients
    )


def test_an_empty_log_proposes_nothing(live: Policy) -> None:
    found = propose(table([]), live, today=TODAY, shards=shards_of(log(table([client("198.51.100.1", "person", 1)])).clear()))
    assert (found.proposals, found.requests) == ((), 0)
    assert found.notes == ("the log holds no requests",)


def test_most_rules(live: Policy) -> None:
    rows = [client(f"{20 + n}.{n}.113.7", "crawler", 400, f"{'abcdefghij'[n]}{'klmnopqrst'[n]}grab/1") for n in range(10)]
    assert len(propose(table([*people(50), *rows]), live, today=TODAY, most=3).proposals) == 3


def test_the_yaml_says_what_there_is_to_know(live: Policy) -> None:
    rows = [*people(150), *(client(f"198.51.100.{n}", "crawler", 40) for n in range(1, 30)), client("198.51.100.77", "unknown", 8)]
    (one,) = propose(table(rows), live, today=TODAY).proposals
    for words in (
        "# proposed: 2026-10-01, a subnet", "# hits: 1,168 requests", "crawler 1,160, unknown 8", "# why: hardly any assets", "# people: none hit",
        "# unsure: 8 requests of 1 client", "198.51.100.77, 8 requests (2 documents and 6 assets in all, styled)", "# confidence: medium", "# shadow: 7 days",
        "# expires: 2026-12-30", "mode: shadow",
    ):  # fmt: skip
        assert words in " ".join(line.removeprefix("  #  ").strip() if line.startswith("  #   ") else line for line in one.yaml.split("\n"))
    told = one.to_dict()
    assert told["savings"] == {"requests": 1168, "bytes": 1_168_000, "cpu_seconds": None}
    assert told["proved"] is False


@pytest.mark.parametrize(("number", "rounded"), [(1, 5), (20, 20), (21, 25), (66, 70), (101, 150), (150, 150), (849, 850), (4321, 4500)])
def test_limits_are_round(number: int, rounded: int) -> None:
    assert round_up(number) == rounded
