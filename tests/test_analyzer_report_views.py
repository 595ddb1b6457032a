"""The report on a terminal, in a mail, in files: what is shown is right, fits, and carries nothing that a log has smuggled in."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import click
import polars as pl
import pytest
from crawlguard_analyzer.analysis import Analysis
from crawlguard_analyzer.features import NOTHING_USUAL, features
from crawlguard_analyzer.report import words
from crawlguard_analyzer.report.exports import CONTROLS, FORMULA, tables, to_csv, to_parquet, write_text
from crawlguard_analyzer.report.mail import WIDTH, mail, subject, week_end
from crawlguard_analyzer.report.private import LEVELS, private
from crawlguard_analyzer.report.terminal import ASCII_BLOCKS, BLOCKS, show
from hypothesis import given
from hypothesis import strategies as st

from crawlguard.errors import DataError

from .analyzer_report_sample import DAYS, FIRST_DAY, HOSTILE, KINDS, analysis, hostile

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def month() -> Analysis:
    return analysis()


# ---- words


@given(st.text(), st.integers(4, 400))
def test_plain_text_is_one_short_line_of_harmless_characters(text: str, most: int) -> None:
    shown = words.plain(text, most)
    assert len(shown) <= most
    assert shown.isprintable()
    assert all(ord(character) < 0x250 for character in shown)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300))
def test_plain_text_that_is_harmless_stays_as_it_is(text: str) -> None:
    assert words.plain(text) == text


def test_what_is_not_plain_is_escaped_and_what_is_long_is_cut() -> None:
    assert words.plain("a\x1b[31m\u202e\r\n\U0001f600é") == r"a\x1b[31m\u202e\x0d\x0a\U0001f600é"
    assert words.plain("abcdefgh", 6) == "abc..."


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 0, "0%"), (0, 9, "0%"), (1, 10**6, "<0.1%"), (42, 1000, "4.2%"), (61, 100, "61%"), (9_999, 10_000, ">99%"), (5, 5, "100%")],
)
def test_a_share_is_never_rounded_to_none_or_all(part: int, whole: int, shown: str) -> None:
    assert words.percent(part, whole) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 B"), (999, "999 B"), (14_000, "14 kB"), (999_700, "1 MB"), (7.56e9, "7.56 GB"), (3e15, "3,000.0 TB")]
)
def test_sizes(number: float, shown: str) -> None:
    assert words.size(number) == shown


@given(st.lists(st.integers(0, 1000), max_size=500), st.integers(1, 60))
def test_buckets_keep_the_sum(counts: list[int], most: int) -> None:
    found = words.buckets(counts, most)
    assert sum(found) == sum(counts)
    assert len(found) <= most


def test_every_feature_that_can_speak_against_a_client_has_words() -> None:
    """Those that only speak for a person have none."""
    for_people = {"exit", "relayed", "styled", "favicon", "following"}
    assert {feature.name for feature in features(NOTHING_USUAL)} - for_people == set(words.REASONS)
    assert set(words.TRAITS) == {name for name, text in words.REASONS.items() if "{" in text}
    assert words.reason("a_new_one", 3.0) == "a new one 3"
    assert words.reason("bare", 1234.0) == "hardly any assets, where its pages need 1,234"


# ---- terminal


@pytest.mark.parametrize("width", [40, 80, 93, 100, 300])
def test_the_terminal_report_fits(month: Analysis, width: int) -> None:
    text = show(month, width=width)
    assert max(map(len, click.unstyle(text).split("\n"))) <= min(max(width, 80), 100)
    for part in ("GPTBot", "undeclared crawlers", "43.130.0.0/16", "calls itself Googlebot", "AS8075", "ai-training", "disobeys", "40 tls"):
        assert part in text
    assert "Next: crawlguard propose LOG..." in click.unstyle(text)
    assert "4 is in force" in text


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("spent", [0, 8 * 10**12])
def test_no_number_is_cut(width: int, spent: int) -> None:
    one = analysis(kinds=(KINDS[0],))  # a bar of full length
    clients = one.clients.with_columns(pl.col("requests") * 10_000, spent=pl.lit(spent // one.clients.height))
    one = replace(one, clients=clients, totals=replace(one.totals, spent=spent))
    load = next(line for line in click.unstyle(show(one, width=width)).split("\n") if line.startswith("  people  "))
    assert "..." not in load
    assert load.split()[-1] in (("h",) if spent else ("MB", "GB", "TB"))
    assert len(load) <= width
    assert load.count(BLOCKS[-1]) >= 4


def test_the_sparkline_rises_where_requests_rise() -> None:
    few = analysis(kinds=(KINDS[0],), days=9)
    days = few.days.with_columns(pl.Series("requests", [1, 2, 3, 4, 5, 6, 7, 8, 8]))
    assert BLOCKS[1:] in show(replace(few, days=days))
    assert ASCII_BLOCKS[1:] in show(replace(few, days=days), blocks=False)


def test_without_blocks_the_report_is_ascii(month: Analysis) -> None:
    assert show(month, blocks=False).isascii()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_of_a_hostile_log_reaches_the_terminal_or_the_mail(text: str) -> None:
    found = hostile(text)
    shown = show(found, then=f"crawlguard propose {text}")
    plain = ESCAPES.sub("", shown).split("\n")  # only colours of ours, which the text cannot write
    assert all(line.isprintable() and all(ord(c) < 0x250 or c in BLOCKS for c in line) for line in plain)
    assert max(map(len, plain)) <= 400, "cut, wherever it stands"
    assert len(plain) < 250
    sent = mail(found, then=f"crawlguard propose {text}")
    assert all(line.isprintable() and line.isascii() and len(line) <= WIDTH for line in sent.split("\n"))
    assert subject(found).isprintable()


def test_an_empty_log_has_a_report(month: Analysis) -> None:
    nothing = analysis(kinds=())
    assert "The log holds no request." in show(nothing)
    assert mail(nothing).startswith("crawlguard: no requests\n")


def test_what_is_not_known_is_not_claimed(month: Analysis) -> None:
    text = click.unstyle(show(replace(month, actions=None, threshold=None)))
    assert "What the guard did" not in text
    assert "in force" not in text
    subnets = replace(
        month, clients=month.clients.with_columns(asn=pl.lit(None, pl.Int64)), networks=month.networks.filter(pl.col("kind") == "subnet")
    )
    assert "no --asn database was named" in show(subnets)


def test_what_was_only_watched_is_not_told_as_done(month: Analysis) -> None:
    watched = replace(
        month, actions=pl.DataFrame({"rule": ["a", "b", "c"], "action": ["shadow block", "weigh", "hide"], "hits": [500, 30, 7]})
    )
    assert "The guard acted on 7 requests." in mail(watched)


# ---- mail


def test_the_mail_compares_whole_weeks(month: Analysis) -> None:
    text = mail(month)
    assert max(map(len, text.split("\n"))) <= WIDTH
    people = month.days.filter(pl.col("class") == "person")["requests"].to_list()
    this, before = sum(people[-7:]), sum(people[-14:-7])
    line = next(line for line in text.split("\n") if line.startswith("  people"))
    assert line.split()[1] == f"{this:,}"
    assert line.split()[-1] == f"{(this - before) / before:+.0%}"
    assert "2026-10-21 to 2026-10-27" in text


def test_one_request_is_one(month: Analysis) -> None:
    days = month.days.head(1).with_columns(pl.lit(1).alias("requests"))
    assert subject(replace(month, days=days)).startswith("crawlguard: 1 request in the week")


def test_a_day_that_is_not_over_is_not_in_the_week(month: Analysis) -> None:
    morning = replace(month.totals, last=(FIRST_DAY + DAYS - 1) * 86_400 + 6 * 3600)
    assert week_end(month) == date(2026, 10, 27)
    assert week_end(replace(month, totals=morning)) == date(2026, 10, 26)


def test_without_two_weeks_there_is_no_comparison() -> None:
    text = mail(analysis(days=13))
    assert "no whole week before it" in text
    assert "%" not in next(line for line in text.split("\n") if line.startswith("  all"))
    assert "for the first time" not in mail(analysis(days=5))


def test_who_is_new_this_week_is_named(month: Analysis) -> None:
    late = (FIRST_DAY + DAYS - 3) * 86_400
    agents = month.agents.with_columns(pl.when(pl.col("agent") == "Amazonbot").then(late).otherwise(pl.col("first")).alias("first"))
    assert "Seen for the first time this week: Amazonbot" in mail(replace(month, agents=agents))


# ---- files


def test_csv_holds_every_table_and_no_formula(tmp_path: Path) -> None:
    found = hostile("=cmd|' /C calc'!A0")
    written = to_csv(found, tmp_path / "new" / "tables")
    assert {path.stem for path in written} == set(tables(found))
    for path in written:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len(rows) == tables(found)[path.stem].height + 1
        texts = [cell for row in rows[1:] for cell in row if not re.fullmatch(r"-?[0-9.e+-]*", cell)]
        assert not [cell for cell in texts if re.match(FORMULA, cell)]
    assert "'=cmd" in (tmp_path / "new" / "tables" / "clients.csv").read_text()
    assert sorted(p.name for p in (tmp_path / "new" / "tables").iterdir()) == sorted(p.name for p in written), (
        "nothing half-written is left"
    )


@given(st.text(max_size=20))
def test_no_text_begins_a_formula_in_csv(text: str) -> None:
    from crawlguard_analyzer.report.exports import _flat

    cell = _flat(pl.DataFrame({"a": [text], "b": [[text, text]]}))
    assert not any(value[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} for value in cell.row(0) if value)
    written = "".join(CONTROLS.get(c, c) for c in text)
    assert cell["a"][0] in (written, f"'{written}")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_csv_file_can_be_shown_on_a_terminal(text: str, tmp_path: Path) -> None:
    found = hostile(text)
    for path in to_csv(found, tmp_path):
        lines = path.read_text(encoding="utf-8").split("\n")
        assert not any(c in CONTROLS for line in lines for c in line)
        assert len(lines) == tables(found)[path.stem].height + 2


def test_parquet_holds_the_tables_as_they_are(month: Analysis, tmp_path: Path) -> None:
    for path in to_parquet(month, tmp_path):
        assert pl.read_parquet(path).equals(tables(month)[path.stem])


def test_a_place_that_cannot_be_written_is_said(month: Analysis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"clients\.csv: cannot be written .*; name another place"):
        to_csv(month, tmp_path / "file")
    with pytest.raises(DataError, match=r"clients\.parquet"):
        to_parquet(month, tmp_path / "file")
    with pytest.raises(DataError, match=r"page\.html"):
        write_text(tmp_path / "file" / "page.html", "")


# ---- privacy


@pytest.mark.parametrize("level", LEVELS)
def test_privacy_hides_addresses_everywhere(month: Analysis, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLGUARD_SECRET", "of a test")
    shown = private(month, level)
    to_csv(shown, tmp_path)
    text = "\n".join([*(path.read_text() for path in tmp_path.iterdir()), show(shown), mail(shown), str(shown.to_dict())])
    addresses = set(month.clients["client"])
    assert bool(addresses & set(re.findall(r"[0-9]+(?:\.[0-9]+){3}(?![/0-9])", text))) == (level == "full")
    assert bool(re.search(r"\d+\.\d+\.\d+\.0/24", text)) == (level != "keyed")
    assert shown.clients["requests"].sum() == month.clients["requests"].sum()
    swarm = shown.swarms["swarm"][0]
    assert sum(shown.trend("swarm", swarm)) == shown.swarms["requests"][0], "names still agree between tables"
    assert (shown.clients["swarm"] == swarm).sum() == shown.swarms["clients"][0]


def test_what_is_no_address_is_hidden_too() -> None:
    odd = hostile("example.org")
    assert set(private(odd, "subnet").clients["client"]) == {"unknown"}
    assert private(odd, "keyed").clients["client"].str.starts_with("k-").all()
