"""What a robots.txt really does: whom it stops, which lines do nothing, where it contradicts the policy. Pure: a value in, a report out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..signals.ua import Agent
from .lint_lines import Words, line_findings
from .lint_rules import idle_rules
from .lint_table import Finding, shown
from .reach import Conflict, Reach, Survey, Verdict
from .robotstxt import STAR, Group, RobotsFile, google_token


class Report(NamedTuple):
    """The lint of one file. ``out_of_reach``: agents of the catalogue that have no robots.txt token at all.

    ``conflicts`` is None when no policy was asked.
    """

    file: RobotsFile
    findings: tuple[Finding, ...]
    reach: tuple[Reach, ...]
    out_of_reach: tuple[Agent, ...]
    conflicts: tuple[Conflict, ...] | None

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(found for found in self.findings if found.severity == "warning")

    def by_category(self) -> dict[str, dict[str, int]]:
        """Per category of agents, the AI ones first: how many are stopped "everywhere", "in part", "nowhere", and of those that are
        stopped at all how many say "no" to heeding robots.txt ("unheeding") or say nothing ("unknown"); "no_token" have no token."""
        rows: dict[str, dict[str, int]] = {}
        ai = {agent.category for agent in (*(r.agent for r in self.reach), *self.out_of_reach) if agent.ai}
        told = [(r.agent.category, r.stopped, r.agent.honours_robots if r.stopped != "nowhere" else "yes") for r in self.reach]
        told += [(agent.category, "no_token", "yes") for agent in self.out_of_reach]
        for category, what, honours in sorted(told, key=lambda row: (row[0] not in ai, row[0])):
            row = rows.setdefault(category, dict.fromkeys(("everywhere", "in part", "nowhere", "no_token", "unheeding", "unknown"), 0))
            row[what] += 1
            if honours != "yes":
                row["unheeding" if honours == "no" else "unknown"] += 1
        return rows

    def as_dict(self) -> dict[str, Any]:
        """For JSON: {size, lines, groups, findings: [{line, code, severity, message, cure}], agents: [{name, operator, category, ai,
        stopped, token, disallow, allow, honours_robots, honours_says, odd_token, token_only}], categories: {name: {everywhere,
        in part, nowhere, no_token, unheeding, unknown}}, out_of_reach: [name], conflicts: [{file, policy, places: [{path, line}], agents: [name]}]
        or null when no policy was asked}. ``file`` and ``policy`` are "allow" or "refuse". Texts of the file are made printable."""
        return {
            "size": self.file.size,
            "lines": len(self.file.lines),
            "groups": len(self.file.groups),
            "findings": [found._asdict() for found in self.findings],
            "agents": [_agent(reach) for reach in self.reach],
            "categories": self.by_category(),
            "out_of_reach": [agent.name for agent in self.out_of_reach],
            "conflicts": None if self.conflicts is None else [_conflict(conflict) for conflict in self.conflicts],
        }


def lint(file: RobotsFile, agents: Sequence[Agent], verdict: Verdict | None = None, paths: Sequence[str] = ()) -> Report:
    """``agents``: the catalogue. ``verdict(agent, path)``: what the policy says of an agent's request for a URL path with query,
    percent-encoded: True allowed, False refused, None unknown; ``paths``: paths at which to ask it besides those of the file."""
    found = [*line_findings(file, Words.of(agents)), *idle_rules(_alone(file))]
    survey = Survey(file, agents)
    return Report(
        file=file,
        findings=tuple(sorted(found)),
        reach=survey.reach(),
        out_of_reach=tuple(agent for agent in agents if not agent.robots),
        conflicts=None if verdict is None else survey.conflicts(verdict, paths),
    )


def _alone(file: RobotsFile) -> tuple[Group, ...]:
    """The groups whose agents have no other group: only there a group's rules are all that counts."""
    places: dict[str, set[int]] = {}
    for group in file.groups:
        for name in _names(group):
            places.setdefault(name, set()).add(group.number)
    return tuple(group for group in file.groups if all(len(places[name]) == 1 for name in _names(group)))


def _names(group: Group) -> set[str]:
    """What either reading takes the group's agents for."""
    values = [agent.value for agent in group.agents]
    return {STAR if google_token(v) == STAR else v.lower() for v in values} | {google_token(v).lower() for v in values} - {""}


def _agent(reach: Reach) -> dict[str, Any]:
    agent = reach.agent
    return {
        "name": agent.name,
        "operator": agent.operator,
        "category": agent.category,
        "ai": agent.ai,
        "stopped": reach.stopped,
        "token": reach.token or None,
        "disallow": [shown(pattern) for pattern in reach.disallow],
        "allow": [shown(pattern) for pattern in reach.allow],
        "honours_robots": agent.honours_robots,
        "honours_says": agent.honours_says,
        "odd_token": reach.odd_token,
        "token_only": reach.token_only,
    }


def _conflict(conflict: Conflict) -> dict[str, Any]:
    says = ("allow", "refuse") if conflict.allows else ("refuse", "allow")
    places = [{"path": shown(path), "line": line} for path, line in conflict.places]
    return {"file": says[0], "policy": says[1], "places": places, "agents": [agent.name for agent in conflict.agents]}
