"""Counts are kept small, packed and in narrow numbers, and come to the same as if they were not: whoever joins them, and whenever they were made."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from crawlguard_analyzer.adding import MOST
from crawlguard_analyzer.counting import Counted
from crawlguard_analyzer.merging import merge_states
from crawlguard_analyzer.packing import Packed, packed, unpacked
from crawlguard_analyzer.rollup import SCHEMA, merge, rollup
from crawlguard_analyzer.shards import ARITY, fold
from crawlguard_analyzer.spilling import frames
from crawlguard_analyzer.state import MANIFEST, State
from hypothesis import given, settings
from hypothesis import strategies as st

from .analyzer_rows import START, crawler, people, rows

WIDE = {name: pl.Int64 if kind == pl.Int32 and name != "day" else kind for name, kind in SCHEMA.items()}
"""What the numbers of a state were before they were narrow."""
SUMMED = ("requests", "documents", "assets", "errors", "depth", "gap_sum")


def shard(number: int, visits: int = 3) -> pl.DataFrame:
    """Visitors of which some come again in the next shard."""
    return rollup(rows([*people(visits), *crawler(f"198.51.100.{number % 3}", 5, at=START + 600 * number)]))


# ---- packed


def counted(rollups: tuple[pl.DataFrame, ...]) -> Counted:
    return Counted(rollups, rows=7, unparsed=Counter(tls=2), formats=Counter(combined=7), problems=("torn",), first=START, last=START + 1)


@pytest.mark.parametrize("small", [0, 1 << 12, 1 << 30])
@pytest.mark.parametrize("in_memory", [0, 1 << 24])
def test_what_was_packed_comes_back_as_it_was(small: int, in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard_analyzer.packing.SMALL", small)
    monkeypatch.setattr("crawlguard_analyzer.packing.IN_MEMORY", in_memory)
    large, little = shard(1, visits=60), pl.DataFrame({"rule": ["a"], "hits": [1]})
    found = counted((large, little))
    held = packed(found)
    assert [isinstance(one, Packed) for one in held.rollups] == [one.estimated_size() > small for one in (large, little)]
    assert [one.height for one in held.rollups] == [large.height, little.height]
    back = unpacked(held)
    assert back.rollups[0].equals(large)
    assert back.rollups[0].schema == large.schema
    assert back.rollups[1].equals(little)
    assert [getattr(back, name) for name in Counted.__slots__[1:]] == [getattr(found, name) for name in Counted.__slots__[1:]]


@pytest.mark.parametrize("number", [1, 2, ARITY, ARITY + 1, 3 * ARITY * ARITY + 5])
def test_a_tree_whose_counts_wait_packed_is_the_tree(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def join(parts: list[Counted]) -> Counted:
        return Counted((merge(frame for part in parts for frame in frames(part.rollups[0])),), sum(part.rows for part in parts))

    parts = [Counted((shard(n, visits=1),), 5 + n) for n in range(number)]
    plain = fold(parts, join)
    monkeypatch.setattr("crawlguard_analyzer.packing.SMALL", 0)
    found = fold(parts, join)
    assert plain is not None
    assert found is not None
    assert found.rows == plain.rows == sum(part.rows for part in parts)
    assert found.rollups[0].equals(plain.rollups[0])
    assert found.rollups[0].schema == plain.rollups[0].schema


# ---- narrow


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, MOST + 5), min_size=2, max_size=6), dice=st.randoms(use_true_random=False))
def test_numbers_that_end_do_so_in_any_order_and_in_any_tree(sizes: list[int], dice: object) -> None:
    one = rollup(rows(crawler("198.51.100.7", 1)))
    parts = [one.cast(WIDE).with_columns(pl.lit(size, pl.Int64).alias(name) for name in SUMMED) for size in sizes]  # type: ignore[arg-type]
    whole = merge(parts)
    assert whole.schema == pl.Schema(SCHEMA)
    row = whole.row(0, named=True)
    assert {row[name] for name in SUMMED} == {min(sum(sizes), MOST)}
    while len(parts) > 1:
        dice.shuffle(parts)  # type: ignore[attr-defined]
        parts = [merge(parts[:2]), *parts[2:]]
    assert parts[0].select(SUMMED).equals(whole.select(SUMMED))


def as_it_was(state: Path, *found: pl.DataFrame) -> None:
    """A state as it was written before numbers were narrow: the same in wide numbers."""
    for one in found:
        State(state).commit(one, {})
    for path in state.glob("part-*.parquet"):
        pl.read_parquet(path).cast(WIDE).write_parquet(path, compression="zstd")  # type: ignore[arg-type]


def test_a_state_of_before_is_read_and_goes_on(tmp_path: Path) -> None:
    as_it_was(tmp_path, shard(1), shard(2))
    assert pl.read_parquet_schema(tmp_path / "part-000001.parquet")["requests"] == pl.Int64
    assert State(tmp_path).read().equals(merge([shard(1), shard(2)]))
    assert State(tmp_path).read().schema == pl.Schema(SCHEMA)
    State(tmp_path).commit(shard(3), {})
    assert State(tmp_path).read().equals(merge([shard(1), shard(2), shard(3)]))


def test_a_state_of_before_is_merged_with_one_of_today(tmp_path: Path) -> None:
    as_it_was(tmp_path / "old", shard(1), shard(2))
    State(tmp_path / "new").commit(shard(3), {})
    found = merge_states([str(tmp_path / "old"), str(tmp_path / "new")])
    assert found.equals(merge([shard(1), shard(2), shard(3)]))
    assert found.schema == pl.Schema(SCHEMA)
    assert json.loads((tmp_path / "old" / MANIFEST).read_text())["version"] == 1
