"""Who is who in a log, by its own words, and the same log with the crawlers' words taken away."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import polars as pl
from crawlguard_analyzer.combined import Combined
from crawlguard_analyzer.rollup import ASSETS, STYLES

from crawlguard import identify
from crawlguard.signals.ua import AI_CATEGORIES

CRAWLERS = (AI_CATEGORIES - {"agent-browser", "coding-agent"}) | {
    "search-engine",
    "seo",
    "archive",
    "ads",
    "security-scanner",
    "link-preview",
}
BROWSER = r"^Mozilla/[45]\.0 \(|^Opera/"
COMMON = 20
"""How many of a log's browsers are used as masks."""

MODES = {
    "one": "one browser for all",
    "address": "one for each address",
    "agent": "one for each agent",
    "request": "another one at each request",
}


class Log(NamedTuple):
    """``rows`` with ``agent`` (null for none) and ``masked`` beside; ``truth``: one row per client (ip), with ``agent``, ``masked`` (its
    requests if it is a crawler, else 0), ``person`` and ``likely``."""

    name: str
    rows: pl.DataFrame
    truth: pl.DataFrame
    browsers: list[str]


def read(path: Path) -> Log:
    """A combined log, plain or gzipped."""
    raw = path.read_bytes()
    rows = Combined().parse(gzip.decompress(raw) if path.suffix == ".gz" else raw).rows
    return labelled(path.name.partition(".")[0], rows)


def labelled(name: str, rows: pl.DataFrame) -> Log:
    """The log with what it says about itself."""
    uas = rows["ua"].unique(maintain_order=True)
    found = [identify(ua) for ua in uas]
    names = {"ua": uas, "agent": [a and a.name for a in found], "crawls": [a is not None and a.category in CRAWLERS for a in found]}
    known = rows.join(pl.DataFrame(names, schema_overrides={"agent": pl.String}), on="ua", maintain_order="left")
    known = known.with_columns((pl.col("crawls").mean().over("ip") >= 0.5).alias("masked")).drop("crawls")
    path = pl.col("target").str.splitn("?", 2).struct.field("field_0")
    suffix = path.str.to_lowercase().str.extract(r"\.([a-z0-9]+)$")
    asset, style = suffix.is_in(ASSETS).fill_null(False), suffix.is_in(STYLES).fill_null(False)
    browser = (pl.col("ua").str.contains(BROWSER) & pl.col("agent").is_null()).all()
    follows = (~asset & (pl.col("referrer") != "")).any()
    truth = known.group_by("ip").agg(
        pl.col("agent").drop_nulls().mode().sort().first(),
        pl.col("masked").sum(),
        (browser & style.any() & follows).alias("person"),
        (browser & (asset.any() | follows)).alias("likely"),
    )
    plain = known.filter(pl.col("agent").is_null() & pl.col("ua").str.contains(BROWSER) & ~pl.col("ua").str.contains(r"(?i)bot|https?:"))
    common = plain.group_by("ua").agg(pl.col("ip").n_unique().alias("clients")).sort("clients", "ua", descending=[True, False])
    return Log(name, known, truth, common["ua"].head(COMMON).to_list())


def masked(log: Log, mode: str) -> pl.DataFrame:
    """The rows with the crawlers' User-Agents replaced, see MODES."""
    several = len(log.browsers)
    which = {
        "one": pl.lit(0, pl.UInt64),
        "address": pl.col("ip").hash(seed=1) % several,
        "agent": pl.col("agent").fill_null("").hash(seed=1) % several,
        "request": pl.int_range(pl.len()).hash(seed=1) % several,
    }[mode]
    mask = which.replace_strict(dict(enumerate(log.browsers)), return_dtype=pl.String)
    return log.rows.with_columns(pl.when("masked").then(mask).otherwise("ua").alias("ua")).drop("agent", "masked")


def without_addresses(log: Log) -> Log:
    """The same log with a word in the place of each address."""
    word = pl.concat_str(pl.lit("client-"), pl.col("ip").hash(seed=2))
    return log._replace(rows=log.rows.with_columns(word.alias("ip")), truth=log.truth.with_columns(word.alias("ip")))
