"""A rollup that does not fit into memory comes to what it would in memory, whatever the limit; and its disk is left as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.adding import SCHEMA, merge
from crawlguard_analyzer.analysis import Analysis
from crawlguard_analyzer.analyze import analyse
from crawlguard_analyzer.clients import clients, judged, summed
from crawlguard_analyzer.merging import merge_states
from crawlguard_analyzer.rollup import rollup
from crawlguard_analyzer.scratch import LASTING, Scratch, directory
from crawlguard_analyzer.spilling import FEW_SHARES, MANY_SHARES, Joined, Rollup, Spilled, frames, in_memory, share_of, together, with_names
from crawlguard_analyzer.stored import Stored, ordered, write
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.errors import DataError

from .analyzer_rows import START, crawler, judge, people, rows

DAY = 86_400
NAMES = (
    "203.0.113.9",
    "203.0.113.10",
    "2001:db8::1",
    "2001:db8:0:0::2",
    "2001:DB8::3",
    "2001:db8:0:1::1",
    "::ffff:203.0.113.9",
    "",
    "\x00:",
    "host.example",
)
request = st.fixed_dictionaries(
    {
        "time": st.integers(START, START + 3 * DAY),
        "ip": st.sampled_from(NAMES),
        "target": st.sampled_from(["/", "/a.css", "/robots.txt", "/x?y"]),
        "ua": st.sampled_from(["", "GPTBot/1.0", "curl/8.0"]),
        "status": st.sampled_from([200, 404]),
    }
)
shards = st.lists(st.lists(request, min_size=1, max_size=12).map(lambda found: rollup(rows(found))), min_size=1, max_size=5)


@pytest.fixture
def site() -> list[pl.DataFrame]:
    """The rollups of four days: people, crawlers, and addresses of one /64."""
    days = [
        [*people(20), *(r for n in range(30) for r in crawler(f"2001:db8:{n % 3}::{n}", 2)), *crawler("198.51.7.7", 60)] for _ in range(4)
    ]
    return [rollup(rows([{**one, "time": one["time"] + n * DAY} for one in day])) for n, day in enumerate(days)]


def spilled(parts: list[pl.DataFrame], limit: int = 0, piece: int = 7) -> Rollup:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crawlguard_analyzer.spilling.AT_ONCE", limit)
        patch.setattr("crawlguard_analyzer.spilling.PIECE", piece)
        return together(parts)


@settings(max_examples=20, deadline=None)
@given(shards, st.integers(0, 30), st.sampled_from([1, 2, 50]), st.integers(1, 4))
def test_any_limit_gives_the_same(parts: list[pl.DataFrame], limit: int, piece: int, first: int) -> None:
    whole = merge([merge(parts[:first]), *parts[first:]])
    found = spilled([spilled(parts[:first], limit, piece), *parts[first:]], limit, piece)  # type: ignore[list-item]
    assert in_memory(found).equals(whole)
    assert found.height >= whole.height
    if isinstance(found, Joined):
        assert in_memory(found.settled()).equals(whole)
        assert found.height == found.settled().height == whole.height


def test_clients_are_judged_by_shares_as_they_are_together(site: list[pl.DataFrame]) -> None:
    assert judged(summed(frames(spilled(site))), judge()).equals(clients(merge(site), judge()))


@pytest.mark.parametrize("shares", [FEW_SHARES, MANY_SHARES])
def test_a_share_has_all_of_its_clients_and_of_their_networks(shares: int) -> None:
    share = dict(zip(NAMES, share_of(pl.Series(NAMES), shares), strict=True))
    assert share["2001:db8::1"] == share["2001:db8:0:0::2"] == share["2001:DB8::3"]
    assert set(share.values()) <= set(range(shares))
    many = share_of(pl.Series([f"10.0.{n // 250}.{n % 250}" for n in range(64_000)]), shares).value_counts()["count"]
    assert (many.len(), many.max() < 83_200 // shares) == (shares, True)  # type: ignore[operator]


def test_what_grows_is_cut_into_more_shares(site: list[pl.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard_analyzer.spilling.AT_ONCE", 0)
    whole, few = merge(site), together(site[:2])
    monkeypatch.setattr("crawlguard_analyzer.spilling.FEW_ROWS", few.height)
    many = together([few, *site[2:]])
    assert isinstance(few, Joined)
    assert isinstance(many, Joined)
    assert (few.shares, many.shares) == (FEW_SHARES, MANY_SHARES)
    assert in_memory(many).equals(whole)
    monkeypatch.setattr("crawlguard_analyzer.spilling.FEW_ROWS", 1 << 20)
    still = together([many.settled(), *site[2:]])
    assert isinstance(still, Joined)
    assert still.shares == MANY_SHARES, "shares that are put together would not be in order"
    assert in_memory(still).equals(merge([*site, *site[2:]]))
    monkeypatch.setattr("crawlguard_analyzer.spilling.UNSETTLED", 0)
    assert isinstance(together([many, *site[:1]]), Spilled)


@pytest.mark.parametrize("piece", [1, 3, 5000])
def test_it_is_written_in_the_order_of_day_and_name(site: list[pl.DataFrame], piece: int, tmp_path: Path) -> None:
    whole, found = merge(site), spilled(site, piece=piece)
    assert isinstance(found, Joined)
    assert pl.concat(ordered(found.settled())).equals(whole)
    write(found, tmp_path / "rollup.parquet", compression="zstd")
    assert pl.read_parquet(tmp_path / "rollup.parquet").equals(whole)


def test_nothing_is_written_as_nothing(tmp_path: Path) -> None:
    write(Spilled(FEW_SHARES), tmp_path / "rollup.parquet")
    assert pl.read_parquet(tmp_path / "rollup.parquet").equals(pl.DataFrame(schema=SCHEMA))
    assert merge(Spilled(FEW_SHARES).frames()).equals(pl.DataFrame(schema=SCHEMA))


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_a_file_is_read_some_rows_at_a_time(site: list[pl.DataFrame], limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard_analyzer.stored.AT_ONCE", limit)
    whole = merge(site)
    whole.write_parquet(tmp_path / "rollup.parquet")
    found = Stored(str(tmp_path / "rollup.parquet"))
    assert found.height == whole.height
    assert max(frame.height for frame in found.frames()) <= limit
    assert in_memory(together([found])).equals(whole)
    assert in_memory(spilled([found])).equals(whole)  # type: ignore[list-item]


def test_clients_that_get_the_same_name_become_one(site: list[pl.DataFrame]) -> None:
    def names(ips: pl.Series) -> pl.Series:
        return pl.select(pl.lit(ips).str.slice(0, 4)).to_series()

    assert in_memory(with_names(spilled(site), names)).equals(in_memory(with_names(merge(site), names)))


# ---- the whole of it


def log(path: Path, seed: int) -> str:
    """A log of some days, with people, crawlers and addresses of one /64."""
    line = '{} - - [{:02}/Sep/2026:{:02}:00:{:02} +0000] "GET /{} HTTP/1.1" 200 5 "-" "agent/{}"\n'
    path.write_text(
        "".join(
            line.format(NAMES[n % 6] if n % 5 else f"10.{n % 7}.0.{n % 50}", 20 + n // 200, n // 9 % 24, n % 60, f"{n % seed}.html", n % 3)
            for n in range(600)
        )
    )
    return str(path)


def everything(place: Path, **options: Any) -> tuple[Analysis, pl.DataFrame]:
    """A state of two runs, merged with another host's, as an analysis and as a rollup."""
    place.mkdir()
    one, two, three = (log(place / f"{name}.log", seed) for name, seed in (("one", 7), ("two", 11), ("three", 13)))
    state, other = str(place / "state"), str(place / "other")
    analyse([one], state=state, quiet=True, **options)
    analyse([three], state=other, quiet=True, **options)
    found = analyse([two], state=state, merged=[other], rollup=str(place / "rollup.parquet"), quiet=True, **options)
    return found, merge_states([str(place / "rollup.parquet")])


@pytest.mark.parametrize("privacy", ["full", "subnet"])
def test_states_merges_and_reports_come_to_the_same(privacy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, rolled = everything(tmp_path / "memory", privacy=privacy)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("crawlguard_analyzer.spilling.AT_ONCE", 0)
    found, again = everything(tmp_path / "disk", privacy=privacy)
    assert again.equals(rolled)
    assert found.to_dict() == plain.to_dict()
    for name in ("clients", "days", "agents", "undeclared", "swarms", "networks", "trends", "curve"):
        assert getattr(found, name).equals(getattr(plain, name)), name
    assert not list((tmp_path / "scratch").iterdir())


# ---- the disk


def test_a_scratch_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scratch = Scratch()
    places = [scratch.add(data) for data in (b"one", b"", b"three")]
    assert [scratch.read(place) for place in reversed(places)] == [b"three", b"", b"one"]
    assert not list(tmp_path.iterdir()), "a process that is killed would leave it behind"


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/named")
    assert directory() == "/named"
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr("crawlguard_analyzer.scratch.LASTING", "/nowhere")
    assert Path(directory()).is_dir()
    assert directory() != LASTING


def test_no_directory_is_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"gone: .* cannot be kept there .*TMPDIR"):
        Scratch()


# Run with -B: else Python leaves truncated bytecode beside the sources.
FULL = """
import resource, sys
sys.argv[1:] = ["analyze", *sys.argv[1:], "--quiet"]
import crawlguard_analyzer.spilling as spilling
from crawlguard.cli import main
spilling.AT_ONCE = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
main()
"""


def test_a_full_disk_is_told_with_the_cure(tmp_path: Path) -> None:
    """A limit on files' sizes, which the system tells in the same way; what was counted before has to be merged."""
    state = str(tmp_path / "state")
    for name in ("one.log", "two.log"):
        analyse([log(tmp_path / name, 7)], state=state, quiet=True)
    (tmp_path / "scratch").mkdir()
    environment = {"TMPDIR": str(tmp_path / "scratch"), "PYTHONDONTWRITEBYTECODE": "1"}
    call = [sys.executable, "-c", FULL, "--state", state]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/scratch: what is counted does not fit into memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "scratch").iterdir())
