"""From features to a score and a class. The score is a sum of points that a table gives to named features; nothing else is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from crawlguard.errors import ConfigError

from .features import NOTHING_USUAL, Feature, features

VERSION = 1
DEFAULT = Path(__file__).with_name("weights.yaml")

CLASSES = ("declared", "crawler", "swarm", "spoofed", "tool", "feed", "monitor", "person", "unknown")
_BY_CATEGORY = {
    "link-preview": "tool", "webhook": "tool", "scraper-library": "tool", "tool": "tool",
    "feed-reader": "feed", "podcast": "feed", "monitor": "monitor",
}  # fmt: skip
"""The class of an agent of the catalogue, by its category; the others are declared crawlers."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Points of one feature: ``points[0]`` below ``cuts[0]``, ``points[i]`` from ``cuts[i - 1]`` on."""

    cuts: tuple[float, ...]
    points: tuple[float, ...]

    def of(self, value: pl.Expr) -> pl.Expr:
        """The points of a value; null gets none."""
        found = pl.lit(self.points[0])
        for cut, points in zip(self.cuts, self.points[1:], strict=True):
            found = pl.when(value >= cut).then(points).otherwise(found)
        return pl.when(value.is_not_null()).then(found).otherwise(0.0)


@dataclass(frozen=True, slots=True)
class Weights:
    """The table of points. A client is a machine from ``threshold`` on, and a person down from ``person``; a group is a swarm from ``swarm_threshold`` on."""

    threshold: float
    person: float
    features: dict[str, Steps]
    swarm_threshold: float
    swarm: dict[str, Steps]


def load_weights(path: Path = DEFAULT) -> Weights:
    """The table in a file. Raises ConfigError when it is not one."""
    try:
        return _weights(yaml.safe_load(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the name") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: not a table of weights ({error}); compare it with {DEFAULT}") from None


def _weights(raw: dict[str, Any]) -> Weights:
    if raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']}, not {VERSION}")
    known = {feature.name: feature.group for feature in features(NOTHING_USUAL)}
    table, together = _steps(raw["features"]), _steps(raw["swarm"]["features"])
    if table.keys() != known.keys():
        raise ValueError(f"these features are missing or unknown: {', '.join(sorted(table.keys() ^ known.keys()))}")
    if not all(known.get(name) for name in together):
        raise ValueError("a swarm has only the features that can be asked of many clients together")
    return Weights(float(raw["threshold"]), float(raw["person"]), table, float(raw["swarm"]["threshold"]), together)


def _steps(raw: dict[str, Any]) -> dict[str, Steps]:
    table = {name: Steps(tuple(map(float, row["cuts"])), tuple(map(float, row["points"]))) for name, row in raw.items()}
    for name, steps in table.items():
        if len(steps.points) != len(steps.cuts) + 1 or list(steps.cuts) != sorted(steps.cuts):
            raise ValueError(f"{name}: cuts must rise, and points be one more than cuts")
    return table


def scored(clients: pl.DataFrame, found: tuple[Feature, ...], weights: Weights) -> pl.DataFrame:
    """The clients with a column for each feature, one for its points (``<feature>_points``), and ``score``, their sum."""
    values = clients.select(f.value.cast(pl.Float64).fill_nan(None).alias(f.name) for f in found).get_columns()
    pointed = pl.DataFrame(values).select(weights.features[f.name].of(pl.col(f.name)).alias(f"{f.name}_points") for f in found)
    score = pointed.select(pl.sum_horizontal(pl.all()).alias("score"))
    # One column after the other, so that they are not all there twice.
    filled = [values.pop().fill_null(0.0) for _ in found]
    return clients.with_columns(*filled[::-1], *pointed, *score)


def classes(weights: Weights, threshold: float) -> pl.Expr:
    """The class of a scored client on its own; who is of a swarm, ``swarms`` knows."""
    # One page under a browser's name is too little to accuse anybody, unless it comes from where a crawler's operator says that it crawls.
    enough = (pl.col("kind") != "browser") | (pl.col("documents") > 1) | (pl.col("published") > 0)
    machine = (pl.col("score") >= threshold) & enough
    polling = (pl.col("regular") >= 0.8) & (pl.col("distinct") <= 3) & (pl.col("requests") >= 50)
    reading = (pl.col("feeds") >= 3) & (pl.col("feeds") * 5 >= pl.col("documents") * 4)
    return (
        pl.when(pl.col("identity") == "spoofed").then(pl.lit("spoofed"))
        .when(pl.col("agent").is_not_null()).then(pl.col("category").replace_strict(_BY_CATEGORY, default="declared", return_dtype=pl.String))
        .when(reading & (pl.col("styles") == 0)).then(pl.lit("feed"))
        .when(machine & polling).then(pl.lit("monitor"))
        .when(machine).then(pl.lit("crawler"))
        .when((pl.col("kind") == "browser") & (pl.col("score") <= weights.person)).then(pl.lit("person"))
        .otherwise(pl.lit("unknown"))
    )  # fmt: skip
