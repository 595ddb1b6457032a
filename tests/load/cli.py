"""The command line of the load tests. The exit code is 0 when everything was as it must be, else 1."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from . import run, scenarios
from .kinds import SCENARIOS
from .server import SERVERS

MIX = "mix"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, each scenario's line as it ends, and print what is not as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description="Load a guarded site with people and crawlers, and judge what each met."
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long the mix of people and declared crawlers takes (default: 60)")
    parser.add_argument("--only", action="append", choices=(MIX, *SCENARIOS), help="leave out all others; may be repeated")
    parser.add_argument(
        "--server", choices=tuple(SERVERS), default="uvicorn", help="with two workers, under FastAPI or Flask (default: uvicorn)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    wanted = options.only or (MIX, *SCENARIOS)
    try:
        mix = run.run(options.seconds, options.server) if MIX in wanted else None
        if mix and not options.json:
            mix.show()
        outcomes = _play([name for name in SCENARIOS if name in wanted], options.server, quiet=options.json)
    except KeyboardInterrupt:
        return 130
    problems = [*(mix.problems() if mix else ()), *scenarios.problems(outcomes)]
    if options.json:
        told = {"version": 1, **(mix.as_dict() if mix else {}), "signatures": [outcome.as_dict() for outcome in outcomes]}
        print(json.dumps(told | {"ok": not problems, "problems": problems}, indent=2))
    return 1 if problems else 0


def _play(names: Sequence[str], server: str, *, quiet: bool) -> list[scenarios.Outcome]:
    outcomes = []
    if names and not quiet:
        print(f"\n{scenarios.HEAD}")
    for outcome in scenarios.play(names, server):
        outcomes.append(outcome)
        if not quiet:
            print(outcome.line(), flush=True)
    found = scenarios.problems(outcomes)
    if names and not quiet:
        print("\n".join(["", "NOT as it must be:", *(f"  {p}" for p in found)]) if found else "\nall as it must be")
    return outcomes
