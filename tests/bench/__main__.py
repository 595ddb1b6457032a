"""``python -m tests.bench [--json FILE] [--peers PYTHON] [--only WORD]``: all budgets in one run, one table.

Exit code 1 when a budget is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    parser.add_argument("--peers", help="the Python of an environment with the other guards; measures them too")
    parser.add_argument("--only", default="", help="only the groups whose name holds this word")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crawlguard-bench-") as state:
        os.environ["CRAWLGUARD_STATE_DIR"] = state
        return run(chosen.json, chosen.peers, chosen.only)


def run(target: Path | None, peers: str | None, only: str) -> int:
    """Measure, print, write; the exit code."""
    from .backtest import backtest
    from .clock import noted, slowness
    from .gthread import beside_a_busy_thread
    from .inprocess import doors, long_lists, many_patterns, robots
    from .logs import access_logs
    from .paper import on_paper
    from .processes import commands, import_time, memory, shared_table
    from .remote import remote_store
    from .signatures import five_signatures, million, store_calls
    from .table import budgets

    groups = (
        doors, beside_a_busy_thread, long_lists, many_patterns, robots, shared_table, store_calls, five_signatures, remote_store, on_paper, million, import_time, commands, memory,
        access_logs, backtest,
    )  # fmt: skip
    rows = []
    for group in groups:
        if only in group.__name__:
            print(f"measuring {group.__name__} ...", file=sys.stderr, flush=True)
            before = slowness()
            found = list(group())
            slow = median(noted() or [before, slowness()])
            rows += [replace(row, slowness=slow) for row in found]
            print(f"  this machine took {slow:.2f} times as long as the budgets' own", file=sys.stderr)
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs\n\n{budgets(rows)}")
    report: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count(), "rows": [row.as_dict() for row in rows]}
    if peers and only in "peers":
        report["peers"] = beside_others(peers)
        subprocess.run([peers, "-m", "tests.bench.limiters"], check=False, cwd=Path(__file__).parents[2])
    if target:
        target.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(row.verdict == "MISSED" for row in rows))


def beside_others(python: str) -> Any:
    """What the other guards cost, measured by a Python that has them."""
    print("measuring peers ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "peers.json"
        done = subprocess.run([python, "-m", "tests.bench.peers", "--json", str(target)], check=False, cwd=Path(__file__).parents[2])
        if done.returncode or not target.exists():
            print(f"the peers could not be measured: {python} ended with {done.returncode}")
            return None
        return json.loads(target.read_text())


if __name__ == "__main__":
    sys.exit(main())
