"""``crawlguard backtest``: what a policy would have done to the requests of a log, and what another one would change."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial

import click
import polars as pl

from crawlguard.console import JSON_OPTION, emit
from crawlguard.errors import DataError
from crawlguard.loader import load_policy

from .backtest import Backtest, Diff, Difference
from .backtest_view import difference_lines, outcome_lines
from .counting import Form
from .formats import LOOKED_AT, Format, misfit
from .parsed import Parsed
from .reading import left_out
from .report.words import plain
from .rows import empty
from .source import Progress, Source
from .sources import open_sources
from .threads import parsers

TOGETHER = 2
"""Chunks that are decided at once: a third of what that takes for a single one are calls, not work on its rows."""
COLUMNS = ("ua", "referrer")
"""What a format may lack: a log whose first lines have it nowhere has no such field, rather than visitors that all send none."""


class Log:
    """Logs as one stream of shards. ``without``: columns that one of them lacks; ``formats``: what each was taken for."""

    def __init__(self, inputs: Sequence[str], form: Form) -> None:
        self._sources: list[Source] = []
        self._formats: list[Format] = []
        self._problems: list[str] = []
        self._named = form.name
        for source in open_sources(inputs):
            self._take(source, form)
        self.formats = list(dict.fromkeys(one.name for one in self._formats))
        heads = [one.parse(source.sample()).rows for one, source in zip(self._formats, self._sources, strict=True)]
        self.without = tuple(name for name in COLUMNS if any(head.height and (head[name] == "").all() for head in heads))
        totals = [source.total for source in self._sources]
        self.total = None if None in totals else sum(total for total in totals if total is not None)

    def _take(self, source: Source, form: Form) -> None:
        sample = source.sample()
        if not sample:  # an empty log has no format, and nothing to say
            self._problems += source.problems
            return
        try:
            self._formats.append(form.of(sample, source.name))
            self._sources.append(source)
        except DataError as error:
            if not source.found:
                raise
            self._problems.append(left_out(source, error))

    @property
    def problems(self) -> list[str]:
        """What was wrong with the logs, in words; known once they are read."""
        return [*self._problems, *(problem for source in self._sources for problem in source.problems)]

    def shards(self, progress: Progress | None = None) -> Iterator[tuple[pl.DataFrame, int]]:
        """Rows, and how many lines beside them were none. Raises DataError when no line of any log is of the format that the user has named."""
        before = 0
        misfits: list[DataError] = []
        fitting = False
        for source, one in zip(self._sources, self._formats, strict=True):
            rows, lines = 0, list[bytes]()
            for parts in _parsed(source.chunks(progress=progress and partial(_from, progress, before)), one):
                rejects = [reject for part in parts for reject in part.rejects]
                lines = lines or [reject.line for reject in rejects[:LOOKED_AT]]
                shard = pl.concat([part.rows for part in parts])
                rows += shard.height
                yield shard, len(rejects)
            yield empty(), source.rejected
            before += source.total or 0
            fitting |= rows > 0
            if self._named and not rows and (error := misfit(self._named, one, lines, source.name)):
                misfits.append(error)
                self._problems.append(left_out(source, error))
        if misfits and not fitting:
            raise misfits[0]


def _parsed(chunks: Iterable[bytes], log: Format) -> Iterator[list[Parsed]]:
    """Chunks, in the end so many TOGETHER. While they are worked on as many more are parsed; the first ones are few, to begin at once."""
    with parsers() as pool:
        pending: deque[Future[Parsed]] = deque()
        several = 1
        for chunk in chunks:
            pending.append(pool.submit(log.parse, chunk))
            log = log.after(chunk)
            if len(pending) >= 2 * several:
                yield [pending.popleft().result() for _ in range(several)]
                several = min(several + 1, TOGETHER)
        while pending:
            yield [pending.popleft().result() for _ in range(min(several, len(pending)))]


def _from(progress: Progress, before: int, read: int) -> None:
    progress(before + read)


@click.command()
@click.argument("names", metavar="[POLICY] LOG...", nargs=-1, required=True)
@click.option("--diff", "pair", nargs=2, metavar="OLD NEW", help="Compare two policies; then only logs are named.")
@click.option("--clients", metavar="FILE", help="The clients table of 'crawlguard analyze --clients FILE': shows the people at risk.")
@click.option("--format", "log_format", metavar="FORMAT", help="The logs' format, when it cannot be told from their lines.")
@click.option("--client-field", default="", metavar="NAME", help="The field with the client's address, if it is not the usual one.")
@JSON_OPTION
def backtest(
    names: tuple[str, ...], pair: tuple[str, str] | None, clients: str | None, log_format: str | None, client_field: str, as_json: bool
) -> None:
    """Show what a policy would have done to the requests of a log: which rules, whom, and which people.

    POLICY is a file or builtin:NAME. The rules are asked as the middleware asks them, at the times of the log; what a log does not hold
    (most headers) is unknown and makes no rule act. Nothing is refused by it and nothing is written.

    Exit codes: 0 the log was read to its end; 1 a policy or a log cannot be used; 2 called wrongly.
    """
    wanted = pair or names[:1]
    logs = names if pair else names[1:]
    if not logs:
        raise click.UsageError("name a policy and then the logs, or --diff OLD NEW and the logs")
    policies = [load_policy(name) for name in wanted]
    log, people = Log(logs, Form(log_format or "", client_field)), _people(clients)
    test: Backtest | Diff
    if pair:
        test = Diff(*policies, people=people, without=log.without)
    else:
        test = Backtest(policies[0], people=people, without=log.without)
    _run(test, log, quiet=as_json)
    result = test.result()
    if as_json:
        emit({"logs": list(logs), "formats": log.formats, "problems": log.problems, **result.to_dict()})
        return
    if log.formats:
        click.echo(f"read as {', '.join(log.formats)}", err=True)
    for problem in log.problems:
        click.secho(plain(problem), fg="yellow", err=True)
    lines = difference_lines(result) if isinstance(result, Difference) else outcome_lines(result)
    click.echo("\n".join(lines))


def _run(test: Backtest | Diff, log: Log, *, quiet: bool) -> None:
    """All shards, with a bar for eyes."""
    hidden = quiet or not sys.stderr.isatty()
    with click.progressbar(length=log.total or 0, file=sys.stderr, hidden=hidden or not log.total, show_eta=True) as bar:

        def progress(read: int) -> None:
            bar.update(read - bar.pos)

        for rows, unparsed in log.shards(progress):
            test.feed(rows, unparsed)


def _people(path: str | None) -> pl.DataFrame | None:
    if path is None:
        return None
    try:
        return pl.read_parquet(path, columns=["client", "class"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a clients table ({error}); make one with crawlguard analyze LOG... --clients FILE") from None
