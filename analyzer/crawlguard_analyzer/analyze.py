"""The whole chain: logs are read and rolled up, clients judged, and all that reports and proposals are made of is put into one Analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from glob import escape
from pathlib import Path
from threading import Thread
from typing import Any, cast

import polars as pl

from crawlguard.console import default_policy
from crawlguard.errors import ConfigError, DataError
from crawlguard.export.robots import robots_txt
from crawlguard.loader import load_policy
from crawlguard.policy.model import Policy

from . import compliance as robots
from .analysis import Analysis, Totals
from .clients import context, judged, summed
from .counting import Counted, Form, count_all
from .merging import located, write_rollup
from .nginxconf import log_formats
from .pipeline import Collector
from .progress import shards_line
from .reading import read
from .report.private import hidden, private
from .rollup import Clients
from .spilling import Rollup, frames, together, with_names
from .state import State
from .tables import LOAD
from .traps import traps
from .trim import give_back

TABLES = ("agents", "actions")
"""The small tables of a state, in the order of the collectors after the clients' one."""


class Actions:
    """A collector: what the guard did, if this is its own decision log: rule, action, hits."""

    def __call__(self, rows: pl.DataFrame, /) -> pl.DataFrame:
        return rows.filter(pl.col("action") != "").group_by("rule", "action").agg(pl.len().cast(pl.Int64).alias("hits"))

    def merge(self, parts: Iterable[pl.DataFrame], /) -> pl.DataFrame:
        """The hits of several logs."""
        found = pl.concat([pl.DataFrame(schema={"rule": pl.String, "action": pl.String, "hits": pl.Int64}), *parts])
        return found.group_by("rule", "action").agg(pl.col("hits").sum()).sort("rule", "action")


def analyse(
    logs: Sequence[str],
    *,
    state: str | None = None,
    merged: Sequence[str] = (),
    policy: str | None = None,
    asn: str | None = None,
    country: str | None = None,
    robots_file: str | None = None,
    trap: Sequence[str] = (),
    log_format: str | None = None,
    client_field: str = "",
    nginx_conf: str | None = None,
    cluster: str | None = None,
    rollup: str | None = None,
    privacy: str = "full",
    rejects: str | None = None,
    quiet: bool = False,
    only_clients: bool = False,
) -> Analysis:
    """Read logs and say who is who.

    ``state``: a directory that remembers what was read, so that only what is new is; ``merged``: states and rollup files of other hosts;
    ``policy``: whose agents and networks name clients; ``asn``, ``country``: mmdb files, else the policy's; ``robots_file``: the site's
    robots.txt, else the one that the policy serves; ``trap``: paths that only machines ask for (see ``traps.traps``); ``log_format``: a format's name or a server's own string; ``client_field``: the field
    that holds the client's address; ``nginx_conf``: formats, and logs if none are named, are taken from there; ``cluster``: the address of a
    dask scheduler; ``rollup``: a file for what was counted, to be merged elsewhere; ``privacy``: "full", "subnet" or "keyed": what addresses
    become in the state (if it is a new one: all runs keep to what the first was told), and in what is returned; ``rejects``: a file for the lines that are no requests;
    ``only_clients``: nobody asks for the other tables, which are then empty (a state keeps what they are made of all the same).

    Raises DataError and ConfigError for what cannot be used, PolicyError for a broken policy.
    """
    rules = load_policy(policy or default_policy())
    by = context(rules, asn=asn, country=country)
    forbids = _robots(robots_file, rules)
    audit = robots.Compliance(by.registry, forbids)
    counting = Clients(traps(trap, forbids))
    collectors = (counting, audit, Actions()) if state or not only_clients else (counting,)
    positions: dict[str, Any] = {}
    form = Form(log_format or "", client_field)
    if cluster and (state or nginx_conf or rejects):
        raise ConfigError("--cluster reads whole logs that are named: leave --state, --nginx-conf and --rejects away")
    if state and not (logs or nginx_conf or State.there(state)):
        raise DataError(f"{state}: no state there; make one: crawlguard analyze LOG... --state {state}")
    Thread(target=by.registry.ready, name="addresses", daemon=True).start()  # needed at the end at the latest
    kept = State(state) if state else None
    with kept.locked() if kept else nullcontext():
        if cluster:
            with shards_line(quiet) as progress:
                found = count_all(logs, collectors, form=form, address=cluster, progress=progress)
        else:
            configured = log_formats(nginx_conf, client_field) if nginx_conf else ()
            logs = logs or [f"{escape(str(one.path))}*" for one in configured]  # the rotated ones too
            before = kept.positions if kept else None
            level = _level(kept, privacy) if kept and logs else privacy
            found, positions = read(logs, collectors, form, before, configured=configured, rejects=rejects, quiet=quiet)
        if kept:
            found = _remembered(kept, found, positions, collectors, level)
    counted, *small = found.rollups
    if merged:
        counted = together([counted, *located(merged)])
    if rollup:
        write_rollup(counted if kept else _anonymous(counted, privacy), rollup)
    # What is kept of a client's day is the most that there is; from here on a tenth of it is needed.
    seen: list[pl.DataFrame] = []
    days: list[pl.DataFrame] = []

    def noted(share: pl.DataFrame) -> pl.DataFrame:
        seen.append(share.select(_SEEN))
        days.append(share.select("day", "ip", *LOAD).clear() if only_clients else share.select("day", "ip", *LOAD))
        return share

    give_back()
    shares, found = map(noted, frames(counted)), replace(found, rollups=())
    del counted
    known = judged(summed(shares), by)
    notes, counts = list(found.problems), _totals(found, pl.concat(seen), bool(merged))
    if merged:
        notes.append("Of the merged hosts' logs, what agents made of robots.txt and what the guard did are not known here.")
    if only_clients:
        analysis = replace(Analysis.of(known.clear(), days[0], None, counts, threshold=by.threshold, notes=notes), clients=known)
    else:
        audited, acted = small
        analysis = Analysis.of(
            known,
            pl.concat(days),
            robots.compliance(audited, known, audit),
            counts,
            acted if acted.height else None,
            threshold=by.threshold,
            notes=notes,
        )
    return private(analysis, privacy)


_SEEN = (pl.col("requests").cast(pl.Int64).sum(), pl.col("first").min(), pl.col("last").max(), pl.col("bytes", "spent").sum())
"""What is asked of a share of the rollup for the totals."""


def _totals(found: Counted, seen: pl.DataFrame, merged: bool) -> Totals:
    """What was read; of merged hosts only the requests are known, so they count as lines that were all read. ``seen``: a row of _SEEN for each share."""
    rows = int(seen["requests"].sum()) if merged else found.rows
    return Totals(
        lines=found.lines - found.rows + rows,
        rows=rows,
        unparsed=dict(found.unparsed),
        formats=tuple(name for name, _ in found.formats.most_common()),
        first=cast("int | None", seen["first"].min()),
        last=cast("int | None", seen["last"].max()),
        bytes=int(seen["bytes"].sum()),
        spent=int(seen["spent"].sum()),
    )


def _remembered(state: State, found: Counted, positions: dict[str, Any], collectors: Sequence[Collector], privacy: str) -> Counted:
    """What all runs have counted: this one's is added to the state, with addresses as they may be kept."""
    fresh, small = _anonymous(found.rollups[0], privacy), {}
    for name, collector, table in zip(TABLES, collectors[1:], found.rollups[1:], strict=True):
        before = state.table(name)
        small[name] = collector.merge([table] if before is None else [before, table])
    unparsed, formats = (Counter(state.counts.get(name, {})) for name in ("unparsed", "formats"))
    unparsed.update(found.unparsed)
    formats.update(found.formats)
    rows = int(state.counts.get("rows", 0)) + found.rows
    if found.lines or positions != state.positions:  # who only looks at a state need not be allowed to write it
        state.commit(fresh, positions, small, {"rows": rows, "unparsed": unparsed, "formats": formats, "privacy": privacy})
    return replace(found, rollups=(together(state.held()), *small.values()), rows=rows, unparsed=unparsed, formats=formats)


def _level(state: State, privacy: str) -> str:
    """What addresses become in a state: what they became in its first run, so that no later one keeps them otherwise. Raises DataError."""
    first = str(state.counts.get("privacy", privacy))
    if privacy not in ("full", first):
        raise DataError(f"{state.directory}: keeps addresses as --privacy {first}; for --privacy {privacy} name another --state directory")
    return first


def _anonymous(rollup: Rollup, privacy: str) -> Rollup:
    """The rollup with addresses as ``crawlguard.events.Privacy`` shows them; clients that become the same add up."""
    if privacy == "full":
        return rollup
    shown = hidden(privacy)
    return with_names(rollup, lambda names: pl.Series(list(map(shown, names)), dtype=pl.String))


def _robots(path: str | None, rules: Policy) -> bytes | None:
    """The site's robots.txt, if it is known."""
    if path is None:
        return robots_txt(rules).text.encode() if rules.serve.robots else None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name the site's robots.txt, or leave --robots away") from None
