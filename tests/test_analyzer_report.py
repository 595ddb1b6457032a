"""The analysis: its tables say of clients and days what those say, its JSON is short, and odd logs do not upset it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import click
import polars as pl
import pytest
from crawlguard_analyzer import tables as module
from crawlguard_analyzer.analysis import Analysis, Totals
from crawlguard_analyzer.report.html import page
from crawlguard_analyzer.report.mail import mail
from crawlguard_analyzer.report.terminal import show
from crawlguard_analyzer.report.words import members
from crawlguard_analyzer.tables import CLASSES
from hypothesis import given
from hypothesis import strategies as st

from .analyzer_report_sample import ACTIONS, CHROME, COMPLIANCE, FIRST_DAY, HOSTILE, KINDS, Kind, analysis, hostile, tables


@pytest.fixture(scope="module")
def month() -> Analysis:
    return analysis()


def test_every_request_is_in_one_class_on_one_day(month: Analysis) -> None:
    requests = int(month.clients["requests"].sum())
    assert int(month.days["requests"].sum()) == requests == int(month.classes()["requests"].sum())
    assert sum(map(sum, (month.by_day(name) for name in CLASSES))) == requests
    assert month.classes()["class"].to_list() == [name for name in CLASSES if name in {kind.name for kind in KINDS}]
    _, rollup = tables()
    on_third = rollup.filter(pl.col("day") == FIRST_DAY + 2)
    assert int(month.days.filter(pl.col("day") == date(2026, 10, 2))["clients"].sum()) == on_third.height


def test_an_agent_and_who_only_uses_its_name_are_told_apart(month: Analysis) -> None:
    google = month.agents.filter(pl.col("agent") == "Googlebot").row(0, named=True)
    of = month.clients.filter(pl.col("agent") == "Googlebot")
    assert google["spoofed"] == of.filter(pl.col("identity") == "spoofed")["requests"].sum() > 0
    assert google["verified"] + google["spoofed"] == google["requests"] == of["requests"].sum()
    assert (google["identity"], google["obeys"], google["disallowed"]) == ("verified", "yes", 0), "the impostor's conduct is not Google's"


def test_who_has_not_been_looked_at_is_not_said_to_ignore_robots_txt(month: Analysis) -> None:
    row = month.agents.filter(pl.col("agent") == "Feedly").row(0, named=True)
    assert (row["robots_fetched"], row["obeys"]) == (None, "unknown")
    clients, rollup = tables()
    nobody = Analysis.of(clients, rollup, None, Totals()).agents
    assert nobody["robots_fetched"].null_count() == nobody.height == month.agents.height


def test_the_undeclared_come_with_their_main_reasons(month: Analysis) -> None:
    assert set(month.undeclared["class"]) == {"crawler", "spoofed"}
    for row in month.undeclared.iter_rows(named=True):
        client = month.clients.row(by_predicate=pl.col("client") == row["client"], named=True)
        assert row["points"] == sorted(row["points"], reverse=True)
        assert min(row["points"]) > 0
        assert [client[f"{name}_points"] for name in row["reasons"]] == row["points"]
        assert [client[name] for name in row["reasons"]] == row["values"]


def test_a_swarms_reasons_are_what_most_of_its_members_share(month: Analysis) -> None:
    for row in month.swarms.iter_rows(named=True):
        members = month.clients.filter(pl.col("swarm") == row["swarm"])
        assert (row["clients"], row["requests"], row["subnets"]) == (
            members.height,
            members["requests"].sum(),
            members["subnet"].n_unique(),
        )
        assert {"bare", "unreferred"} <= set(row["reasons"])
        for name, share in zip(row["reasons"], row["values"], strict=True):
            assert share == pytest.approx((members[f"{name}_points"] > 0).mean())
            assert share >= module.MOSTLY


def test_what_is_left_of_a_group_beside_its_crawlers_is_told_from_a_swarm_of_many() -> None:
    rest = few(1, "45.148.10.0/24"), few(1, "45.149.0.0/16", network="45.149.1")
    clients, rollup = tables(kinds=(*KINDS, *rest))
    found = Analysis.of(clients, rollup, None, Totals())
    told = {row["swarm"]: members(row) for row in found.swarms.iter_rows(named=True)}
    assert told["45.148.10.0/24"] == "1 client beside 5 crawlers"
    assert told["45.149.0.0/16"] == "1 client of a group"
    assert told["AS45899"] == "60 clients"
    text = click.unstyle(show(found, width=160))
    assert "by 1 client beside 5 crawlers in 1 subnet" in text
    assert "1 client beside 5 crawlers" in page(found)
    assert "swarm: 1 client beside 5 crawlers" in mail(found)


def few(clients: int, swarm: str, network: str = "45.148.10") -> Kind:
    """A swarm of few in some network."""
    return Kind("swarm", clients, network, 48090, 3, 1.0, CHROME, swarm=swarm)


def test_networks_add_up(month: Analysis) -> None:
    for kind, whole in (("subnet", month.clients), ("asn", month.clients.filter(pl.col("asn").is_not_null()))):
        table = month.networks.filter(pl.col("kind") == kind)
        assert table["requests"].sum() == whole["requests"].sum()
        assert table["clients"].sum() == whole.height
        assert (table.select(pl.sum_horizontal(*CLASSES)).to_series() == table["requests"]).all()


def test_the_curve_counts_who_reaches_each_threshold(month: Analysis) -> None:
    judged = month.clients.filter(pl.col("class").is_in(module.BY_CONDUCT))
    assert month.threshold in month.curve["threshold"].to_list()
    for row in month.curve.iter_rows(named=True):
        over = judged.filter(pl.col("score") >= row["threshold"])
        assert (row["clients"], row["requests"]) == (over.height, over["requests"].sum())


@given(st.lists(st.one_of(st.none(), st.floats(-20, 40), st.just(float("nan"))), max_size=30), st.none() | st.floats(-30, 60))
def test_any_scores_make_a_curve(scores: list[float | None], threshold: float | None) -> None:
    clients = tables(kinds=(KINDS[1]._replace(clients=max(len(scores), 1)),), days=1)[0].head(len(scores))
    curve = module.curve(clients.with_columns(pl.Series("score", scores, pl.Float64)), threshold)
    assert curve["clients"][0] in (len(scores), len([s for s in scores if (s or 0.0) >= curve["threshold"][0]]))
    assert curve["clients"].is_sorted(descending=True)
    assert threshold is None or threshold in curve["threshold"].to_list()


def test_trends_go_over_all_days(month: Analysis) -> None:
    trend = month.trend("agent", "Googlebot")
    assert len(trend) == len(month.every_day()) == 28
    assert sum(trend) == month.agents.filter(pl.col("agent") == "Googlebot")["requests"].item()
    assert month.trend("agent", "nobody") == []


def test_tables_are_cut_and_say_how_much_is_cut(monkeypatch: pytest.MonkeyPatch, month: Analysis) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    short = analysis()
    assert {short.agents.height, short.undeclared.height} == {3}
    assert short.networks.height == 6
    assert short.heights() == month.heights()
    assert month.heights()["agents"] == month.agents.height
    assert month.heights()["undeclared"] == month.undeclared.height
    assert month.heights()["swarms"] == month.swarms.height
    for kind in ("asn", "subnet"):
        assert month.heights()[kind] == month.networks.filter(pl.col("kind") == kind).height


def test_json_is_plain_short_and_versioned(month: Analysis) -> None:
    told = month.to_dict()
    assert told["version"] == 1
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["totals"]["first"].endswith("Z")
    assert told["actions"][0] == ACTIONS.row(0, named=True)
    assert told["days"][0]["day"] == "2026-09-30"
    assert analysis(guarded=False).to_dict()["actions"] is None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_json_of_a_hostile_log_stays_short(text: str) -> None:
    written = json.dumps(hostile(text).to_dict())
    assert written.isascii()
    assert "\x1b" not in written
    assert len(written) < 3_000_000


def test_what_is_no_number_is_null_in_json() -> None:
    clients, rollup = tables()
    odd = Analysis.of(clients.with_columns(bare=float("nan"), score=float("inf")), rollup, None, Totals())
    told = json.loads(json.dumps(odd.to_dict(), allow_nan=False))
    assert told["undeclared"][0]["score"] is None
    assert None in told["undeclared"][0]["values"]


def test_an_empty_log_and_one_without_classes_are_no_trouble() -> None:
    nothing = analysis(kinds=())
    assert nothing.every_day() == []
    assert nothing.to_dict()["days"] == nothing.to_dict()["agents"] == []
    assert nothing.heights() == {"agents": 0, "undeclared": 0, "swarms": 0, "asn": 0, "subnet": 0}


def test_a_broken_clock_does_not_make_the_report_endless() -> None:
    clients, rollup = tables()
    times = (-5, 2**31 - 1, 2_932_896)
    odd = rollup.head(3).with_columns(pl.Series("day", times, pl.Int32))
    found = Analysis.of(clients, pl.concat([rollup, odd]), COMPLIANCE, Totals(first=-(10**15), last=10**15))
    assert len(found.every_day()) <= module.MOST_DAYS
    assert found.to_dict()["totals"]["last"] is None


def test_what_is_not_known_of_a_class_is_kept(month: Analysis) -> None:
    new = month.clients.with_columns(pl.when(pl.col("class") == "tool").then(pl.lit("alien")).otherwise(pl.col("class")).alias("class"))
    assert replace(month, clients=new).classes()["class"].to_list()[-1] == "alien"
