"""``python -m tests.eval [--show] [LOG...]``: the masked test on the shared logs, or on combined logs of yours. See the package for the method.

Exit code 1 when a bar is missed in any mode.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from crawlguard_analyzer.clients import Context, context

from ..bench.table import layout
from ..conftest import SHARED
from . import __doc__ as method
from .heldout import Known, fitted
from .masking import MODES, Log, read, without_addresses
from .measure import Figures, measure, rolled, shaken, without_networks

RECALL, RECALL_AIM = 0.90, 0.97
WRONG, WRONG_AIM = 0.005, 0.001
HELD_OUT = {"person": WRONG_AIM, "likely": WRONG}
"""Whom points are fitted by that know nothing of the log which they judge, and the share of them that may be accused where they are fitted."""
THRESHOLDS = (3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0)
SHAKES = 20
TRACE = 8
"""Lines of a trace."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.eval", description=method, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG", help="combined logs, plain or .gz")
    parser.add_argument("--show", action="store_true", help="print the traces of the accused, and which crawlers were missed")
    chosen = parser.parse_args()
    judge = context()
    missed = False
    rows: list[tuple[str, ...]] = []
    curves: list[tuple[str, ...]] = []
    logs = [read(path) for path in chosen.logs or sorted((SHARED / "logs").glob("*.log.gz"))]
    known = [(log, rolled(log, "address")) for log in logs]
    for log in logs:
        print(f"{log.name}: {log.rows.height} requests, {log.truth.height} clients", file=sys.stderr, flush=True)
        for mode in MODES:
            figures = measure(log, rolled(log, mode), judge)
            missed |= figures.recall < RECALL or figures.wrong > WRONG
            rows.append(row(log.name, MODES[mode], figures))
        rows += held_out(log, judge, [one for one in known if one[0] is not log])
        rows += asides(log, judge)
        curves += curve(log, judge)
        if chosen.show:
            show(log, measure(log, rolled(log, "address"), judge))
    head = ("log", "masks", "recall, requests", "clients", "people accused", "", "of likely people", "")
    print(layout(head, rows))
    print(
        "\nThe points in force were chosen on these logs: their rows say how well they fit, those held out what to expect elsewhere."
        * (len(logs) > 1)
    )
    print(f"\nBars: recall by requests {RECALL:.0%} (aim {RECALL_AIM:.0%}), people wrongly accused {WRONG:.1%} (aim {WRONG_AIM:.1%}).\n")
    print(layout(("log", "threshold", "recall, requests", "clients", "people accused", "", "of likely people", ""), curves))
    return int(missed)


def row(log: str, what: str, figures: Figures) -> tuple[str, ...]:
    """A line of the table."""
    return (
        log,
        what,
        f"{figures.recall:.2%}",
        f"{figures.found:.1%}",
        f"{figures.accused}/{figures.people}",
        f"{figures.wrong:.2%}",
        f"{figures.accused_likely}/{figures.likely}",
        f"{figures.accused_likely / max(1, figures.likely):.2%}",
    )


def asides(log: Log, judge: Context) -> Iterator[tuple[str, ...]]:
    """The rows that say what the figures rest on."""
    rollups = rolled(log, "address")
    worst = min((measure(log, rollups, shaken(judge, seed)) for seed in range(SHAKES)), key=lambda f: f.recall)
    yield row(log.name, "  points shaken, worst recall", worst)
    worst = max((measure(log, rollups, shaken(judge, seed)) for seed in range(SHAKES)), key=lambda f: f.wrong)
    yield row(log.name, "  points shaken, most accused", worst)
    yield row(log.name, "  no networks", measure(log, rollups, without_networks(judge)))
    nowhere = without_addresses(log)
    yield row(log.name, "  no addresses", measure(nowhere, rolled(nowhere, "address"), judge))


def held_out(log: Log, judge: Context, others: Sequence[Known]) -> Iterator[tuple[str, ...]]:
    """The figures by points that were fitted on the other logs, if there are any."""
    for who, wrong in HELD_OUT.items() if others else ():
        yield row(log.name, f"  held out, fitted by {who}", measure(log, rolled(log, "address"), fitted(judge, others, who, wrong)))


def curve(log: Log, judge: Context) -> Iterator[tuple[str, ...]]:
    """The figures over thresholds."""
    rollups = rolled(log, "address")
    for threshold in THRESHOLDS:
        yield row(log.name, f"{threshold:g}", measure(log, rollups, replace(judge, threshold=threshold)))


def show(log: Log, figures: Figures) -> None:
    """The people that are accused, with what they did and what that counted; and the crawlers that were missed."""
    told = figures.judged
    points = [name for name in told.columns if name.endswith("_points")]
    for client in told.filter(pl.col("person") & pl.col("machine")).iter_rows(named=True):
        why = {name.removesuffix("_points"): client[name] for name in points if client[name]}
        print(f"\n{client['client']} {client['class']} {client['swarm'] or ''} {client['score']:g} {why}\n  {client['ua']!r:.150}")
        for line in log.rows.filter(pl.col("ip") == client["client"]).sort("time", maintain_order=True).head(TRACE).iter_rows(named=True):
            print(f"  {line['time']} {line['method']} {line['target']!r:.100} {line['status']} from {line['referrer']!r:.80}")
    lost = told.filter((pl.col("masked") > 0) & ~pl.col("machine"))
    each = lost.group_by("agent").agg(pl.len().alias("clients"), pl.col("masked").sum(), pl.col("score").mean())
    print(
        "\nmissed: "
        + ", ".join(f"{r[0]} {r[2]} of {r[1]}, score {r[3]:.1f}" for r in each.sort("masked", descending=True).head(15).iter_rows())
    )


if __name__ == "__main__":
    sys.exit(main())
