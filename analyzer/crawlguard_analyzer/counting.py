"""What logs come to, counted by shards on a cluster: a rollup for each collector, and every line accounted for."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import polars as pl

from . import cluster
from .formats import Format, detect, misfit, named
from .parsed import Reject
from .pipeline import Block, Collector, blocks, joined
from .shards import Shard, chunks, fold, opened, shards
from .small import alone, as_one, groups
from .source import CHUNK, Source
from .spilling import in_memory
from .streams import KEPT


class Form(NamedTuple):
    """How logs are to be read: ``name`` and ``client`` as ``formats.named`` takes them, "" for what the first lines of each log tell."""

    name: str = ""
    client: str = ""

    def of(self, sample: bytes, path: str) -> Format:
        """Raises DataError for a log of a format that is not known."""
        return named(self.name, self.client, sample) if self.name else detect(sample, path=path, client=self.client)


AS_TOLD = Form()


@dataclass(frozen=True, slots=True)
class Counted:
    """``rollups`` in the order of the collectors, see ``pipeline.Block``. ``rows`` + all ``unparsed`` (by reason) are the ``lines``.
    ``rejects``: the first KEPT lines that are no rows. ``formats``: what logs were taken for, and the rows of it. ``first`` and ``last``:
    seconds, None without rows.
    """

    rollups: tuple[Any, ...]
    rows: int = 0
    unparsed: Counter[str] = field(default_factory=Counter)
    rejects: tuple[Reject, ...] = ()
    formats: Counter[str] = field(default_factory=Counter)
    problems: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None

    @property
    def lines(self) -> int:
        return self.rows + self.unparsed.total()

    def __sizeof__(self) -> int:
        """What dask is to think of its weight."""
        return sum(int(rollup.estimated_size()) for rollup in self.rollups if isinstance(rollup, pl.DataFrame))

    def __reduce__(self) -> tuple[Any, ...]:
        """Small when it travels."""
        rest = tuple(getattr(self, name) for name in self.__slots__[1:])
        return _unpacked, (tuple(map(_packed, self.rollups)), rest)


def count_all(
    inputs: Sequence[str],
    collectors: Sequence[Collector],
    *,
    address: str,
    form: Form = AS_TOLD,
    progress: cluster.Progress | None = None,
    size: int = CHUNK,
) -> Counted:
    """All logs that the inputs name, counted on the cluster at ``address``, to what ``reading.read`` comes to here, byte for byte.

    The collectors are pickled. ``size``: see ``shards``. Raises what ``shards``, ``cluster.run`` and ``Form.of`` raise, and DataError
    when no line is of the format that the form names.
    """
    join_all = partial(join, collectors)
    found = cluster.run(address, shards(inputs, size), partial(count, collectors, form, size), join_all, progress=progress) or join_all([])
    lines = [reject.line for reject in found.rejects]
    if form.name and lines and not found.rows:
        path = inputs[0] if len(inputs) == 1 else "the logs"
        if error := misfit(form.name, form.of(b"\n".join(lines), path), lines, path):
            raise error
    return found


def count(collectors: Sequence[Collector], form: Form, size: int, shard: Shard) -> Counted:
    """One shard, and the small logs with it."""
    told: list[tuple[tuple[Shard, Source], Format | None, bool]] = []
    for one in (shard, *shard.more):
        source = opened(one)
        sample = source.sample()
        log = form.of(sample, source.name) if sample else None
        told.append(((one, source), log, alone(form.name, log, source)))
    parts = [_group(group, log, collectors, size) for log, group in groups(told)]
    return parts[0] if len(parts) == 1 else join(collectors, parts)


def _group(group: Sequence[tuple[Shard, Source]], log: Format | None, collectors: Sequence[Collector], size: int) -> Counted:
    """Shards of one format as one."""
    found = join(collectors, [])
    if log is not None:
        cut = [chunks(shard, source, size) for shard, source in group]
        chunked = cut[0][0] if len(cut) == 1 else as_one((one for one, _ in cut), size)
        parts = (_counted(block, log.name) for block in blocks(chunked, log, collectors))
        found = fold(parts, partial(join, collectors)) or found
        found = replace(found, unparsed=found.unparsed + Counter({"too long": sum(lines.too_many for _, lines in cut)}))
    return replace(found, problems=tuple(problem for _, source in group for problem in source.problems))


def _counted(block: Block, name: str) -> Counted:
    return Counted(
        rollups=block.rollups,
        rows=block.rows,
        unparsed=block.unparsed,
        rejects=block.rejects,
        formats=Counter({name: block.rows}),
        first=block.first,
        last=block.last,
    )


def join(collectors: Sequence[Collector], parts: Sequence[Counted]) -> Counted:
    """What several come to that follow each other."""
    return Counted(
        joined(collectors, [part.rollups for part in parts]),
        sum(part.rows for part in parts),
        _added(part.unparsed for part in parts),
        tuple(chain.from_iterable(part.rejects for part in parts))[:KEPT],
        _added(part.formats for part in parts),
        tuple(chain.from_iterable(part.problems for part in parts)),
        min((part.first for part in parts if part.first is not None), default=None),
        max((part.last for part in parts if part.last is not None), default=None),
    )


def _added(counters: Iterable[Counter[str]]) -> Counter[str]:
    """With what was met 0 times, too."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _unpacked(rollups: tuple[bytes, ...], rest: tuple[Any, ...]) -> Counted:
    return Counted(tuple(pl.read_ipc(io.BytesIO(one)) for one in rollups), *rest)


def _packed(rollup: Any) -> bytes:
    file = io.BytesIO()
    in_memory(rollup).write_ipc(file, compression="lz4")
    return file.getvalue()
