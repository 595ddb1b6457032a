"""From a Policy to a Ruleset: every condition becomes a bit (what depends on the User-Agent or the address alone) or a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from ..decision import DEFAULT_STATUS, Action, Answer, Decision
from ..request import RequestView, tidy
from ..signals.match import RegexSet, path_test, text_test
from ..signals.ua import Agent, UserAgentIndex, folded
from . import conditions as c
from .check import agents_of, missing_data, networks_of
from .compile_rates import compile_rate, constant
from .compile_swarm import SwarmTest
from .model import Policy, Rule
from .rates import RateOver
from .ruleset import AddressSet, CompiledRule, Ruleset
from .swarms import SwarmIs
from .terms import (
    FIRST_BIT,
    UNKNOWN_ADDRESS,
    UNKNOWN_ASN,
    UNKNOWN_COUNTRY,
    Ask,
    Dynamic,
    Hold,
    Negated,
    Static,
    Term,
    Test,
    group,
)


def compile_policy(policy: Policy) -> Ruleset:
    """The Ruleset of a policy that ``check`` has found good. Pure: databases and stores are the caller's."""
    return _Compiler(policy).ruleset()


class _Compiler:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.bit = FIRST_BIT
        self.known: dict[object, Static] = {}
        self.agent_masks = [0] * len(policy.agents)
        self.literals: list[tuple[str, int]] = []
        self.no_ua_bit = 0
        self.ua_tests: list[tuple[int, Callable[[str], bool]]] = []
        self.regexes: list[tuple[str, int]] = []
        self.sets: list[AddressSet] = []
        self.needs: set[str] = set()
        self.networks: dict[str, int] = {}
        self.rates: Counter[tuple[str, ...]] = Counter()
        self.watches: list[Test] = []
        self.settlers: list[Test] = []
        self.holds: dict[str, tuple[Hold, ...]] = {}
        self.asks: dict[Test, Ask] = {}

    def ruleset(self) -> Ruleset:
        rules = tuple(self._rule(rule) for rule in self.policy.rules)
        return Ruleset(
            rules=rules,
            index=UserAgentIndex(self.policy.agents, self.literals),
            agent_masks=tuple(self.agent_masks),
            agent_key=partial(constant, "agent"),
            no_ua_bit=self.no_ua_bit,
            ua_tests=tuple(self.ua_tests),
            ua_regexes=RegexSet([p for p, _ in self.regexes]) if self.regexes else None,
            ua_regex_bits=tuple(b for _, b in self.regexes),
            addresses=tuple(self.sets),
            needs=frozenset(self.needs),
            networks=self.networks,
            watches=tuple(self.watches),
            settlers=tuple(self.settlers),
            holds=self.holds,
            asks=self.asks,
        )

    def _rule(self, rule: Rule) -> CompiledRule:
        then, missing = rule.then, " and ".join(missing_data(rule.when, self.policy))
        action = Action(then.action) if then.action else None
        answer = None
        if action and then.custom:
            answer = Answer(
                status=then.status or DEFAULT_STATUS[action], headers=then.headers, text=then.text, html=then.html, json=then.json
            )
        reason = rule.reason or f"rule {rule.id}"
        decision = Decision(action=action or Action.ALLOW, rule=rule.id, reason=reason, answer=answer)
        hold = then.block_for
        return CompiledRule(
            id=rule.id,
            term=group(True, []) if missing else self._term(rule.when, rule.id, hold),
            shadow=(rule.mode or self.policy.mode) == "shadow" if action else rule.mode == "shadow",
            action=action,
            decision=decision,
            tags=then.tags,
            weigh=then.weigh,
            retry_after=then.retry_after,
            inactive=missing,
            rehearsed=bool(action) and rule.mode is None,
        )

    def _term(self, when: c.Condition, rule: str, hold: int | None) -> Term:
        if isinstance(when, c.All | c.AnyOf):
            return group(isinstance(when, c.All), [self._term(part, rule, hold) for part in when.of])
        if isinstance(when, c.Not):
            inner = self._term(when.of, rule, hold)
            return Negated(inner, inner.rank)
        if isinstance(when, c.TextIs):
            return self._user_agent(when) if when.what == "user_agent" else _text(when)
        if isinstance(when, RateOver):
            return self._rate(when, rule, hold)
        if isinstance(when, SwarmIs):
            return self._swarm(when, rule)
        if isinstance(when, c.ScoreIs):
            return _score(when)
        if isinstance(when, c.MethodIs):
            methods = frozenset(m.upper() for m in when.methods)
            # Django takes a method in any case for what it is in capitals, and servers hand it over as it was sent.
            return Dynamic(lambda view, ua, client, rates, now, score: view.method.upper() in methods, "method")
        if isinstance(when, c.AgentIs):
            return self._agent(when)
        return self._address(when)

    # ---- bits

    def _new_bit(self) -> int:
        self.bit <<= 1
        return self.bit >> 1

    def _agent(self, when: c.AgentIs) -> Static:
        numbers = frozenset(agents_of(when, self.policy))
        if numbers not in self.known:
            bit = self._new_bit()
            self.known[numbers] = Static(bit)
            for number in numbers:
                self.agent_masks[number] |= bit
        return self.known[numbers]

    def _user_agent(self, when: c.TextIs) -> Term:
        terms: list[Term] = []
        for kind, values in when.tests:
            key = ("ua", kind, values)
            if key not in self.known:
                bit = self._new_bit()
                self.known[key] = Static(bit)
                if kind == "contains":
                    self.literals += [(v, bit) for v in values]
                elif kind == "regex":
                    self.regexes += [(v, bit) for v in values]
                else:
                    self.ua_tests.append((bit, text_test(kind, [folded(v) for v in values], fold=False)))
            terms.append(self.known[key])
        if when.missing is not None:
            self.no_ua_bit = self.no_ua_bit or self._new_bit()
            term = Static(self.no_ua_bit)
            terms.append(term if when.missing else Negated(term, 0))
        return group(True, terms)

    def _address(self, when: c.AddressIn | c.NetworkIs | c.AsnIs | c.CountryIs) -> Term:
        if isinstance(when, c.NetworkIs):
            return group(False, [self._network(name) for name in networks_of(when, self.policy)])
        if isinstance(when, c.AddressIn):
            return self._addresses(("cidrs", when.cidrs), cidrs=when.cidrs, unknown=UNKNOWN_ADDRESS)
        if isinstance(when, c.AsnIs):
            self.needs.add("asn")
            return self._addresses(("asns", when.numbers), asns=when.numbers, unknown=UNKNOWN_ASN)
        self.needs.add("country")
        codes = tuple(code.upper() for code in when.codes)
        return self._addresses(("countries", codes), countries=codes, unknown=UNKNOWN_COUNTRY)

    def _network(self, name: str) -> Term:
        """By its CIDRs, by its systems, or (both) either way: outside the CIDRs an unknown ASN leaves the question open."""
        network = self.policy.networks[name]
        parts: list[Static] = []
        if network.cidrs or not self.policy.asn:
            parts.append(self._addresses(("network", name), cidrs=network.cidrs, unknown=UNKNOWN_ADDRESS))
        if network.asns and self.policy.asn:
            self.needs.add("asn")
            parts.append(self._addresses(("network by asn", name), asns=network.asns, unknown=UNKNOWN_ASN))
        self.networks[name] = sum(part.bit for part in parts)
        return group(False, list(parts))

    def _addresses(
        self, key: object, *, unknown: int, cidrs: tuple[str, ...] = (), asns: Iterable[int] = (), countries: Iterable[str] = ()
    ) -> Static:
        if key not in self.known:
            self.known[key] = Static(self._new_bit(), unknown)
            self.sets.append(AddressSet(self.known[key].bit, cidrs, frozenset(asns), frozenset(countries)))
        return self.known[key]

    # ---- tests

    def _rate(self, when: RateOver, rule: str, hold: int | None) -> Dynamic:
        self.needs.update(when.per)
        found = compile_rate(when, rule, hold, self.rates)
        if found.watch is not None:
            self.watches.append(found.watch)
        if found.responses:
            self.needs.add("response")
        if found.hold is not None:
            self.holds[rule] = (*self.holds.get(rule, ()), found.hold)
        if found.ask is not None:
            self.asks[found.term.test] = found.ask
        return found.term

    def _swarm(self, when: SwarmIs, rule: str) -> Dynamic:
        self.needs.update(("ip", *when.per))
        test = SwarmTest(when, rule)
        self.settlers.append(test.settle)
        term = test.term()
        self.asks[term.test] = test.ask()
        return term


def _score(when: c.ScoreIs) -> Dynamic:
    low = -(1 << 40) if when.at_least is None else when.at_least
    high = (1 << 40) if when.below is None else when.below
    return Dynamic(lambda view, ua, client, rates, now, score: low <= score < high, "score")


def _text(when: c.TextIs) -> Term:
    terms: list[Term] = []
    reads = f"header {when.header}" if when.header else when.what
    name = when.header.encode("ascii", "replace")
    read = {"path": lambda v: tidy(v.path), "host": lambda v: v.host}.get(when.what)
    for kind, values in when.tests:
        test = _on(read, _tester(when.what, kind, values)) if read else _on_header(name, kind, values)
        terms.append(Dynamic(test, reads))
    if when.what == "header" and when.missing is not None:
        wanted = when.missing
        terms.append(Dynamic(lambda view, ua, client, rates, now, score: (not (view.header(name) or b"").strip()) is wanted, reads))
    return group(True, terms)


def _on(read: Callable[[RequestView], str], test: Callable[[str], bool]) -> Test:
    return lambda view, ua, client, rates, now, score: test(read(view))


def _on_header(name: bytes, kind: str, values: tuple[str, ...]) -> Test:
    """Headers are bytes; their values are compared as User-Agents are (see ``folded``), and regexes see the bytes themselves."""
    if kind == "regex":
        patterns = RegexSet(values)
        return lambda view, ua, client, rates, now, score: bool(patterns.find(view.header(name) or b""))
    test = text_test(kind, [folded(v) for v in values], fold=False)
    return lambda view, ua, client, rates, now, score: test((view.header(name) or b"").lower().decode("latin-1"))


def _tester(what: str, kind: str, values: tuple[str, ...]) -> Callable[[str], bool]:
    if kind == "robots":
        return path_test(values)
    if what == "host" and kind == "is":
        plain = frozenset(v.lower() for v in values if not v.startswith("*."))
        suffixes = tuple(v[1:].lower() for v in values if v.startswith("*."))
        return lambda text: text in plain or text.endswith(suffixes)
    return text_test(kind, values, fold=what != "path")


__all__ = ["Agent", "compile_policy"]
