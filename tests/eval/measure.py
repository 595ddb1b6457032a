"""The figures of the masked test."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

import polars as pl
from crawlguard_analyzer.agents import Registry
from crawlguard_analyzer.classify import Steps, Weights
from crawlguard_analyzer.clients import Context, clients
from crawlguard_analyzer.rollup import rollup

from crawlguard import load_policy

from .masking import Log, masked

SPARED = ("person", "unknown")


class Figures(NamedTuple):
    """``recall`` by requests and ``found`` by clients, of the masked; of people ``accused`` out of ``people``, and of likely ones
    ``accused_likely`` out of ``likely``. ``judged``: all clients with what they are called and what they are."""

    recall: float
    found: float
    accused: int
    people: int
    accused_likely: int
    likely: int
    judged: pl.DataFrame

    @property
    def wrong(self) -> float:
        """The share of people that are wrongly accused."""
        return self.accused / max(1, self.people)


def rolled(log: Log, mode: str) -> pl.DataFrame:
    """The rollup of the masked log."""
    return rollup(masked(log, mode))


def measure(log: Log, rollups: pl.DataFrame, context: Context) -> Figures:
    """The figures of a masked log's rollup."""
    told = clients(rollups, context).rename({"agent": "named"}).join(log.truth, left_on="client", right_on="ip")
    judged = told.with_columns((~pl.col("class").is_in(SPARED)).alias("machine"))
    crawlers = judged.filter(pl.col("masked") > 0)
    people, likely = judged.filter("person"), judged.filter("likely")
    return Figures(
        recall=int(crawlers.filter("machine")["masked"].sum()) / max(1, int(crawlers["masked"].sum())),
        found=int(crawlers["machine"].sum()) / max(1, crawlers.height),
        accused=int(people["machine"].sum()),
        people=people.height,
        accused_likely=int(likely["machine"].sum()),
        likely=likely.height,
        judged=judged,
    )


def without_networks(context: Context) -> Context:
    """The same without the catalogue's networks."""
    return replace(context, registry=Registry(load_policy(), {}))


def shaken(context: Context, seed: int) -> Context:
    """The same with each number of points times a factor of its own between 0.7 and 1.3."""
    dice = random.Random(seed)

    def shake(table: dict[str, Steps]) -> dict[str, Steps]:
        return {name: replace(steps, points=tuple(p * dice.uniform(0.7, 1.3) for p in steps.points)) for name, steps in table.items()}

    weights: Weights = context.weights
    return replace(context, weights=replace(weights, features=shake(weights.features), swarm=shake(weights.swarm)))
