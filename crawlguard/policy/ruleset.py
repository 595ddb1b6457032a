"""A compiled policy: immutable, and pure but for the rates that it is handed. This file knows no YAML and no clock.

For each distinct mask of static facts (which agents, which networks) the rules are reduced once to a *plan*: the steps that
are still open. A request then runs its plan, which for an ordinary visitor is two or three rate checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from ..decision import ALLOW, Action, Decision
from ..request import RequestView
from ..signals.conduct import Conduct
from ..signals.match import RegexSet
from ..signals.rate import US
from ..signals.swarm import Swarm
from ..signals.ua import MAX_UA, Agent, UserAgentIndex
from .model import AUTO, RETRY_WITHOUT_RATE
from .terms import UNKNOWN_ADDRESS, UNKNOWN_ASN, UNKNOWN_COUNTRY, Ask, Hold, Rates, Term, Test, Verdict, specialise

POLICY_FILES = frozenset(
    ("/robots.txt", "/ai.txt", "/license.xml", "/.well-known/tdmrep.json", "/.well-known/rsl.xml", "/.well-known/security.txt"),
)
"""Always served: a 4xx robots.txt reads as "no restrictions" (RFC 9309 2.3.1.3), and a site's will must be readable."""

MAX_PLANS = 4096
"""Plans kept in memory; facts combine to far fewer, but a User-Agent can name any agents it likes."""

FILE_SERVED = Decision(reason="files that state the site's policy are always served")


@dataclass(slots=True)
class UaFacts:
    """What one User-Agent says: its mask bits, the agents named in it (the primary one first). Never changed once made."""

    mask: int
    agents: tuple[Agent, ...] = ()
    key: int = 0

    @property
    def agent(self) -> Agent | None:
        """The primary agent."""
        return self.agents[0] if self.agents else None


class Client(NamedTuple):
    """What one address says: its mask bits, and the keyed hashes under which it is counted.

    ``packed`` is None for an unknown client. ``asn`` is 0 and ``country`` "" where no database says.
    """

    packed: bytes | None
    mask: int
    ip_key: int = 0
    subnet_key: int = 0
    asn: int = 0
    country: str = ""


UNKNOWN_CLIENT = Client(None, UNKNOWN_ADDRESS | UNKNOWN_ASN | UNKNOWN_COUNTRY)


class AddressSet(NamedTuple):
    """A bit and the addresses that carry it: what ``ipdb`` makes a table of."""

    bit: int
    cidrs: tuple[str, ...] = ()
    asns: frozenset[int] = frozenset()
    countries: frozenset[str] = frozenset()


class CompiledRule(NamedTuple):
    """One rule, ready to run. ``inactive`` says why a rule takes no part, "" when it does.

    ``rehearsed``: in shadow because the whole policy is. Such a rule keeps later shadow rules from their turn, as it will
    when the policy is enforced; a rule that is in shadow by its own word does not.
    """

    id: str
    term: Term
    shadow: bool
    action: Action | None
    decision: Decision
    tags: tuple[str, ...] = ()
    weigh: int = 0
    retry_after: int = AUTO
    inactive: str = ""
    rehearsed: bool = False

    def verdict(self, wait: bool | int, tags: tuple[str, ...], shadow: tuple[Decision, ...], score: int) -> Decision:
        """The rule's decision for one request; ``wait`` is what its condition returned."""
        decision = self.decision
        if self.action is Action.THROTTLE:
            seconds = self.retry_after
            if seconds == AUTO:
                seconds = RETRY_WITHOUT_RATE if wait is True else -(-wait // US)
            return replace(decision, retry_after=seconds, tags=tags, shadow=shadow, score=score)
        return replace(decision, tags=tags, shadow=shadow, score=score) if tags or shadow or score else decision


class RuleVerdict(NamedTuple):
    """What one rule said in ``explain``: matched, not matched, unknown, not reached or inactive."""

    rule: str
    verdict: str
    action: str
    shadow: bool
    note: str = ""


Step = tuple[Test, CompiledRule]
Plan = tuple[tuple[Test, "CompiledRule | Run"], ...]


class Run(NamedTuple):
    """Steps that one test asks together (``store.together``): it says 0 when none of them holds, else the place of the first that does, from 1 on, with
    its verdict; True where they are to be asked one by one."""

    steps: tuple[Step, ...]


SEVERAL = 3
"""Steps that are worth a test of their own."""
MAX_RUNS = 64
"""Tests that are made of several: each takes a millisecond, and facts combine to few."""


def _singly(steps: Iterable[tuple[Test, CompiledRule | Run]]) -> Iterator[Step]:
    for test, rule in steps:
        if isinstance(rule, Run):
            yield from rule.steps
        else:
            yield test, rule


def _certain(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
    """The test of a rule that the mask alone has found to hold."""
    return True


def _asked(plan: Sequence[Step], view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int) -> Decision:
    """The decision from steps that are asked one by one."""
    steps = iter(plan)
    for test, rule in steps:
        wait = test(view, ua, client, rates, now, 0)
        if wait:
            return _decided(wait, rule, steps, view, ua, client, rates, now)
    return ALLOW


def _decided(
    wait: bool | int, rule: CompiledRule, rest: Iterator[Step],
    view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int,
) -> Decision:  # fmt: skip
    """The decision from the first rule on that holds; ``wait`` is what its test returned, ``rest`` the steps after it."""
    score, tags, shadow = 0, (), ()  # type: int, tuple[str, ...], tuple[Decision, ...]
    rehearsed = False
    while True:
        if not rule.shadow:
            score += rule.weigh
            tags += rule.tags
            if rule.action is not None:
                return rule.verdict(wait, tags, shadow, score)
        elif rule.action is not None:
            shadow += (rule.verdict(wait, tags, (), score),)
            rehearsed = rule.rehearsed
        for test, later in rest:
            if not (rehearsed and later.shadow) and (found := test(view, ua, client, rates, now, score)):
                wait, rule = found, later
                break
        else:
            return Decision(tags=tags, shadow=shadow, score=score) if tags or shadow or score else ALLOW


@dataclass(slots=True, kw_only=True)
class Ruleset:
    """A compiled policy.

    ``addresses`` and ``needs`` say which address data it wants: the caller builds the table and hands in Clients.
    ``needs`` may hold "ip", "subnet", "asn", "country", "fingerprint", "agent", "path", "global", and "response" when responses are
    counted. ``files`` are decided before any rule is asked; ``watches`` are told of who fetches /robots.txt, and ``settlers`` see every
    request whose path has a dot, as what belongs to pages has, before the rules do. ``holds`` says by rule whom its rates keep out, and where.
    ``asks``: what tests do that do nothing but ask a store, and ``together``: one test of several such, for those whose store can make it.
    """

    rules: tuple[CompiledRule, ...]
    index: UserAgentIndex
    agent_masks: Sequence[int]
    agent_key: Callable[[str], int]
    no_ua_bit: int
    ua_tests: Sequence[tuple[int, Callable[[str], bool]]]
    ua_regexes: RegexSet | None
    ua_regex_bits: Sequence[int]
    addresses: tuple[AddressSet, ...]
    needs: frozenset[str]
    networks: Mapping[str, int]
    files: Mapping[str, Decision] = field(default_factory=lambda: dict.fromkeys(POLICY_FILES, FILE_SERVED))
    watches: tuple[Test, ...] = ()
    settlers: tuple[Test, ...] = ()
    holds: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    asks: Mapping[Test, Ask] = field(default_factory=dict)
    together: Callable[[Sequence[tuple[Test, Ask]]], Test | None] | None = None
    _runs: dict[tuple[Test, ...], Test | None] = field(default_factory=dict)
    _plans: dict[int, Plan] = field(default_factory=dict)
    _strangers: dict[int, UaFacts] = field(default_factory=dict)

    def user_agent(self, raw: bytes | None) -> UaFacts:
        """The facts of one User-Agent header (None when absent). Only its first 512 bytes count."""
        raw = raw[:MAX_UA] if raw else b""
        numbers, mask = self.index.find(raw)
        for number in numbers:
            mask |= self.agent_masks[number]
        if self.no_ua_bit and (not raw or raw.isspace()):
            mask |= self.no_ua_bit
        if self.ua_tests:
            text = raw.lower().decode("latin-1")
            for bit, test in self.ua_tests:
                if test(text):
                    mask |= bit
        if self.ua_regexes is not None:
            for found in self.ua_regexes.find(raw):
                mask |= self.ua_regex_bits[found]
        if not numbers:  # all strangers with the same mask are alike; masks are few
            return self._strangers.get(mask) or self._strangers.setdefault(mask, UaFacts(mask))
        agents = self.index.agents
        return UaFacts(mask, tuple(agents[n] for n in numbers), self.agent_key(agents[numbers[0]].name))

    def plan(self, mask: int) -> Plan:
        """The steps that are open under a mask of static facts."""
        plan = self._plans.get(mask)
        if plan is None:
            steps: list[Step] = []
            for rule in self.rules:
                found = False if rule.inactive else specialise(rule.term, mask)
                if callable(found):
                    steps.append((found, rule))
                elif found:
                    steps.append((_certain, rule))
                    if rule.action is not None and not rule.shadow:
                        break
            plan = self._joined(steps)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[mask] = plan
        return plan

    def _joined(self, steps: Sequence[Step]) -> Plan:
        """The steps, with each run of several that only ask the store as one."""
        if self.together is None:
            return tuple(steps)
        plan: list[tuple[Test, CompiledRule | Run]] = []
        for asking, group in groupby(steps, lambda step: step[0] in self.asks):
            run = tuple(group)
            test = self._together(self.together, tuple([test for test, _ in run])) if asking and len(run) >= SEVERAL else None
            plan += run if test is None else [(test, Run(run))]
        return tuple(plan)

    def _together(self, make: Callable[[Sequence[tuple[Test, Ask]]], Test | None], tests: tuple[Test, ...]) -> Test | None:
        if tests not in self._runs and len(self._runs) < MAX_RUNS:
            self._runs[tests] = make([(test, self.asks[test]) for test in tests])
        return self._runs.get(tests)

    def evaluate(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int) -> Decision:
        """The decision on one request at ``now`` (microseconds of any steady clock). Counts it in ``rates``."""
        mask, path = ua.mask | client.mask, view.path
        try:
            plan = self._plans[mask]
        except KeyError:
            plan = self.plan(mask)
        if path in self.files:
            if path == "/robots.txt":
                for watch in self.watches:
                    watch(view, ua, client, rates, now, 0)
            return self.files[path]
        if self.settlers and "." in path:
            for settle in self.settlers:
                settle(view, ua, client, rates, now, 0)
        steps = iter(plan)
        for test, rule in steps:
            wait = test(view, ua, client, rates, now, 0)
            if wait:
                if not isinstance(rule, Run):
                    return _decided(wait, rule, _singly(steps), view, ua, client, rates, now)
                if not isinstance(wait, tuple):
                    return _asked([*rule.steps, *_singly(steps)], view, ua, client, rates, now)
                place, found = wait
                rest = iter([*rule.steps[place:], *_singly(steps)])
                return _decided(found, rule.steps[place - 1][1], rest, view, ua, client, rates, now)
        return ALLOW

    def explain(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int) -> tuple[Decision, list[RuleVerdict]]:
        """The decision, and what every rule said, in order. Counts the request in ``rates``, as ``evaluate`` does."""
        mask, verdicts, score, decided = ua.mask | client.mask, [], 0, view.path in self.files
        rehearsed = False
        for rule in self.rules:
            action = str(rule.action) if rule.action else "tag" if rule.tags else "weigh"
            if rule.inactive or decided or (rehearsed and rule.shadow):
                word = "inactive" if rule.inactive else "not reached"
                verdicts.append(RuleVerdict(rule.id, word, action, rule.shadow, rule.inactive))
                continue
            found = specialise(rule.term, mask)
            if callable(found):
                found = found(view, ua, client, _Peeking(rates), now, score)
            word = "unknown" if found is None else "matched" if found else "not matched"
            verdicts.append(RuleVerdict(rule.id, word, action, rule.shadow))
            if found and not rule.shadow:
                score += rule.weigh
                decided = rule.action is not None
            elif found and rule.action is not None:
                rehearsed = rehearsed or rule.rehearsed
        return self.evaluate(view, ua, client, rates, now), verdicts


class _Peeking:
    """Rates that only look, so that explaining a rule does not count the request twice."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        return self._rates.peek(key, now, interval, tolerance, hold)

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        return self._rates.peek(key, now, interval, tolerance, hold)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        return self._rates.conduct(key, now, within, kind, mark, True, limit)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        return self._rates.swarm(key, member, now, within, kind, mark, True, clients, times)

    def mark(self, text: str) -> int:
        return self._rates.mark(text)

    def forget(self, key: int) -> None:
        pass
