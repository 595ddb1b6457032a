"""The pipeline: the same as one chunk after the other, whichever thread is first; bounded; and still when it is told to stop."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator

import polars as pl
import pytest
from crawlguard_analyzer.formats import named
from crawlguard_analyzer.packing import Packed, packed
from crawlguard_analyzer.parsed import Parsed, Reject
from crawlguard_analyzer.pipeline import FOLD, blocks, run
from crawlguard_analyzer.rollup import DAY, Clients, rollup
from crawlguard_analyzer.shards import ARITY
from crawlguard_analyzer.threads import WORKERS

COMBINED = named("combined")


def line(number: int) -> bytes:
    if number % 11 == 0:
        return b"no line of a log, number %d\n" % number
    return b'10.0.%d.7 - - [23/Sep/2026:16:%02d:%02d +0200] "GET /page/%d HTTP/1.1" 200 5 "-" "agent %d"\n' % (
        number % 5, number // 60 % 60, number % 60, number % 17, number % 3,
    )  # fmt: skip


def chunks(count: int, lines: int = 7) -> list[bytes]:
    return [b"".join(line(n) for n in range(first, first + lines)) for first in range(0, count * lines, lines)]


class Statuses:
    """A second collector: requests by status."""

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by("status").agg(pl.len().alias("requests"))

    def merge(self, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(parts).group_by("status").agg(pl.col("requests").sum())


class Late:
    """A format whose first chunks take longest: each waits until a later one is done, as long as there is another thread."""

    name = "late"

    def __init__(self) -> None:
        self.turn, self.seen = threading.Event(), 0

    def describe(self) -> str:
        return self.name

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        self.seen += 1
        if self.seen == 1:
            assert self.turn.wait(30)
        else:
            self.turn.set()
        return COMBINED.parse(chunk)

    def after(self, chunk: bytes) -> Late:
        return self


@pytest.mark.parametrize("count", [1, 2, FOLD, FOLD + 1, FOLD * (ARITY + 1) + 3])
def test_it_is_what_one_chunk_after_the_other_comes_to(count: int) -> None:
    found = run(chunks(count), COMBINED, [Clients(), Statuses()])
    parsed = [COMBINED.parse(chunk) for chunk in chunks(count)]
    rows = pl.concat([one.rows for one in parsed])
    mixed = ("burst_10", "burst_60", "ua", "ua_requests")  # those inside one block
    assert found.rollups[0].drop(mixed).equals(rollup(rows).drop(mixed))
    assert found.rollups[1].to_dicts() == [{"status": 200, "requests": rows.height}]
    rejects = [reject for one in parsed for reject in one.rejects]
    assert (found.rows, found.lines, found.unparsed) == (rows.height, 7 * count, Counter({"other": len(rejects)}))
    assert found.rejects == tuple(rejects)
    assert (found.first, found.last) == (rows["time"].min(), rows["time"].max())


def test_large_counts_wait_packed_and_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    count = FOLD * (ARITY * 2 + 1) + 3
    plain = run(chunks(count), COMBINED, [Clients(), Statuses()])
    monkeypatch.setattr("crawlguard_analyzer.packing.SMALL", 0)
    assert all(isinstance(rollup, Packed) for rollup in packed(plain).rollups)
    found = run(chunks(count), COMBINED, [Clients(), Statuses()])
    for mine, other in zip(found.rollups, plain.rollups, strict=True):
        assert mine.equals(other)
        assert mine.schema == other.schema
    assert (found.lines, found.rejects) == (plain.lines, plain.rejects)


def test_the_order_of_the_file_holds_whoever_is_first() -> None:
    given: list[Reject] = []
    found = run(chunks(5), Late(), [Clients()], rejects=given.extend)
    assert found.rollups[0].equals(run(chunks(5), COMBINED, [Clients()]).rollups[0])
    assert [reject.line for reject in given] == [line(n)[:-1] for n in range(0, 35, 11)]


def test_bursts_across_chunks_of_a_block_are_whole() -> None:
    stamp = b'1.2.3.4 - - [23/Sep/2026:16:00:0%d +0200] "GET / HTTP/1.1" 200 5 "-" "a"\n'
    found = run([stamp % n for n in range(FOLD)], COMBINED, [Clients()])
    (row,) = found.rollups[0].to_dicts()
    assert (row["day"], row["burst_10"], row["ua_requests"]) == (1790172800 // DAY, FOLD, FOLD)


def test_progress_counts_bytes_and_no_more_chunks_are_taken_than_are_worked_on() -> None:
    taken: list[int] = []
    told: list[int] = []

    def source() -> Iterator[bytes]:
        for chunk in chunks(20):
            taken.append(len(chunk))
            assert sum(taken) - (told[-1] if told else 0) <= (WORKERS + 2) * max(taken)
            yield chunk

    run(source(), COMBINED, [Clients()], progress=told.append)
    assert told == sorted(told)
    assert told[-1] == sum(map(len, chunks(20)))


def test_nothing_comes_to_nothing() -> None:
    found = run([], COMBINED, [Clients()])
    assert list(blocks([], COMBINED, [Clients()])) == []
    assert (found.rollups[0].height, found.lines, found.first) == (0, 0, None)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_no_thread_at_work(stop: type[BaseException]) -> None:
    def source() -> Iterator[bytes]:
        yield from chunks(5)
        raise stop

    before = threading.active_count()
    with pytest.raises(stop):
        run(source(), COMBINED, [Clients()])
    assert threading.active_count() == before


def test_an_error_in_a_thread_is_raised_here() -> None:
    class Broken(Statuses):
        def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
            raise ArithmeticError("told")

    with pytest.raises(ArithmeticError, match="told"):
        run(chunks(3), COMBINED, [Broken()])


def test_a_caller_may_stop_early() -> None:
    before = threading.active_count()
    found = blocks(chunks(FOLD * 5), COMBINED, [Clients()])
    assert next(found).lines == 7 * FOLD
    found.close()
    assert threading.active_count() == before
