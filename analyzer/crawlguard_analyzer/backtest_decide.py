"""The rules of a Ruleset asked of many requests at once, rule by rule instead of request by request, with the answers of ``evaluate``.

That order is as good, because what one rule counts no other rule sees. Requests with the same open steps (see ``Ruleset.plan``) go
through them together; a path, host, method, referrer or score is tested once for each different value; ``backtest_rates`` counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from typing import NamedTuple, NoReturn, cast

import polars as pl

from crawlguard.policy.model import Policy
from crawlguard.policy.ruleset import UNKNOWN_CLIENT, UaFacts
from crawlguard.policy.terms import COUNTS, Counts, Dynamic, Group, Negated, Term, reduce
from crawlguard.signals.rate import US

from .backtest_facts import Facts, Shard
from .backtest_rates import FALSE, TRUE, UNKNOWN, Rate
from .backtest_sight import Clock, leaves, of_a_log, path_of, view_of

PLANS = 4096
"""Plans that are remembered."""

Rows = pl.Series
"""Numbers of rows in a shard (UInt32), rising."""
Asking = Generator[tuple[Counts, Rows], pl.Series, pl.Series]
"""The verdicts on some rows (UInt8 each), on the way asking for those of rates."""
Plan = tuple[tuple[int, Term | None], ...]
"""The rules (by number) that are open under a mask, and what is left of their terms: None when they match for certain."""


class Decided(NamedTuple):
    """What the rules said of a shard.

    ``final``: for each row 0, or 1 + the number of the rule that decided. ``hits``: the rows that each rule matched in its turn, be it to
    decide, in shadow, to weigh or to tag.
    """

    shard: Shard
    final: pl.Series
    hits: list[tuple[int, Rows]]


class Decider:
    """Decides shards of rows (see ``rows.ROWS``) in the order of the log. ``without``: columns that the log lacks.

    ``ruleset`` is the policy's, as a log lets one ask it. Raises DataError when a database of the policy cannot be used.
    """

    def __init__(self, policy: Policy, without: Collection[str] = ()) -> None:
        self._facts = Facts(policy)
        self.compiled = self._facts.ruleset
        self.ruleset = of_a_log(self.compiled, without)
        counts = [leaf.reads for rule in self.ruleset.rules for leaf in leaves(rule.term) if isinstance(leaf, Dynamic)]
        self._rates = {rate: Rate(rate) for rate in counts if isinstance(rate, Counts)}
        self._order = {rate: n for n, rate in enumerate(self._rates)}
        longest = max((max(rate.hold, *(w.tolerance for _, w in rate.windows)) for rate in self._rates), default=0)
        self.clock = Clock(longest // US + 2)
        self._plans: dict[int, Plan] = {}
        self._served = _served(self.ruleset.files)

    def decide(self, rows: pl.DataFrame) -> Decided:
        """The next shard. Raises DataError when its time runs back again and again."""
        return _Asked(self, self._facts.of(rows), self.clock.steady(rows["time"])).decided()

    def plan(self, mask: int) -> Plan:
        """The open steps under a mask, as ``Ruleset.plan`` has them."""
        plan = self._plans.get(mask)
        if plan is None:
            steps: list[tuple[int, Term | None]] = []
            for number, rule in enumerate(self.ruleset.rules):
                left = False if rule.inactive else reduce(rule.term, mask)
                if isinstance(left, tuple):
                    steps.append((number, left))
                elif left:
                    steps.append((number, None))
                    if rule.action is not None and not rule.shadow:
                        break
            if len(self._plans) >= PLANS:
                self._plans.clear()
            plan = self._plans[mask] = tuple(steps)
        return plan

    def rate(self, counts: Counts) -> tuple[int, Rate]:
        """A rate and its place in the order of the policy."""
        return self._order[counts], self._rates[counts]

    def served(self, targets: pl.Series) -> Rows:
        """The rows whose path is decided before any rule is asked."""
        maybe = targets.str.contains(self._served).arg_true()
        texts = targets.gather(maybe)
        named = [target for target in texts.unique().to_list() if path_of(target) in self.ruleset.files]
        return maybe.filter(texts.is_in(named))


def _served(files: Collection[str]) -> str:
    """A pattern (of Rust's linear kind) for all targets that could mean one of the files: any of their characters may be percent-encoded."""

    def either(char: str) -> str:
        codes = "".join(f"%{byte:02x}" for byte in char.encode())
        return f"(?:{re.escape(char)}|(?i:{codes}))"

    return rf"^(?:(?i:https?)://[^/?#]*)?(?:{'|'.join(''.join(map(either, file)) for file in files)})(?:\?|$)"


class _Group:
    """Requests with one plan, on their way through it: those still open, and of them those in rehearsal (see CompiledRule)."""

    def __init__(self, plan: Plan, rows: Rows) -> None:
        self.terms = dict(plan)
        self.open = rows
        self.rehearsed = rows.clear()


class _Asked:
    """One shard on its way through the rules."""

    def __init__(self, decider: Decider, shard: Shard, now: pl.Series) -> None:
        self._decider, self._shard, self._now = decider, shard, now
        self._score = pl.zeros(shard.rows.height, dtype=pl.Int64, eager=True)
        self._final = pl.zeros(shard.rows.height, dtype=pl.UInt32, eager=True)

    def decided(self) -> Decided:
        hits: list[tuple[int, Rows]] = []
        groups = self._groups() if self._shard.rows.height else []
        for number in sorted({number for group in groups for number in group.terms}):
            rows = self._rule(number, [group for group in groups if number in group.terms])
            if rows.len():
                hits.append((number, rows))
        return Decided(self._shard, self._final, hits)

    def _groups(self) -> list[_Group]:
        numbers, masks = self._shard.masks()
        plans = {plan: n for n, plan in enumerate(dict.fromkeys(map(self._decider.plan, masks)))}
        of_mask = pl.Series([plans[self._decider.plan(mask)] for mask in masks], dtype=pl.UInt32)
        rows = pl.DataFrame({"plan": of_mask.gather(numbers)}).with_row_index("row")
        served = self._decider.served(self._shard.rows["target"])
        if served.len():
            rows = rows.filter(~pl.col("row").is_in(served.implode()))
        if len(plans) > 1:
            parts = rows.partition_by("plan", maintain_order=True, as_dict=True)
        else:
            parts = {(0,): rows}
        return [_Group(plan, parts[n,]["row"]) for plan, n in plans.items() if plan and (n,) in parts]

    def _rule(self, number: int, groups: list[_Group]) -> Rows:
        """Ask one rule of all groups that it is open for; the rows that matched."""
        rule = self._decider.ruleset.rules[number]
        if rule.shadow:
            candidates = [group.open for group in groups]
        else:
            candidates = [self._merged([group.open, group.rehearsed]) for group in groups]
        matched: list[Rows] = []
        verdicts = self._verdicts([(group.terms[number], rows) for group, rows in zip(groups, candidates, strict=True)])
        for group, rows, verdict in zip(groups, candidates, verdicts, strict=True):
            holds = rows if verdict is None else rows.filter(verdict == TRUE)
            if not holds.len():
                continue
            matched.append(holds)
            if rule.shadow:
                if rule.action is not None and rule.rehearsed:
                    group.open, group.rehearsed = self._less(group.open, holds), self._merged([group.rehearsed, holds])
            elif rule.action is not None:
                group.open, group.rehearsed = self._less(group.open, holds), self._less(group.rehearsed, holds)
        rows = self._merged(matched)
        if rows.len() and not rule.shadow:
            if rule.weigh:
                self._score.scatter(rows, self._score.gather(rows) + rule.weigh)
            if rule.action is not None:
                self._final.scatter(rows, number + 1)
        return rows

    def _verdicts(self, asked: list[tuple[Term | None, Rows]]) -> list[pl.Series | None]:
        """The verdicts of terms that are left of one rule, each on its rows; None: all match.

        Several may ask for the same rate: it is then asked once, for all their rows in the order of time. A term asks for its rates in
        the order of the policy, so when the first in that order is asked for, everybody who will want it is waiting.
        """
        found: list[pl.Series | None] = [None] * len(asked)
        waiting: dict[int, tuple[Asking, Counts, Rows]] = {}

        def go_on(n: int, asking: Asking, answer: pl.Series | None) -> None:
            try:
                waiting[n] = (asking, *asking.send(answer)) if answer is not None else (asking, *next(asking))
            except StopIteration as done:
                waiting.pop(n, None)
                found[n] = done.value

        for n, (term, rows) in enumerate(asked):
            if term is not None and rows.len():
                go_on(n, self._ask(term, rows), None)
        while waiting:
            place, rate = min((self._decider.rate(counts) for _, counts, _ in waiting.values()), key=lambda pair: pair[0])
            here = {n: (asking, counts, rows) for n, (asking, counts, rows) in waiting.items() if self._decider.rate(counts)[0] == place}
            counts = next(iter(here.values()))[1]
            rows = self._merged([rows for _, _, rows in here.values()])
            verdict = rate.verdicts(self._shard.keys(counts.per, rows), self._now.gather(rows), int(self._now[-1]))
            if len(here) > 1:
                verdict = pl.zeros(self._shard.rows.height, dtype=pl.UInt8, eager=True).scatter(rows, verdict)
            for n, (asking, _, mine) in here.items():
                go_on(n, asking, verdict if len(here) == 1 else verdict.gather(mine))
        return found

    def _merged(self, parts: list[Rows]) -> Rows:
        """Rows of several sets, rising."""
        parts = [part for part in parts if part.len()]
        if len(parts) == 1:
            return parts[0]
        return self._marked(parts).arg_true()

    def _less(self, rows: Rows, out: Rows) -> Rows:
        """Rows without some of them."""
        return self._marked([rows]).scatter(out, False).arg_true() if rows.len() and out.len() else rows

    def _marked(self, parts: list[Rows]) -> pl.Series:
        marks = pl.repeat(False, self._shard.rows.height, dtype=pl.Boolean, eager=True)
        for part in parts:
            marks.scatter(part, True)
        return marks

    def _ask(self, term: Term, rows: Rows) -> Asking:
        """The verdicts of a term on rows."""
        if isinstance(term, Dynamic):
            if isinstance(term.reads, Counts):
                return (yield term.reads, rows)
            return self._looked(term, term.reads, rows)
        if isinstance(term, Negated):
            verdict = yield from self._ask(term.term, rows)
            return pl.Series([TRUE, UNKNOWN, FALSE], dtype=pl.UInt8).gather(verdict)
        return (yield from self._group(cast(Group, term), rows))

    def _group(self, group: Group, rows: Rows) -> Asking:
        """AND and OR, as ``terms`` has them: what is decided is asked no further, and what is unknown does not count in an AND."""
        neutral, deciding = (TRUE, FALSE) if group.every else (FALSE, TRUE)
        found = pl.repeat(UNKNOWN if group.unknown else neutral, rows.len(), dtype=pl.UInt8, eager=True)
        at = pl.int_range(rows.len(), dtype=pl.UInt32, eager=True)
        for term in group.terms:
            asked = at
            if group.every and term.rank == COUNTS:
                asked = at.filter(found.gather(at) == neutral)
            if not asked.len():
                continue
            verdict = yield from self._ask(term, rows if asked.len() == rows.len() else rows.gather(asked))
            decided, unknown = asked.filter(verdict == deciding), asked.filter(verdict == UNKNOWN)
            if unknown.len():
                found.scatter(unknown, UNKNOWN)
            if decided.len():
                found.scatter(decided, deciding)
                at = at.filter(found.gather(at) != deciding)
        return found

    def _looked(self, term: Dynamic, what: str, rows: Rows) -> pl.Series:
        """A test that looks, asked once for each different value."""
        if what == "score":
            scores = self._score.gather(rows)
            different = scores.unique()
            answers = [_verdict(term.test(_NOBODY, _NO_AGENT, UNKNOWN_CLIENT, _NO_RATES, 0, score)) for score in different.to_list()]
            return scores.replace_strict(different, pl.Series(answers, dtype=pl.UInt8))
        numbers, views = self._shard.read(what)
        mine = numbers.gather(rows)
        table = pl.zeros(len(views), dtype=pl.UInt8, eager=True)
        different = mine.unique()
        answers = [_verdict(term.test(views[n], _NO_AGENT, UNKNOWN_CLIENT, _NO_RATES, 0, 0)) for n in different.to_list()]
        return table.scatter(different, pl.Series(answers, dtype=pl.UInt8)).gather(mine)


class _NoRates:
    """For tests that only look: there is nothing to count."""

    def hit(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("a test that reads no rate has counted")

    peek = conduct = swarm = mark = forget = hit


_NOBODY, _NO_AGENT, _NO_RATES = view_of(), UaFacts(0), _NoRates()


def _verdict(result: bool | int | None) -> int:
    return UNKNOWN if result is None else TRUE if result else FALSE
