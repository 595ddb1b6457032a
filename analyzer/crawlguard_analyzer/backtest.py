"""What the middleware would have decided about a log, by the same rules: per rule and as a whole, for one policy or against another.

Shards are decided and forgotten. What a log cannot show (other headers than referrer and User-Agent) is unknown, never guessed: see
``backtest_sight``, which also says how the log's time becomes the clock of rates. The log's address is taken as the client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from crawlguard.decision import ALLOW, Decision
from crawlguard.policy.model import Policy
from crawlguard.policy.terms import Dynamic

from .backtest_decide import Decided, Decider
from .backtest_sight import HOST, Unjudged, leaves, unjudged
from .backtest_tally import Tally, Told

CHANGES = 1000
"""Kinds of changes that a diff keeps apart; the requests of further ones are counted as one more kind, named OTHERS."""
OTHERS = ("(others)", "", "(others)", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """One rule. ``action`` is "allow", "block", ..., or "weigh" or "tag"; ``shadow``: it only watches. ``share``: of all rows."""

    rule: str
    action: str
    shadow: bool
    share: float
    told: Told

    @property
    def refuses(self) -> bool:
        """Whether whom it hits is not served, or would not be."""
        return self.action not in ("allow", "weigh", "tag")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the tally's fields beside the rule's. ``hits`` are those in force, ``shadow_hits`` those only watched."""
        told = asdict(self.told)
        hits = told.pop("hits")
        counted = {"hits": 0 if self.shadow else hits, "shadow_hits": hits if self.shadow else 0, "share": self.share}
        return {"rule": self.rule, "action": self.action, "shadow": self.shadow, **counted, **told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one policy would have done. Times in epoch seconds, None for a log without rows.

    ``actions``: requests by what is done with them. ``unknown_clients``: rows whose address does not parse (a host name, a keyed hash),
    which address and rate rules do not see. ``late``: rows older than the clock; ``restarts``: how often the log began again.
    ``people``: how many the clients table knows, None without one.
    """

    policy: str
    mode: str
    rows: int
    unparsed: int
    first: int | None
    last: int | None
    actions: dict[str, int]
    rules: tuple[RuleOutcome, ...]
    unjudged: tuple[Unjudged, ...]
    unknown_clients: int
    late: int
    restarts: int
    people: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        own = {name: getattr(self, name) for name in ("policy", "mode", "rows", "unparsed", "first", "last", "actions")}
        doubts = {name: getattr(self, name) for name in ("unknown_clients", "late", "restarts", "people")}
        return {
            **own,
            "lines": self.rows + self.unparsed,
            **doubts,
            "rules": [rule.to_dict() for rule in self.rules],
            "unjudged": [one._asdict() for one in self.unjudged],
        }


class Backtest:
    """Feed it the rows of a log, in order, and ask for the result.

    ``people``: the analyzer's clients table (columns client, class), to know whom a rule would hit. ``without``: columns that the
    log's format lacks ("ua", "referrer"), which are then unknown instead of absent. Raises DataError when a database of the
    policy cannot be used.
    """

    def __init__(self, policy: Policy, *, people: pl.DataFrame | None = None, without: Collection[str] = ()) -> None:
        self.policy, self.without = policy, frozenset(without)
        self._decider = Decider(policy, self.without)
        self._people = persons(people)
        rules = self._decider.ruleset.rules
        self._tallies = [Tally() for _ in rules]
        self._names = pl.Series(["", *(rule.id for rule in rules)])
        self._decisions: list[Decision] = [ALLOW, *(rule.decision for rule in rules)]
        self._actions = pl.Series([str(decision.action) for decision in self._decisions])
        self._status = pl.Series([decision.status for decision in self._decisions], dtype=pl.Int16)
        self._done: Counter[str] = Counter()
        self._rows = self._unparsed = self._unknown = self._hostless = 0
        self._first: int | None = None
        self._last: int | None = None

    def decide(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The decision on each of the next rows: action, rule ("" none), status, and shadow (the rules that would have acted)."""
        decided = self._decider.decide(rows)
        acting = [(n, hit) for n, hit in decided.hits if self._decider.ruleset.rules[n].shadow and self._decider.ruleset.rules[n].action]
        shadow = [pl.DataFrame({"row": hit, "shadow": pl.repeat(self._names[n + 1], hit.len(), eager=True)}) for n, hit in acting]
        listed = (
            pl.concat([pl.DataFrame(schema={"row": pl.UInt32, "shadow": pl.String}), *shadow])
            .group_by("row", maintain_order=True)
            .agg("shadow")
        )
        final = decided.final
        return (
            pl.DataFrame({"action": self._actions.gather(final), "rule": self._names.gather(final), "status": self._status.gather(final)})
            .with_row_index("row")
            .join(listed, on="row", how="left", maintain_order="left")
            .with_columns(pl.col("shadow").fill_null([]))
            .drop("row")
        )

    def feed(self, rows: pl.DataFrame, unparsed: int = 0) -> Decided:
        """Decide and count the next rows, and as many lines that were none."""
        decided = self._decider.decide(rows)
        shard = decided.shard
        self._rows += rows.height
        self._unparsed += unparsed
        if rows.height:
            first, last = int(rows["time"].min()), int(rows["time"].max())  # type: ignore[arg-type]
            self._first = first if self._first is None else min(first, self._first)
            self._last = last if self._last is None else max(last, self._last)
            self._hostless += int((rows["host"] == "").sum())
            self._unknown += shard.unknown()
            for number, count in decided.final.value_counts().iter_rows():
                self._done[self._actions[number]] += count
        people = self.persons_of(decided)
        for number, hit in decided.hits:
            self._tallies[number].add(shard, hit, people)
        return decided

    def said(self, final: int) -> tuple[str, str]:
        """Action and rule that an entry of ``Decided.final`` stands for."""
        return self._actions[final], self._names[final]

    def persons_of(self, decided: Decided) -> pl.Series | None:
        """The numbers of a shard's addresses that are people's; None without a clients table."""
        if self._people is None:
            return None
        ips = decided.shard.ips.unique()
        return ips.filter(decided.shard.addresses(ips).is_in(self._people.implode()))

    def result(self) -> Outcome:
        """What has come out so far."""
        return Outcome(
            policy=self.policy.name,
            mode=self.policy.mode,
            rows=self._rows,
            unparsed=self._unparsed,
            first=self._first,
            last=self._last,
            actions={str(action): self._done[action] for action in sorted(self._done)},
            rules=tuple(self._rule(n) for n in range(len(self._tallies))),
            unjudged=(*unjudged(self._decider.compiled, self.without), *self._without_host()),
            unknown_clients=self._unknown,
            late=self._decider.clock.late,
            restarts=self._decider.clock.restarts,
            people=None if self._people is None else self._people.len(),
        )

    def _rule(self, number: int) -> RuleOutcome:
        rule, tally = self._decider.ruleset.rules[number], self._tallies[number]
        action = str(rule.action) if rule.action else "tag" if rule.tags else "weigh"
        told = tally.told(people=self._people is not None)
        return RuleOutcome(rule=rule.id, action=action, shadow=rule.shadow, share=tally.hits / max(1, self._rows), told=told)

    def _without_host(self) -> Iterable[Unjudged]:
        if not self._hostless:
            return
        for rule in self._decider.ruleset.rules:
            if any(isinstance(leaf, Dynamic) and leaf.reads in HOST for leaf in leaves(rule.term)):
                share = f"{self._hostless} of {self._rows} lines do not name the host"
                yield Unjudged(rule.id, share, False)


def persons(clients: pl.DataFrame | None) -> pl.Series | None:
    """The clients (addresses as logged) that a clients table calls people."""
    return None if clients is None else clients.filter(pl.col("class") == "person")["client"].unique()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Requests that another policy treats otherwise. A rule of "" is none."""

    old_action: str
    old_rule: str
    new_action: str
    new_rule: str
    told: Told

    @property
    def acts(self) -> bool:
        """Whether something else is done with them; else it is only another rule that does it."""
        return self.old_action != self.new_action

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        old, new = (
            {"action": action, "rule": rule} for action, rule in ((self.old_action, self.old_rule), (self.new_action, self.new_rule))
        )
        return {"old": old, "new": new, **asdict(self.told)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two policies on the same log. ``changes``: those that act first, then by their requests."""

    old: Outcome
    new: Outcome
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"old": self.old.to_dict(), "new": self.new.to_dict(), "changes": [change.to_dict() for change in self.changes]}


class Diff:
    """Two policies in one pass over a log; see Backtest."""

    def __init__(self, old: Policy, new: Policy, *, people: pl.DataFrame | None = None, without: Collection[str] = ()) -> None:
        self._old, self._new = (Backtest(policy, people=people, without=without) for policy in (old, new))
        self._tallies: dict[tuple[str, str, str, str], Tally] = {}

    def feed(self, rows: pl.DataFrame, unparsed: int = 0) -> None:
        """Decide and count the next rows."""
        old, new = self._old.feed(rows, unparsed), self._new.feed(rows, unparsed)
        pairs = pl.DataFrame({"old": old.final, "new": new.final}).with_row_index("row")
        people = self._old.persons_of(old)
        for (before, after), part in pairs.partition_by("old", "new", maintain_order=True, as_dict=True).items():
            kind = (*self._old.said(before), *self._new.said(after))
            if kind[:2] == kind[2:]:
                continue
            if kind not in self._tallies and len(self._tallies) >= CHANGES:
                kind = OTHERS
            self._tallies.setdefault(kind, Tally()).add(old.shard, part["row"], people)

    def result(self) -> Difference:
        """What has come out so far."""
        old, new = self._old.result(), self._new.result()
        known = old.people is not None
        changes = [
            Change(old_action=kind[0], old_rule=kind[1], new_action=kind[2], new_rule=kind[3], told=tally.told(people=known))
            for kind, tally in self._tallies.items()
        ]
        changes.sort(key=lambda change: (not change.acts, -change.told.hits, change.old_rule, change.new_rule))
        return Difference(old=old, new=new, changes=tuple(changes))


def diff(old: Policy, new: Policy, shards: Iterable[pl.DataFrame], *, people: pl.DataFrame | None = None) -> Difference:
    """The difference of two policies on the shards of a log."""
    both = Diff(old, new, people=people)
    for rows in shards:
        both.feed(rows)
    return both.result()
