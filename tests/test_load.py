"""A short run of the load test, and what its judgement rests on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .load.kinds import CRAWLERS, FEEDS, KINDS, PEOPLE, SEARCH, USERS
from .load.run import Result
from .load.server import MIB

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[1]


def test_a_short_run_is_as_it_must_be(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.load", "--only", "mix", "--seconds", "6", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert (done.returncode, told["ok"], told["version"]) == (0, True, 1)
    rows = told["rows"]
    assert set(rows) == set(KINDS)
    assert rows[PEOPLE]["served"] == rows[PEOPLE]["requests"] > 100
    assert rows[CRAWLERS]["statuses"] == {"403": rows[CRAWLERS]["requests"]}
    for kind in (FEEDS, SEARCH):
        assert rows[kind]["statuses"] == {"200": rows[kind]["requests"]}
    assert len(told["memory"]["start"]) == 2
    assert not list(tmp_path.iterdir())


def rows(**changes: dict[str, int]) -> dict[str, dict[str, Any]]:
    """What a run that is as it must be has counted, with some numbers changed."""
    good = {kind: {"requests": 100, "served": 100, "refused": 0, "errors": 0, "p50": 2, "p99": 9} for kind in KINDS}
    good[CRAWLERS] |= {"served": 0, "refused": 100}
    for kind, numbers in changes.items():
        good[{"people": PEOPLE, "crawlers": CRAWLERS, "feeds": FEEDS}[kind]] |= numbers
    return good


def result(**changes: Any) -> Result:
    """A run that is as it must be, but for ``changes``."""
    return Result(
        **{
            "seconds": 60.0,
            "rows": rows(),
            "start": (40 * MIB, 40 * MIB),
            "end": (41 * MIB, 42 * MIB),
            "logged": 100,
            "lost": False,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"logged": 100 + USERS}, []),
        ({"logged": 99}, ["the decision log has 99 refusals of crawlers, and they met 100"]),
        ({"logged": 101 + USERS}, [f"the decision log has {101 + USERS} refusals of crawlers, and they met 100"]),
        ({"lost": True}, ["a worker died and was replaced"]),
        ({"end": (45 * MIB, 45 * MIB)}, ["the workers' memory grew by 12.5%"]),
        ({"rows": rows(people={"refused": 1})}, ["people: 1 requests refused"]),
        ({"rows": rows(feeds={"refused": 2})}, ["feed readers: 2 requests refused"]),
        ({"rows": rows(crawlers={"served": 1})}, ["declared crawlers: 1 requests served"]),
        ({"rows": rows(people={"errors": 3})}, ["people: 3 server errors or broken connections"]),
        ({"rows": rows(people={"requests": 0})}, ["people: sent no request"]),
        ({"rows": {kind: row for kind, row in rows().items() if kind != SEARCH}}, ["search engine: sent no request"]),
    ],
)
def test_what_a_run_met_is_judged(changes: dict[str, Any], problems: list[str]) -> None:
    assert result(**changes).problems() == problems


def test_the_table_names_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    result().show()
    shown = capsys.readouterr().out
    assert [line.split("  ")[0] for line in shown.splitlines()[1:5]] == list(KINDS)
    assert "40.0 + 40.0 MiB after warm-up, 41.0 + 42.0 MiB at the end (+3.8%, at most +10%)" in shown
    assert shown.endswith("all as it must be\n")
    result(lost=True).show()
    assert "NOT as it must be:\n  a worker died" in capsys.readouterr().out
