"""Logs of this machine are read from where the last run stopped, and every line is accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crawlguard.errors import DataError

from .counting import Counted, Form, join
from .formats import Format, misfit
from .nginxconf import AccessLog
from .parsed import Reject
from .pipeline import Collector, run
from .progress import bytes_line
from .shards import fold
from .small import alone, as_one, batches, groups
from .source import CHUNK
from .sources import Source, open_sources, positions_after

Keep = Callable[[list[Reject]], None]


def read(
    logs: Sequence[str],
    collectors: Sequence[Collector],
    form: Form,
    positions: dict[str, Any] | None = None,
    *,
    configured: Sequence[AccessLog] = (),
    rejects: str | None = None,
    quiet: bool = False,
    size: int = CHUNK,
) -> tuple[Counted, dict[str, Any]]:
    """What is new in the logs (all of it without ``positions``), and the positions for the next run.

    ``configured``: logs whose formats an nginx.conf tells. ``rejects``: a file that is written anew with the lines that are no requests, as
    they stood; it is there only if all went well. ``size``: see ``shards.shards``.
    Raises DataError for what cannot be read.
    """
    sources = open_sources(logs, positions) if logs else []
    with ExitStack() as stack:
        keep = stack.enter_context(_kept(rejects))
        tell = stack.enter_context(bytes_line([source.total for source in sources], quiet))
        misfits: list[DataError] = []
        counts = _counts(sources, collectors, form, configured, keep, tell, misfits.append, size)
        found = fold(counts, partial(join, collectors)) or join(collectors, [])
        if misfits and not found.rows:
            raise misfits[0]
    return found, positions_after(sources, positions or {})


def _counts(
    sources: Sequence[Source],
    collectors: Sequence[Collector],
    form: Form,
    configured: Sequence[AccessLog],
    keep: Keep,
    tell: Callable[[int], None],
    unfit: Callable[[DataError], None],
    size: int,
) -> Iterator[Counted]:
    """Of each source, or several small ones, what is new. ``unfit`` hears of those that have no line of the format that the user has named."""
    before = 0
    for batch in batches(
        (source for source in sources if source.total != 0), size
    ):  # of what has nothing new it need not be told what it is
        parts: list[Counted] = []
        told: list[tuple[Source, Format | None, bool]] = []
        for source in batch:
            try:
                log = _format(source, form, configured)
            except DataError as error:
                if not source.found:
                    raise
                parts.append(replace(join(collectors, []), problems=(left_out(source, error),)))
            else:
                told.append((source, log, alone(form.name, log, source)))
        for log, group in groups(told):
            found = _one(group, collectors, log, keep, partial(_after, tell, before), size)
            before += sum(source.total or 0 for source in group)
            lines = [reject.line for reject in found.rejects]
            # A log that was read before had some lines of the format.
            if log and form.name and not found.rows and not group[0].claimed and (wrong := misfit(form.name, log, lines, group[0].name)):
                unfit(wrong)
                found = replace(found, problems=(*found.problems, left_out(group[0], wrong)))
            parts.append(found)
        yield parts[0] if len(parts) == 1 else join(collectors, parts)


def left_out(source: Source, error: DataError) -> str:
    """In words: among the files of a directory there may be other things than logs."""
    why = str(error).splitlines()[0].removeprefix(f"{source.name}: ").removesuffix("; the first one is")
    return f"{source.name}: left out: {why}"


def _after(tell: Callable[[int], None], before: int, done: int) -> None:
    tell(before + done)


def _format(source: Source, form: Form, configured: Sequence[AccessLog]) -> Format | None:
    """None for a log without a line. Raises DataError for one of a format that is not known."""
    sample = source.sample()
    for log in configured:
        name = str(log.path)
        if source.name == name or source.name.startswith((f"{name}.", f"{name}-")):
            return log.format
    return form.of(sample + source.header, source.name) if sample else None


def _one(
    group: Sequence[Source], collectors: Sequence[Collector], log: Format | None, keep: Keep, progress: Callable[[int], None], size: int
) -> Counted:
    """Sources of one format as one."""
    if log is None:
        return replace(join(collectors, []), problems=tuple(problem for source in group for problem in source.problems))
    chunks = group[0].chunks(size, progress=progress) if len(group) == 1 else as_one((source.chunks(size) for source in group), size)
    block = run(chunks, log, collectors, rejects=keep)
    for source in group:
        keep(source.rejects)
    return Counted(
        rollups=block.rollups,
        rows=block.rows,
        unparsed=block.unparsed + Counter({"too long": sum(source.rejected for source in group)}),
        rejects=block.rejects,
        formats=Counter({log.name: block.rows}),
        problems=tuple(problem for source in group for problem in source.problems),
        first=block.first,
        last=block.last,
    )


@contextmanager
def _kept(path: str | None) -> Iterator[Keep]:
    """Writes lines to a file that gets its name when all are there."""
    if path is None:
        yield lambda rejects: None
        return
    partial_path = Path(f"{path}.{os.getpid()}")
    try:
        with partial_path.open("wb") as file:
            yield lambda rejects: file.writelines(reject.line + b"\n" for reject in rejects)
        os.replace(partial_path, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); name another --rejects file") from None
    finally:
        partial_path.unlink(missing_ok=True)
