"""Logs of this machine are read from where the last run stopped, and every line is accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crawlguard.errors import DataError

from .counting import Collector, Counted, Form, _parts, join
from .parsed import Reject
from .progress import bytes_line
from .shards import fold
from .sources import Source, open_sources, positions_after

Keep = Callable[[Iterable[Reject]], None]


def read(
    logs: Sequence[str],
    collectors: Sequence[Collector],
    form: Form,
    positions: dict[str, Any] | None = None,
    *,
    rejects: str | None = None,
    quiet: bool = False,
) -> tuple[Counted, dict[str, Any]]:
    """What is new in the logs (all of it without ``positions``), and the positions for the next run.

    ``rejects``: a file that is written anew with the lines that are no requests, as they stood; it is there only if all went well.
    Raises DataError for what cannot be read.
    """
    sources = open_sources(logs, positions) if logs else []
    with ExitStack() as stack:
        keep = stack.enter_context(_kept(rejects))
        tell = stack.enter_context(bytes_line([source.total for source in sources], quiet))
        found, before = [], 0
        for source in sources:
            found.append(_one(source, collectors, form, keep, partial(_after, tell, before)))
            before += source.total or 0
    return join(collectors, found), positions_after(sources, positions or {})


def _after(tell: Callable[[int], None], before: int, done: int) -> None:
    tell(before + done)


def _one(source: Source, collectors: Sequence[Collector], form: Form, keep: Keep, progress: Callable[[int], None]) -> Counted:
    chunks = source.chunks(progress=progress)
    found = fold(_parts(collectors, form, source, chunks), partial(join, collectors)) or join(collectors, [])
    keep(source.rejects)
    too_long = Counter({"too long": source.rejected} if source.rejected else {})
    problems = tuple(f"{source.name}: {problem}" for problem in source.problems)
    return replace(found, unparsed=found.unparsed + too_long, problems=problems)


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
