"""A rollup too large for memory lies on disk, cut by client into shares, and is merged, added up and written a share at a time, when somebody
looks at it.

Rows of a rollup only ever meet rows of the same client (and, when clients are judged, of the same /64), so a share of the merged is what the
same shares of the parts come to: the result is what it would be in memory, whatever is cut and when.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import polars as pl

from .adding import SCHEMA, merge, renamed
from .houses import nets
from .marks import HIGH
from .scratch import Place, Scratch
from .threads import mapped

AT_ONCE: Final = 400_000
"""Rows of a rollup that are merged in memory: 140 MB. What a GB of a log comes to (5 million lines, 300,000 clients and days) is merged without a disk."""
FEW_SHARES, MANY_SHARES = 16, 64
"""Each is worked on in memory, and the next is merged meanwhile: of a log of 100 GB (30 million rows) one of many takes 160 MB. The larger number
is a multiple of the other, so that a share of many is cut out of one of few, in its order.
"""
FEW_ROWS: Final = 1_600_000
"""Rows of a rollup up to which few shares are few enough: many small ones take three times as long."""
PIECE: Final = 5_000
"""Rows that are written and read at once; a piece of each share is in memory when all shares become one file."""
UNSETTLED: Final = 3_200_000
"""Rows on disk from which on they are merged there at once: of a share of more, merged when it is looked at, too much would be in memory."""
_QUARTERS: Final = 4
"""Parts in which a frame is cut: share by share takes twice as long, all shares at once as much memory again as the frame."""


class Held(Protocol):
    """A rollup that is not in memory as it is: ``height`` rows, and its frames, one after the other, each sorted by day and name."""

    @property
    def height(self) -> int: ...
    def frames(self) -> Iterator[pl.DataFrame]: ...


class Spilled:
    """A merged rollup on disk. Its frames are its shares, by SCHEMA; each has all rows of its clients, and all addresses of a /64."""

    def __init__(self, shares: int) -> None:
        self.height, self.shares = 0, shares
        self._scratch = Scratch()
        self._places: list[list[Place]] = [[] for _ in range(shares)]

    def add(self, share: int, rows: pl.DataFrame) -> None:
        """Rows that come after those which the share has."""
        for start in range(0, rows.height, PIECE):
            file = io.BytesIO()
            rows.slice(start, PIECE).write_ipc_stream(file, compression="lz4")
            self._places[share].append(self._scratch.add(file.getvalue()))
        self.height += rows.height

    def pieces(self, share: int) -> Iterator[pl.DataFrame]:
        """A share, PIECE rows at a time."""
        for place in self._places[share]:
            yield pl.read_ipc_stream(io.BytesIO(self._scratch.read(place)))

    def share(self, number: int) -> pl.DataFrame:
        """All of it."""
        return pl.concat([pl.DataFrame(schema=SCHEMA), *self.pieces(number)])

    def frames(self) -> Iterator[pl.DataFrame]:
        """Every share."""
        return map(self.share, range(self.shares))


class Joined:
    """Rollups on disk that are one when it is looked at: a share of it is merged of theirs then, as often as somebody asks.

    ``height``: the rows that lie on disk, those that will become one among them.
    """

    def __init__(self, parts: Sequence[Spilled | Joined], shares: int) -> None:
        self._parts, self.shares = parts, shares

    @property
    def height(self) -> int:
        return sum(part.height for part in self._parts)

    def share(self, number: int) -> pl.DataFrame:
        """A share by itself, merged."""
        return merge(part.share(number) for part in self._parts)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Every share; the next is merged while one is worked on."""
        with ThreadPoolExecutor(1, "merge") as pool:
            coming = pool.submit(self.share, 0)
            for number in range(1, self.shares):
                share, coming = coming.result(), pool.submit(self.share, number)
                yield share
            yield coming.result()

    def settled(self) -> Spilled:
        """The same, merged once and for all."""
        match self._parts:
            case [Spilled() as only]:
                return only
        self._parts = [only := _of(self.frames(), self.shares)]
        return only


OnDisk = Spilled | Joined
Rollup = pl.DataFrame | OnDisk


def together(parts: Iterable[pl.DataFrame | Held]) -> Rollup:
    """What ``adding.merge`` makes of rollups, wherever they are and it will be."""
    found = list(parts)
    rows = sum(part.height for part in found)
    if rows <= AT_ONCE:
        return merge(frame for part in found for frame in frames(part))
    # What was cut into many stays so: shares that were put together would not be in order.
    few = rows <= FEW_ROWS and not any(isinstance(part, OnDisk) and part.shares == MANY_SHARES for part in found)
    shares = FEW_SHARES if few else MANY_SHARES
    joined = Joined(mapped(lambda part: _on_disk(part, shares), found), shares)
    return joined if rows <= UNSETTLED else joined.settled()


def _on_disk(part: pl.DataFrame | Held, shares: int) -> OnDisk:
    return part if isinstance(part, OnDisk) and part.shares == shares else _cut(frames(part), shares)


def frames(rollup: pl.DataFrame | Held) -> Iterator[pl.DataFrame]:
    """The rollup as one frame or several, none of which has a client of another if it was merged."""
    return iter([rollup]) if isinstance(rollup, pl.DataFrame) else rollup.frames()


def in_memory(rollup: pl.DataFrame | Held) -> pl.DataFrame:
    """As one frame, sorted by day and name, for who cannot do with less."""
    return rollup if isinstance(rollup, pl.DataFrame) else merge(rollup.frames())


def with_names(rollup: Rollup, names: Callable[[pl.Series], pl.Series]) -> Rollup:
    """The rollup whose clients have got other names; those that have the same become one. ``names``: of different names the new ones."""
    if isinstance(rollup, pl.DataFrame):
        return renamed(_renamed(rollup, names))
    cut = _cut((_renamed(share, names) for share in rollup.frames()), rollup.shares)
    return _of(map(renamed, cut.frames()), cut.shares)


def _renamed(rows: pl.DataFrame, names: Callable[[pl.Series], pl.Series]) -> pl.DataFrame:
    different = rows["ip"].unique()
    known = pl.DataFrame([different, names(different).alias("new")])
    return rows.join(known, on="ip", how="left", maintain_order="left").drop("ip").rename({"new": "ip"}).select(*SCHEMA)


def _cut(rollup: Iterable[pl.DataFrame], shares: int) -> Spilled:
    """The rows of each client where they belong, in the order in which they come."""
    found, some = Spilled(shares), shares // _QUARTERS
    for rows in rollup:
        order = ((share_of(rows["ip"], shares) * HIGH) + pl.int_range(rows.height, dtype=pl.UInt64, eager=True)).sort()
        ends = [0, *(order // HIGH).search_sorted(pl.int_range(shares, dtype=pl.UInt64, eager=True), side="right").to_list()]
        places = (order % HIGH).cast(pl.get_index_type())
        for first in range(0, shares, some):
            start = ends[first]
            gathered = rows[places[start : ends[first + some]]]
            for number in range(first, first + some):
                found.add(number, gathered.slice(ends[number] - start, ends[number + 1] - ends[number]))
    return found


def _of(rollup: Iterable[pl.DataFrame], shares: int) -> Spilled:
    found = Spilled(shares)
    for number, rows in enumerate(rollup):
        found.add(number, rows)
    return found


def share_of(names: pl.Series, shares: int) -> pl.Series:
    """The number of the share that each client is in (UInt64), by its name, or by the /64 of its address."""
    share = names.hash(seed=5) % shares
    six = names.str.contains(":", literal=True).arg_true()
    if not six.len():
        return share
    net = nets(names.gather(six))
    return share.scatter(six, pl.select(pl.coalesce(pl.lit(net).hash(seed=5) % shares, share.gather(six))).to_series())
