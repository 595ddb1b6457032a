"""Points that know nothing of a log: fitted on others by a formula, so that it is judged by a table that was not made on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log as ln

import polars as pl
from crawlguard_analyzer.classify import Steps
from crawlguard_analyzer.clients import Context

from .masking import Log
from .measure import measure

TEMPERED = 0.6
"""The part of each weight of evidence that counts: features tell much the same, and would tell it several times."""
LEAST = 0.5
"""What is added to each count (Jeffreys' prior), so that no value proves anything."""

Known = tuple[Log, pl.DataFrame]
"""A log and its rollup with masked crawlers."""


def fitted(judge: Context, known: Sequence[Known], who: str, wrong: float) -> Context:
    """The same judge with points from these logs alone: TEMPERED times the weight of evidence, ln(share of masked crawlers with the value / share
    of people with it), of each step of each feature; and with the least threshold at which no more than the share ``wrong`` of these logs'
    people has it. ``who`` is taken for people: "person" or "likely" (see ``masking.Log``). The cuts, and what makes a swarm, stay as they are.
    """
    judged = _judged(judge, known)
    crawlers, people = judged.filter(pl.col("masked") > 0), judged.filter(who)
    table = {name: _evidence(steps, crawlers[name], people[name]) for name, steps in judge.weights.features.items()}
    made = replace(judge, weights=replace(judge.weights, features=table))
    scores = _judged(made, known).filter(who)["score"].sort(descending=True)
    return replace(made, threshold=float(scores[min(int(wrong * scores.len()), scores.len() - 1)]) + 1e-9)


def _judged(judge: Context, known: Sequence[Known]) -> pl.DataFrame:
    names = ("masked", "person", "likely", "score", *judge.weights.features)
    return pl.concat([measure(log, rollups, judge).judged.select(names) for log, rollups in known])


def _evidence(steps: Steps, crawlers: pl.Series, people: pl.Series) -> Steps:
    """Points for the same cuts."""
    shares = [_shares(steps, values) for values in (crawlers, people)]
    return replace(steps, points=tuple(TEMPERED * ln(machine / person) for machine, person in zip(*shares, strict=True)))


def _shares(steps: Steps, values: pl.Series) -> list[float]:
    from_each = [values.len(), *(int((values >= cut).sum()) for cut in steps.cuts), 0]
    counts = [here - further + LEAST for here, further in pairwise(from_each)]
    return [count / sum(counts) for count in counts]
