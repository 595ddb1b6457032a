"""Points that are fitted on other logs: they follow the evidence there, and spare as many people there as they are told to."""

from __future__ import annotations

import polars as pl
import pytest

from .analyzer_rows import judge
from .conftest import SHARED
from .eval.heldout import Known, fitted
from .eval.masking import read
from .eval.measure import measure, rolled


@pytest.fixture(scope="module")
def known() -> Known:
    log = read(SHARED / "logs" / "apache_2015.log.gz")
    return log, rolled(log, "address")


@pytest.mark.parametrize("who", ["person", "likely"])
def test_points_follow_the_evidence(known: Known, who: str) -> None:
    made = fitted(judge(), [known], who, 0.01)
    table, before = made.weights.features, judge().weights
    assert {name: steps.cuts for name, steps in table.items()} == {name: steps.cuts for name, steps in before.features.items()}
    for name in ("robots", "bare", "unreferred"):
        assert table[name].points[-1] > 0 > table[name].points[0]
    for name in ("styled", "following"):
        assert table[name].points[-1] < 0 < table[name].points[0]
    figures = measure(*known, made)
    people = figures.judged.filter(pl.col(who))
    assert (people["score"] >= made.threshold).mean() <= 0.01  # type: ignore[operator]
    assert figures.recall > 0.8
