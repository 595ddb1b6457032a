"""One scenario of the load test for signatures, what its judgement rests on, and that each scenario has all its parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crawlguard.loader import load_policy

from .load.kinds import ATTACKERS, PEOPLE, SCENARIOS, Scenario
from .load.scenarios import HEAD, Outcome, problems
from .load.server import HERE, MIB, SERVERS, Run

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = Scenario(name="ip", attackers="Hammer", number=2, admitted=100, refused=0.5, wait=4)


@pytest.mark.parametrize("server", SERVERS)
def test_scanners_are_stopped_and_people_are_not(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.load", "--only", "misses", "--server", server, "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert (done.returncode, told["ok"], told["version"]) == (0, True, 1)
    (misses,) = told["signatures"]
    attackers, people = misses["rows"][ATTACKERS], misses["rows"][PEOPLE]
    assert set(attackers["statuses"]) == {"404", "429"}
    assert attackers["first"] >= 20
    assert people["requests"] > 100
    assert 0 < misses["guard_us"] < misses["server_us"]
    assert not list(tmp_path.iterdir())


def outcome(
    attackers: dict[str, Any] | None = None, people: dict[str, Any] | None = None, scenario: Scenario = SCENARIO, **run: Any
) -> Outcome:
    """A scenario that went as it must, but for what is given."""
    row = {"requests": 200, "served": 90, "refused": 110, "errors": 0, "first": 80, "wait": 5}
    rows = {ATTACKERS: row | (attackers or {}), PEOPLE: row | {"served": 200, "refused": 0, "first": None} | (people or {})}
    usual: dict[str, Any] = {"start": (40 * MIB,), "end": (41 * MIB,), "lost": False, "cpu": 0.4, "guard": 0.02, "decisions": 400}
    return Outcome(scenario, Run(report=rows, **(usual | run)))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"people": {"refused": 1}}, ["ip: 1 of 200 requests by people refused"]),
        ({"people": {"requests": 0}}, ["ip: people sent no request"]),
        ({"people": {"errors": 2}}, ["ip: people: 2 server errors or broken connections"]),
        ({"attackers": {"errors": 1}}, ["ip: attackers: 1 server errors or broken connections"]),
        ({"attackers": {"refused": 99}}, ["ip: 99 of 200 requests by attackers refused, at least 50% must be"]),
        ({"attackers": {"requests": 0, "refused": 0}}, ["ip: 0 of 0 requests by attackers refused, at least 50% must be"]),
        ({"attackers": {"served": 101}}, ["ip: 101 requests by attackers served, at most 100 are admitted"]),
        ({"attackers": {"wait": 3}}, ["ip: attackers were told to wait for 3 s at most, 4 are due"]),
        ({"lost": True}, ["ip: a worker died and was replaced"]),
        ({"end": (45 * MIB,)}, ["ip: the workers' memory grew by 12.5%"]),
    ],
)
def test_what_a_scenario_met_is_judged(changes: dict[str, Any], found: list[str]) -> None:
    one = outcome(**changes)
    assert (one.problems(), problems([one, one]), one.as_dict()["ok"]) == (found, found * 2, not found)


def test_a_share_of_people_may_be_refused_where_a_scenario_says_so() -> None:
    lenient = Scenario(name="swarm", attackers="Swarm", number=1, admitted=100, people=0.005)
    assert outcome(people={"refused": 1}, scenario=lenient).problems() == []
    assert outcome(people={"refused": 2}, scenario=lenient).problems() == ["swarm: 2 of 200 requests by people refused"]


def test_the_line_has_a_value_for_every_column_of_the_table() -> None:
    columns = len(HEAD.splitlines()[1].split())
    assert outcome().line().split() == ["ip", "200", "110", "55%", "80", "5", "200", "0", "50.0", "1000", "41.0", "+2.5%", "ok"]
    assert columns == 11, "the share and the verdict have no heading"
    assert "never" in outcome({"first": None}).line()
    assert outcome(lost=True).line().endswith("NOT as it must be")


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_each_scenario_has_a_policy_and_its_users(scenario: Scenario) -> None:
    policy = load_policy(HERE / "policies" / f"{scenario.name}.yaml")
    assert [rule.id for rule in policy.rules] == [scenario.name]
    classes = re.findall(
        r"^class (\w+)\(", (HERE / "signatures.py").read_text("utf-8"), re.MULTILINE
    )  # locust's import patches the process
    assert {"Person", scenario.attackers, *scenario.beside} <= set(classes)


def test_each_policy_has_a_scenario() -> None:
    assert {file.stem for file in (HERE / "policies").iterdir()} == set(SCENARIOS)
