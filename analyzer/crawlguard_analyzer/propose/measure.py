"""The exact reach of rules: by the guard's own engine on the log where there is one, else by the compiled rules on the clients table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from crawlguard.policy.compile import compile_policy
from crawlguard.policy.model import Policy, Rule
from crawlguard.policy.terms import specialise

from .candidates import Candidate
from .cover import Cover, Reach
from .load import KEPT, LOAD, PERSON, SLOW, UNSURE, Load, client_masks
from .proof import HITS, Proof, Shards, proved, with_rules
from .written import needs_asn, read_back, rule_text


@dataclass(slots=True)
class Bench:
    """Measures candidates, and keeps what it has found: ``proof``, ``measured`` (ids), and ``notes`` on those that did not pass."""

    load: Load
    shards: Shards | None
    proof: Proof = field(default_factory=Proof)
    measured: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def measure(self, waiting: Sequence[Candidate]) -> dict[str, Candidate]:
        """Those of some candidates that can be proposed, by id, with what they do in truth. Raises DataError."""
        rules = {
            one.id: read_back(rule_text(one.id, one.when, one.then, one.says, ()), one.when, asn=needs_asn(one.when)) for one in waiting
        }
        self.notes += [f"{id_}: left out, as its text could be read in another way" for id_, rule in rules.items() if rule is None]
        sound = [rule for rule in rules.values() if rule is not None]
        if self.shards is None:
            self.proof.hits = pl.concat([self.proof.hits, table_hits(self.load, self.load.policy, sound)])
        else:
            self.proof.add(proved(self.load.policy, sound, self.shards))
        self.measured |= {rule.id for rule in sound}
        told = self.proof.hits.join(self.load.clients.select("client", "row", "side"), on="client")
        found = {one.id: self._true(one, told.filter(pl.col("rule") == one.id)) for one in waiting if rules[one.id] is not None}
        return {id_: one for id_, one in found.items() if one is not None}

    def _true(self, one: Candidate, hits: pl.DataFrame) -> Candidate | None:
        never = (KEPT,) if one.then == "throttle" else (KEPT, SLOW)
        kept = hits.filter(pl.col("side").is_in(never))
        if kept.height:
            if one.cover.reach.rows.len():  # it was chosen, and not only tried
                self.notes.append(f"{one.id}: left out, as it hits {kept.height} clients that are never to be hit")
            return None
        loads = hits.filter(pl.col("side").is_in(LOAD))
        people, unsure = (int((hits["side"] == side).sum()) for side in (PERSON, UNSURE))
        return replace(one, cover=Cover(Reach(loads["row"], loads["requests"]), one.cover.complexity, people, unsure))


def table_hits(load: Load, policy: Policy, rules: Sequence[Rule]) -> pl.DataFrame:
    """What rules without rates reach in the clients table, by the compiled rules themselves: rows as of ``Proof.hits``."""
    whole = with_rules(policy, rules)
    ruleset = compile_policy(whole)
    numbers, masks = client_masks(ruleset, whole, load.clients)
    told = load.clients.select("client", "requests", "bytes", "spent", "first", "last").with_columns(numbers)
    parts = [pl.DataFrame(schema=HITS)]
    for rule in ruleset.rules[len(ruleset.rules) - len(rules) :]:
        holding = [number for number, mask in enumerate(masks) if specialise(rule.term, mask) is True]
        parts.append(told.filter(pl.col("mask").is_in(holding)).select(pl.lit(rule.id).alias("rule"), *list(HITS)[1:]))
    return pl.concat(parts)
