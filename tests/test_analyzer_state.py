"""The state of incremental runs: counted once, whatever dies when; and clear words for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from crawlguard_analyzer.rollup import merge, rollup
from crawlguard_analyzer.state import MANIFEST, MOST_PARTS, State

from crawlguard.errors import DataError


def shard(number: int) -> pl.DataFrame:
    row = {
        "time": number * 60,
        "ip": f"10.0.0.{number % 3}",
        "method": "GET",
        "target": f"/{number}",
        "status": 200,
        "bytes": 5,
        "referrer": "",
        "protocol": "HTTP/2.0",
        "ua": "a",
    }
    return rollup(pl.DataFrame([row]).cast({"status": pl.Int16}))


def test_runs_add_up(tmp_path: Path) -> None:
    shards = [shard(n) for n in range(3 * MOST_PARTS)]
    for number, one in enumerate(shards):
        State(tmp_path).commit(one, {"log": {"offset": number}})
    state = State(tmp_path)
    assert state.read().equals(merge(shards))
    assert state.positions == {"log": {"offset": len(shards) - 1}}
    assert len(state.parts) <= MOST_PARTS
    assert sorted(p.name for p in tmp_path.iterdir()) == [*state.parts, MANIFEST]


def test_a_run_that_saw_nothing_adds_no_part(tmp_path: Path) -> None:
    State(tmp_path).commit(merge([]), {"log": 1})
    assert (State(tmp_path).parts, State(tmp_path).positions) == ([], {"log": 1})


def test_a_part_that_the_manifest_does_not_name_never_happened(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.commit(shard(1), {})
    shard(2).write_parquet(tmp_path / "part-000002.parquet")  # a run died between its part and its manifest
    assert State(tmp_path).read().equals(merge([shard(1)]))
    State(tmp_path).commit(shard(3), {})
    assert State(tmp_path).read().equals(merge([shard(1), shard(3)]))


def test_two_runs_at_once_are_told(tmp_path: Path) -> None:
    with State(tmp_path).locked(), pytest.raises(DataError, match="another run is at work"), State(tmp_path).locked():
        pass
    with State(tmp_path).locked():
        pass


def test_a_run_that_ended_before_the_lock_was_had_counts(tmp_path: Path) -> None:
    late = State(tmp_path)
    State(tmp_path).commit(shard(1), {"log": {"offset": 1}})
    with late.locked():
        assert late.positions == {"log": {"offset": 1}}
        late.commit(shard(2), {"log": {"offset": 2}})
    assert State(tmp_path).read().equals(merge([shard(1), shard(2)]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "not a state of this version"),
        (json.dumps({"version": 99}), "not a state of this version"),
        (json.dumps({"version": 1, "hash": 1, "parts": [], "positions": {}}), "another version of polars"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DataError, match=says) as found:
        State(tmp_path)
    assert str(tmp_path / MANIFEST) in str(found.value)


def test_a_part_that_is_gone_or_broken_is_named(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.commit(shard(1), {})
    (tmp_path / state.parts[0]).write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"part-000001\.parquet: cannot be read"):
        State(tmp_path).read()
    (tmp_path / state.parts[0]).unlink()
    with pytest.raises(DataError, match=r"part-000001\.parquet: cannot be read"):
        State(tmp_path).read()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        State(tmp_path / "file" / "state")


def test_small_tables_and_counts_are_those_of_the_last_run_that_gave_some(tmp_path: Path) -> None:
    small = [pl.DataFrame({"rule": ["a"], "hits": [number]}) for number in range(3)]
    for number, table in enumerate(small):
        State(tmp_path).commit(shard(number), {}, {"actions": table}, {"rows": number})
    State(tmp_path).commit(shard(9), {"log": 1})
    state = State(tmp_path)
    found = state.table("actions")
    assert found is not None
    assert found.equals(small[-1])
    assert state.counts == {"rows": 2}
    assert state.table("agents") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*state.parts, "actions-000003.parquet", MANIFEST])
