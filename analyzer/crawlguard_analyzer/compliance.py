"""Which agents fetch robots.txt, and what they ask for that it asks them to leave alone.

A second rollup beside that of clients, over the same rows: only those of declared agents, of which there are few, are looked at.
Targets are data: they are kept as they were, cut to a length, and whoever shows them has to escape them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from crawlguard.export.pattern import canonical
from crawlguard.export.robotstxt import STAR, Group, RobotsFile, always_allowed, parse, strength

from .agents import Registry, identity
from .marks import Numbered, numbered

DAY = 86_400
EXAMPLES = 3
"""Examples that are kept of an agent and day, the earliest."""
TARGET = 300
"""Characters of an example's target."""
ENOUGH = 10
"""Documents after which an agent that asked for nothing forbidden can be said to obey."""

_EXAMPLE = pl.Struct({"time": pl.Int64, "target": pl.String})
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "day": pl.Int32,
    "agent": pl.String,
    "identity": pl.String,
    "requests": pl.Int64,
    "robots_fetched": pl.Int64,
    "first_robots": pl.Int64,
    "disallowed": pl.Int64,
    "examples": pl.List(_EXAMPLE),
}
"""One row for each day (since 1970, UTC), agent and identity (see ``agents.identity``): who only uses a name must not speak for it.
``first_robots``: when it first fetched the file on that day, null for never."""


class Compliance:
    """A collector: call it with rows, merge what it returns. ``robots``: the site's robots.txt, None when it is not known."""

    def __init__(self, registry: Registry, robots: bytes | None = None) -> None:
        self.registry = registry
        self._file: RobotsFile | None = parse(robots) if robots is not None else None
        self._heads = tuple(_heads(self._file)) if self._file else ()
        self._groups: dict[str, tuple[Group, ...]] = {}

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The declared agents' requests among these rows, by SCHEMA."""
        return self.fold([self.mark(rows, numbered(rows["ua"]))])

    def mark(self, rows: pl.DataFrame, uas: Numbered) -> pl.DataFrame:
        """The requests of declared agents, which are few: many chunks' are counted at once."""
        names, places = self.registry.declared(uas.names)
        row = pl.zeros(uas.names.len(), dtype=pl.UInt32, eager=True).scatter(places, range(1, names.height + 1)).gather(uas.numbers)
        mine = (row > 0).arg_true()
        # Copies: a slice of a text holds the whole chunk in memory.
        copied = rows.select("time", "ip", "target")[mine].select("time", *(pl.concat_str(name, pl.lit("")) for name in ("ip", "target")))
        return copied.hstack(names.drop("ua")[row.gather(mine) - 1])

    def fold(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """The marked requests of chunks that follow each other, by SCHEMA."""
        named = pl.concat(parts)
        if not named.height:
            return pl.DataFrame(schema=SCHEMA)
        places = self.registry.addresses(named["ip"].unique().rename("client"))
        known = named.join(places, left_on="ip", right_on="client", how="left").with_columns(
            identity(pl.col("time"), self.registry.dates).alias("identity"), (pl.col("time") // DAY).cast(pl.Int32).alias("day")
        )
        fetch = pl.col("target").str.contains(r"^/robots\.txt(?:\?|$)")
        wrong = pl.col("wrong")
        return _shaped(
            known.join(self._forbidden(known), on=("agent", "target"), how="left")
            .with_columns(wrong.fill_null(False))
            .sort("time", maintain_order=True)
            .group_by("day", "agent", "identity")
            .agg(
                pl.len().alias("requests"),
                fetch.sum().alias("robots_fetched"),
                pl.col("time").filter(fetch).min().alias("first_robots"),
                wrong.sum().alias("disallowed"),
                pl.struct("time", pl.col("target").str.slice(0, TARGET)).filter(wrong).head(EXAMPLES).alias("examples"),
            )
        )

    @staticmethod
    def merge(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """Several days', shards' or hosts' results as one; their order does not matter."""
        rows = pl.concat([part.select(*SCHEMA) for part in parts if part.height] or [pl.DataFrame(schema=SCHEMA)])
        return _shaped(
            rows.group_by("day", "agent", "identity").agg(
                pl.col("requests", "robots_fetched", "disallowed").sum(),
                pl.col("first_robots").min(),
                pl.col("examples").list.explode(keep_nulls=False, empty_as_null=False).sort().head(EXAMPLES),
            )
        )

    def _forbidden(self, named: pl.DataFrame) -> pl.DataFrame:
        """Of the different (agent, target), those that robots.txt forbids: agent, target, ``wrong``.

        Only a target that begins as some rule does, or that is written with escapes, is held against the rules.
        """
        found: list[tuple[str, str]] = []
        if self._heads:
            target = pl.col("target")
            begins = pl.any_horizontal(target.str.starts_with(head) for head in self._heads)
            several = (
                named.select("agent", "target")
                .unique()
                .filter(begins | target.str.contains("%", literal=True) | ~target.str.starts_with("/"))
            )
            found = [pair for pair in several.iter_rows() if not self._allows(*pair)]
        return pl.DataFrame(found, schema={"agent": pl.String, "target": pl.String}, orient="row").with_columns(wrong=pl.lit(True))

    def _allows(self, agent: str, target: str) -> bool:
        groups = self._groups.get(agent)
        if groups is None:
            groups = self._groups[agent] = self._binding(agent)
        path = canonical(target)
        if not groups or always_allowed(path):
            return True
        rules = [rule for group in groups if (rule := group.decides(path)) is not None]
        return not rules or max(rules, key=strength).allow

    def _binding(self, agent: str) -> tuple[Group, ...]:
        """The groups of the first of an agent's tokens that the file names, else those for everybody."""
        if self._file is None:
            return ()
        tokens = next((a.robots for a in self.registry.agents if a.name == agent), ())
        return next((groups for token in tokens if (groups := self._file.named(token))), self._file.named(STAR))

    def binds(self, agent: str) -> bool:
        """Whether the file forbids an agent anything."""
        return any(not rule.allow and rule.pattern for group in self._binding(agent) for rule in group.rules)


def compliance(found: pl.DataFrame, clients: pl.DataFrame, collector: Compliance) -> pl.DataFrame:
    """One row per agent and identity of merged results: agent, operator, category, identity, requests, clients, robots_fetched,
    first_robots (null: never), disallowed, obeys ("yes", "no", "unknown") and examples (texts, time first, UTC; hostile as the log is).

    ``clients``: the table of ``clients.clients``. Obeys is "no" for an agent that asked for what the file forbids it; "yes" for one that
    fetched the file, which forbids it something, and did not in ENOUGH documents. The file is that of today: what it said when the
    requests were made, nobody knows.
    """
    facts = {agent.name: (agent.operator, agent.category) for agent in collector.registry.agents}
    counted = clients.filter(pl.col("agent").is_not_null()).group_by("agent", "identity").agg(pl.len().cast(pl.Int64).alias("clients"))
    agents = found.group_by("agent", "identity").agg(
        pl.col("requests", "robots_fetched", "disallowed").sum(),
        pl.col("first_robots").min(),
        pl.col("examples").list.explode(keep_nulls=False, empty_as_null=False).sort().head(EXAMPLES),
    )
    bound = [name for name in agents["agent"].unique() if collector.binds(name)]
    example = pl.concat_str(
        pl.from_epoch(pl.element().struct.field("time")).dt.strftime("%Y-%m-%dT%H:%M:%SZ "), pl.element().struct.field("target")
    )
    return (
        agents.join(counted, on=("agent", "identity"), how="left")
        .with_columns(
            pl.col("agent").replace_strict({name: operator for name, (operator, _) in facts.items()}, default=None, return_dtype=pl.String).alias("operator"),
            pl.col("agent").replace_strict({name: category for name, (_, category) in facts.items()}, default=None, return_dtype=pl.String).alias("category"),
            pl.col("clients").fill_null(0),
            pl.when(pl.col("disallowed") > 0).then(pl.lit("no"))
            .when((pl.col("robots_fetched") > 0) & pl.col("agent").is_in(bound) & (pl.col("requests") - pl.col("robots_fetched") >= ENOUGH)).then(pl.lit("yes"))
            .otherwise(pl.lit("unknown")).alias("obeys"),
            pl.col("examples").list.eval(example),
        )
        .select("agent", "operator", "category", "identity", "requests", "clients", "robots_fetched", "first_robots", "disallowed", "obeys", "examples")
        .sort("requests", "agent", "identity", descending=[True, False, False])
    )  # fmt: skip


def _shaped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items()).sort("day", "agent", "identity")


def _heads(file: RobotsFile) -> Iterable[str]:
    """What a target must begin with to be forbidden by some rule, in canonical form."""
    heads = {rule.match.head or "/" for group in file.groups for rule in group.rules if not rule.allow and rule.pattern}
    return sorted(head for head in heads if not any(head != other and head.startswith(other) for other in heads))
