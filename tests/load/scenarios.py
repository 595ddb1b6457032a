"""Runs the scenarios of signatures, each against a site of its own, and judges what attackers and people met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .kinds import ATTACKERS, PEOPLE, PERSONS, SCENARIOS, Scenario
from .server import GROWTH, HERE, MIB, Run, growth, load

NOBODY: dict[str, Any] = {"requests": 0, "served": 0, "refused": 0, "errors": 0, "first": None, "wait": 0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario that has been run."""

    scenario: Scenario
    run: Run

    def row(self, kind: str) -> dict[str, Any]:
        """What a kind met."""
        row: dict[str, Any] = NOBODY | self.run.report.get(kind, {})
        return row

    def problems(self) -> list[str]:
        """Everything that is not as it must be."""
        scenario, attackers, people = self.scenario, self.row(ATTACKERS), self.row(PEOPLE)
        found = [
            f"{kind}: {row['errors']} server errors or broken connections"
            for kind, row in ((ATTACKERS, attackers), (PEOPLE, people))
            if row["errors"]
        ]
        if not people["requests"]:
            found.append("people sent no request")
        if people["refused"] > people["requests"] * scenario.people:
            found.append(f"{people['refused']} of {people['requests']} requests by people refused")
        if not attackers["refused"] or attackers["refused"] < attackers["requests"] * scenario.refused:
            found.append(
                f"{attackers['refused']} of {attackers['requests']} requests by attackers refused, at least {scenario.refused:.0%} must be"
            )
        if attackers["served"] > scenario.admitted:
            found.append(f"{attackers['served']} requests by attackers served, at most {scenario.admitted} are admitted")
        if attackers["wait"] < scenario.wait:
            found.append(f"attackers were told to wait for {attackers['wait']} s at most, {scenario.wait} are due")
        if self.run.lost:
            found.append("a worker died and was replaced")
        if growth(self.run.start, self.run.end) > GROWTH:
            found.append(f"the workers' memory grew by {growth(self.run.start, self.run.end):.1%}")
        return [f"{scenario.name}: {problem}" for problem in found]

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "name": self.scenario.name,
            "ok": not self.problems(),
            "rows": {kind: self.row(kind) for kind in (ATTACKERS, PEOPLE)},
            "guard_us": round(self.guard_us, 2),
            "server_us": round(self.server_us, 1),
            "memory": {"start": list(self.run.start), "end": list(self.run.end)},
            "problems": self.problems(),
        }

    @property
    def guard_us(self) -> float:
        """CPU us of the guard for a request."""
        return self.run.guard * 1e6 / max(1, self.run.decisions)

    @property
    def server_us(self) -> float:
        """CPU us of the whole server for a request."""
        requests: int = self.row(ATTACKERS)["requests"] + self.row(PEOPLE)["requests"]
        return self.run.cpu * 1e6 / max(1, requests)

    def line(self) -> str:
        """One line of the table."""
        attackers, people = self.row(ATTACKERS), self.row(PEOPLE)
        first, share = attackers["first"], attackers["refused"] / max(1, attackers["requests"])
        megabytes = sum(self.run.end) / MIB
        return (
            f"{self.scenario.name:<12}{attackers['requests']:>8,}{attackers['refused']:>9,}{share:>6.0%}"
            f"{'never' if first is None else first:>7}{attackers['wait']:>7}"
            f"{people['requests']:>9,}{people['refused']:>9,}{self.guard_us:>10.1f}{self.server_us:>9.0f}"
            f"{megabytes:>8.1f}{growth(self.run.start, self.run.end):>+7.1%}  {'NOT as it must be' if self.problems() else 'ok'}"
        )


HEAD = (
    f"{'':<12}{'attackers':>17}{'':>6}{'first':>7}{'longest':>7}{'people':>10}{'':>8}{'CPU us a request':>19}{'workers':>8}\n"
    f"{'signature':<12}{'sent':>8}{'refused':>9}{'':>6}{'after':>7}{'wait':>7}{'sent':>9}{'refused':>9}{'guard':>10}{'server':>9}{'MiB':>8}{'grown':>7}"
)


def play(names: Iterable[str], server: str) -> Iterable[Outcome]:
    """Each scenario, as it ends. Raises RuntimeError when its site or locust does not start."""
    for name in names:
        scenario = SCENARIOS[name]
        users = PERSONS + scenario.number + len(scenario.beside)
        classes = ("Person", scenario.attackers, *scenario.beside)
        policy = str(HERE / "policies" / f"{name}.yaml")
        yield Outcome(scenario, load("signatures.py", users, scenario.seconds, classes, policy, server=server))


def problems(outcomes: Sequence[Outcome]) -> list[str]:
    """Those of all."""
    return [problem for outcome in outcomes for problem in outcome.problems()]
