"""Rates over whole columns: which requests of a log a rate would have stopped, exactly as the guard's stores count (GCRA).

While every request of a key is admitted, its theoretical arrival time after request j is ``j * interval`` plus the running maximum of
``t_j - (j - 1) * interval``: one pass over a column. So keys that never trip need no loop, and most need not even that: whoever
makes too few requests for the burst cannot trip. Only the requests of keys that do trip are counted one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from crawlguard.policy.terms import Counts
from crawlguard.signals.rate import refilled

FALSE, UNKNOWN, TRUE = 0, 1, 2
"""Verdicts, as a column of small numbers."""
FEW = 1 << 10
"""Requests that are counted one by one before it is known whose: to work with columns takes a millisecond however few they are."""
KEYS = 1 << 20
"""Keys whose state is kept from one shard to the next, as many as the guard's shared table has; those that end first are forgotten first."""


class Rate:
    """One rate condition and the state of its keys; a state of 0 is fresh, a negative one held until its opposite."""

    def __init__(self, counts: Counts) -> None:
        self._windows = [window for _, window in counts.windows]
        self._steps = [(window.interval, window.tolerance) for window in self._windows]
        self._hold = counts.hold
        self._names = [f"s{n}" for n in range(len(self._windows))]
        self._state = self._fresh([], [])

    def verdicts(self, keys: pl.Series, now: pl.Series, end: int) -> pl.Series:
        """A verdict for each request: its key (UInt64, 0 not known), at ``now`` (us, never falling). ``end``: no later request is earlier."""
        asked = pl.DataFrame({"key": keys, "now": now})
        known = asked.group_by("key").agg(pl.len().alias("n"), pl.col("now").first().alias("first"), pl.col("now").last().alias("last"))
        known = known.filter(pl.col("key") != 0)
        if self._state.height:
            known = known.join(self._state, on="key", how="left").with_columns(pl.col(*self._names).fill_null(0))
        else:
            known = known.with_columns(pl.lit(0, pl.Int64).alias(name) for name in self._names)
        closer = known.filter(pl.any_horizontal(self._may_matter(end))).select("key", *self._names)
        out = (keys == 0).cast(pl.UInt8) * UNKNOWN
        kept = self._state.join(known, on="key", how="anti") if self._state.height else self._state
        if closer.height:
            rows = asked.with_row_index("row").join(closer.with_row_index("k"), on="key", maintain_order="left")
            if rows.height > FEW:
                tripped, states = self._counted(rows, closer)
            else:
                tripped, states = self._one_by_one(rows.sort("k", maintain_order=True))
            out.scatter(tripped, TRUE)
            kept = pl.concat([kept, states])
        self._keep(kept, end)
        return out

    def _may_matter(self, end: int) -> Iterator[pl.Expr]:
        """Of each window: whether a key might trip in it, or its state outlast the shard. A state is at most max(state, last) + n intervals."""
        for name, w in zip(self._names, self._windows, strict=True):
            state, more = pl.col(name), pl.col("n").cast(pl.Int64) * w.interval
            yield (state - pl.col("first")).clip(lower_bound=0) + more > w.tolerance
            yield pl.max_horizontal(state, "last") + more > end
            yield state < 0

    def _counted(self, rows: pl.DataFrame, keys: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """The rows that are stopped, and the keys' states after them. ``keys`` are numbered as ``k`` in ``rows``."""
        rows = rows.with_columns((pl.int_range(pl.len(), dtype=pl.Int64).over("k") + 1).alias("j"))
        after, trips = [], pl.any_horizontal(pl.col(*self._names) < 0)
        for name, w in zip(self._names, self._windows, strict=True):
            latest = pl.max_horizontal((pl.col("now") - (pl.col("j") - 1) * w.interval).cum_max().over("k"), pl.col(name))
            after.append((latest + pl.col("j") * w.interval).alias(f"after {name}"))
            trips = trips | (pl.col(f"after {name}") - pl.col("now") > w.tolerance)
        rows = rows.with_columns(after)
        ends = rows.group_by("k").agg(trips.any().alias("trips"), *(pl.col(f"after {name}").last().alias(name) for name in self._names))
        smooth = ends.filter(~pl.col("trips"))
        states = self._fresh(keys["key"].gather(smooth["k"]), [smooth[name] for name in self._names])
        rough = rows.join(ends.filter("trips"), on="k", how="semi", maintain_order="left")
        if not rough.height:
            return pl.Series([], dtype=pl.UInt32), states
        stopped, left = self._one_by_one(rough.sort("k", maintain_order=True))
        return stopped, pl.concat([states, left])

    def _one_by_one(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """The same for rows key by key, each request as ``RateStore`` counts it."""
        stopped: list[int] = []
        ends: list[list[int]] = []
        for part in rows.select("k", "row", "now", *self._names).partition_by("k", include_key=False, maintain_order=True):
            states = list(part.row(0)[2:])
            requests = zip(part["row"].to_list(), part["now"].to_list(), strict=True)
            if len(states) == 1:
                states = [self._alone(states[0], requests, stopped)]
            else:
                stopped += [row for row, now in requests if self._stops(states, now)]
            ends.append(states)
        keys = rows["key"].unique(maintain_order=True)
        return pl.Series(stopped, dtype=pl.UInt32), self._fresh(keys, [list(column) for column in zip(*ends, strict=True)])

    def _alone(self, state: int, requests: Iterable[tuple[int, int]], stopped: list[int]) -> int:
        """``_stops`` where there is one window, as nearly everywhere, for all requests of a key: a quarter of the time. The state after them."""
        [(interval, tolerance)], hold = self._steps, self._hold
        for row, now in requests:
            if now < -state:
                stopped.append(row)
                continue
            if state < 0:
                state = refilled(-state, now, interval, tolerance, hold)
            if state < now:  # noqa: PLR1730 - max() is slower
                state = now
            if state + interval - now <= tolerance:
                state += interval
                continue
            stopped.append(row)
            if hold:
                state = -(now + hold)
        return state

    def _stops(self, states: list[int], now: int) -> bool:
        """One request: whether any window stops it. Only when none does it counts, in all; else those that do start their penalty."""
        waiting = []
        for n, (interval, tolerance) in enumerate(self._steps):
            state = states[n]
            if now < -state:
                waiting.append(n)
                continue
            if state < 0:
                state = refilled(-state, now, interval, tolerance, self._hold)
            states[n] = state = max(state, now)
            if state + interval - now > tolerance:
                waiting.append(n)
        if not waiting:
            for n, (interval, _) in enumerate(self._steps):
                states[n] += interval
            return False
        if self._hold:
            for n in waiting:
                if states[n] >= 0:
                    states[n] = -(now + self._hold)
        return True

    def _fresh(self, keys: object, states: Sequence[object]) -> pl.DataFrame:
        columns = dict(zip(self._names, states or [[]] * len(self._names), strict=True))
        return pl.DataFrame({"key": keys, **columns}, schema={"key": pl.UInt64, **dict.fromkeys(self._names, pl.Int64)})

    def _keep(self, states: pl.DataFrame, end: int) -> None:
        """Remember what still counts: a state that has passed is as good as none."""
        last = pl.max_horizontal(
            pl.when(pl.col(name) < 0).then(max(0, tolerance - max(self._hold, interval)) - pl.col(name)).otherwise(pl.col(name))
            for name, (interval, tolerance) in zip(self._names, self._steps, strict=True)
        )
        states = states.filter(last > end)
        self._state = states.sort(last, descending=True).head(KEYS) if states.height > KEYS else states
