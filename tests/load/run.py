"""The mix of people and declared crawlers before the bundled policy: runs it, and prints one table.

It must hold: no server error; every declared crawler refused, nobody else; every refusal of a crawler in the decision log, each
line whole; no worker lost; the private memory of the workers grown by no more than GROWTH after the warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .kinds import CRAWLERS, KINDS, USERS
from .server import GROWTH, MIB, growth, load


@dataclass(slots=True, kw_only=True)
class Result:
    """A finished run. ``rows``: what locustfile wrote; ``start``, ``end``: bytes of each worker; ``logged``: crawlers' refusals."""

    seconds: float
    rows: dict[str, dict[str, Any]]
    start: Sequence[int]
    end: Sequence[int]
    logged: int
    lost: bool
    server: str = "uvicorn"
    complaints: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The share by which the workers' memory has grown since the warm-up."""
        return growth(self.start, self.end)

    def problems(self) -> list[str]:
        """Everything that is not as it must be."""
        found = list(self.complaints)
        for kind in KINDS:
            row = self.rows.get(kind)
            if row is None or not row["requests"]:
                found.append(f"{kind}: sent no request")
                continue
            if row["errors"]:
                found.append(f"{kind}: {row['errors']} server errors or broken connections")
            wrong = "served" if kind == CRAWLERS else "refused"
            if row[wrong]:
                found.append(f"{kind}: {row[wrong]} requests {wrong}")
        refused = self.rows.get(CRAWLERS, {}).get("refused", 0)
        if not refused <= self.logged <= refused + USERS:  # locust ends with requests in flight, which it does not count
            found.append(f"the decision log has {self.logged} refusals of crawlers, and they met {refused}")
        if self.lost:
            found.append("a worker died and was replaced")
        if self.growth > GROWTH:
            found.append(f"the workers' memory grew by {self.growth:.1%}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        memory = {"start": list(self.start), "end": list(self.end), "growth": round(self.growth, 4)}
        return {
            "version": 1,
            "ok": not self.problems(),
            "seconds": self.seconds,
            "rows": self.rows,
            "memory": memory,
            "problems": self.problems(),
        }

    def show(self) -> None:
        """The table, for people."""
        print(f"{'who':<20}{'requests':>10}{'served':>10}{'refused':>10}{'5xx':>6}{'p50 ms':>9}{'p99 ms':>9}")
        for kind in KINDS:
            row = self.rows.get(kind)
            if row:
                print(
                    f"{kind:<20}{row['requests']:>10,}{row['served']:>10,}{row['refused']:>10,}{row['errors']:>6}{row['p50']:>9.0f}{row['p99']:>9.0f}"
                )
        total = sum(row["requests"] for row in self.rows.values())
        start, last = (" + ".join(f"{size / MIB:.1f}" for size in sizes) for sizes in (self.start, self.end))
        print(
            f"\n{total:,} requests in {self.seconds:.0f} s, {total / self.seconds:,.0f} a second from {USERS} users, {self.server} with {len(self.start)} workers"
        )
        print(
            f"private memory of the workers: {start} MiB after warm-up, {last} MiB at the end ({self.growth:+.1%}, at most {GROWTH:+.0%})"
        )
        print("\n".join(["NOT as it must be:", *(f"  {p}" for p in self.problems())]) if self.problems() else "all as it must be")


def run(seconds: float, server: str) -> Result:
    """The load test itself. Raises RuntimeError when the site or locust does not start."""
    found = load("locustfile.py", USERS, seconds, server=server)
    logged = sum(line["rule"] == "ai-training" for line in found.log)
    return Result(seconds=seconds, rows=found.report, start=found.start, end=found.end, logged=logged, lost=found.lost, server=server)
