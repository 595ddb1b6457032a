"""The wiring: a policy becomes a live guard that decides, counts, logs, reloads, and never takes a site down.

All state of one policy is one ``Live`` object, replaced by one assignment: no request ever sees half of each. The fail-open
rule lives here and nowhere else: an exception while deciding serves the request.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from .bans import Standing, open_bans
from .decision import ALLOW, Decision
from .errors import CrawlGuardError, PolicyError
from .events import Counters, EventLog, Once, Privacy
from .live import Live
from .loader import load_policy
from .log import own
from .marks import EXEMPT, STRICT
from .paths import stamp
from .policy.model import Policy
from .policy.ruleset import UNKNOWN_CLIENT, Client, Ruleset, RuleVerdict, UaFacts
from .request import RequestView
from .settings import Settings, with_settings
from .store import RateStore, is_remote, open_store
from .whose import client_of


class Guard:
    """Decides about requests by one policy, and follows that policy's file while it runs.

    ``policy``: None for the bundled default, a path, ``builtin:NAME`` or a Policy. ``settings``: see Settings.
    ``charges``: whether the policy counts responses, so that the doors have to tell them (``responded``). ``speaks``: whether it has headers
    for the site's answers (``site_headers``). ``bans``: those that stand.
    ``clock`` gives steady nanoseconds, the same for all processes that share a store. Guards with one policy, working
    directory and ``counts_as`` count together: that is how workers share. Raises PolicyError, ConfigError
    or DataError when the policy or a setting cannot be used; after that, nothing here raises.
    """

    def __init__(
        self,
        policy: str | os.PathLike[str] | Policy | None = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        watch: bool = True,
        counts_as: str = "",
        **settings: Unpack[Settings],
    ) -> None:
        self._source, self._settings, self._clock = policy, settings, clock
        self.counters = Counters()
        self.once = Once(lambda: clock() / 1e9)
        loaded = with_settings(load_policy(policy), **settings)
        self._store, complaint = open_store(loaded.store, f"{loaded.name}\0{os.getcwd()}\0{counts_as}", clock)
        if complaint:
            own.warning(complaint)
        self.bans = Standing(open_bans(self._store, clock), self.once)
        self.charges = self.speaks = False
        self.remote = is_remote(self._store)
        self._live = self._make_live(loaded)
        self._sources, self._seen = loaded.sources, stamp(loaded.sources)
        self.forget_locks()
        for warning in loaded.warnings:
            own.warning("%s", warning)
        if watch and not isinstance(policy, Policy):  # a bundled one has lists that are updated, too
            from .watch import Watcher  # no command needs it

            Watcher.start(self)

    @property
    def policy(self) -> Policy:
        """The policy in force, with the settings given in code."""
        return self._live.policy

    @property
    def ruleset(self) -> Ruleset:
        """The compiled policy in force."""
        return self._live.ruleset

    @property
    def store(self) -> RateStore:
        """Where rates are counted."""
        return self._store

    @property
    def live(self) -> Live:
        """All of the policy in force: for those who look into a running site (``crawlguard ban``)."""
        return self._live

    @property
    def events(self) -> EventLog:
        """The decision log in force."""
        return self._live.events

    def site_headers(self, path_of: Callable[[Any], str], request: object) -> tuple[tuple[str, str], ...]:
        """What the doors add to the application's answer to a request: nothing unless the policy says ``serve: {headers: true}``."""
        headers = self._live.headers
        if headers is None:
            return ()
        try:
            return headers.for_path(path_of(request))
        except Exception:
            self.fail_open()
            return ()

    # ---- deciding

    def decide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        """The decision on one request. Never raises: what goes wrong serves the request, and is counted and logged.

        ``locate`` finds the application's view function for the request; a door gives it while any view is marked
        (see ``views``).
        """
        if self.remote:
            return self._decide_elsewhere(view, locate)
        try:
            live = self._live
            raw = view.agent() if live.fingerprints else view.first(b"user-agent")
            ua = live.uas.get(raw)
            if ua is None:
                ua = live.user_agent(raw)
            client = live.clients.get(view.peer)
            if client is None:
                client = client_of(live, view, self.once)
            now = self._clock() // 1000
            bans = self.bans
            if bans.changes[0] == bans.quiet or (decision := bans.refusal(live, view, client, now)) is None:
                decision = live.ruleset.evaluate(view, ua, client, live.store, now)
            if locate is not None:
                decision = _for_view(decision, view, client, locate)
            if decision is ALLOW and not ua.agents and not live.sampling:
                self.counters.allowed += 1
                return decision
            return self._told(live, decision, view, ua, client, now)
        except Exception:
            return self.fail_open()

    def _told(self, live: Live, decision: Decision, view: RequestView, ua: UaFacts, client: Client, now: int) -> Decision:
        """Count the decision, and log it where it is to be logged."""
        if ua.agents and live.audit is not None and live.audit.disobeys(ua, view.path, now):
            self._note(live, decision, view, ua, client, disobeyed=True)
        elif decision is ALLOW:
            self.counters.allowed += 1
            if live.sampling and live.events.wants_allow():
                live.events.record(decision, view, ua, client)
        else:
            self._note(live, decision, view, ua, client)
        return decision

    # ---- with a store on another machine: the same, in one call to it

    def _decide_elsewhere(self, view: RequestView, locate: Callable[[], object] | None) -> Decision:
        try:
            live, ua, client, now, evaluate = self._asked(view)
            decision = self._store.decide(view, evaluate)  # type: ignore[attr-defined]
            return self._told(live, decision if locate is None else _for_view(decision, view, client, locate), view, ua, client, now)
        except Exception:
            return self.fail_open()

    async def adecide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        """``decide`` for asynchronous callers, who do not wait for a store on another machine."""
        if not self.remote:
            return self.decide(view, locate)
        try:
            live, ua, client, now, evaluate = self._asked(view)
            decision = await self._store.adecide(view, evaluate)  # type: ignore[attr-defined]
            if locate is not None:
                decision = await _afor_view(decision, view, client, locate)
            return self._told(live, decision, view, ua, client, now)
        except Exception:
            return self.fail_open()

    def _asked(self, view: RequestView) -> tuple[Live, UaFacts, Client, int, Callable[[Any], Decision]]:
        """What a decision rests on, and what comes to it once the rates are known."""
        live = self._common()
        raw = view.first(b"user-agent")
        ua = live.uas.get(raw) or live.user_agent(raw)
        client = live.clients.get(view.peer) or client_of(live, view, self.once)
        now = self._clock() // 1000
        return (
            live,
            ua,
            client,
            now,
            lambda rates: self.bans.refusal(live, view, client, now) or live.ruleset.evaluate(view, ua, client, rates, now),
        )

    def _common(self) -> Live:
        """The policy in force, with clients' keys under the seed that all hosts have in common, once that has been heard of."""
        live, seed = self._live, self._store.seed
        if live.seed is not seed:
            with self._swapping:  # a policy that is put in force meanwhile stays
                live = self._live
                if live.seed is not seed:
                    live = self._live = live.under(seed)
        return live

    # ---- a second opinion

    def decide_for(self, view: RequestView, packed: bytes | None) -> Decision:
        """The decision on a request of a client whose packed address is known by other means; None stands for unknown.

        For a second opinion: nothing is logged or counted here, and unlike ``decide`` it raises what goes wrong.
        """
        evaluate = self._opinion(view, packed)
        if not self.remote:
            return evaluate(self._store)
        owed = getattr(view, "owed", ())
        try:
            return self._store.decide(view, evaluate)  # type: ignore[attr-defined, no-any-return]
        finally:
            _owe(view, owed)

    async def adecide_for(self, view: RequestView, packed: bytes | None) -> Decision:
        """``decide_for`` for asynchronous callers, who do not wait for a store on another machine."""
        if not self.remote:
            return self.decide_for(view, packed)
        owed = getattr(view, "owed", ())
        try:
            return await self._store.adecide(view, self._opinion(view, packed))  # type: ignore[attr-defined, no-any-return]
        finally:
            _owe(view, owed)

    def _opinion(self, view: RequestView, packed: bytes | None) -> Callable[[Any], Decision]:
        live = self._common()
        raw = view.first(b"user-agent")
        ua = live.uas.get(raw) or live.user_agent(raw)
        client = UNKNOWN_CLIENT if packed is None else live.clients.get((packed,)) or live.client((packed,), packed)
        now = self._clock() // 1000
        return lambda rates: live.ruleset.evaluate(view, ua, client, rates, now)

    def fail_open(self) -> Decision:
        """Count and log (once a minute) the exception being handled; the request is served."""
        self.counters.errors += 1
        try:
            self.once.warn("decide", "the guard failed on a request and let it through", exc_info=True)
        except Exception:  # a logging handler that raises must not reach the visitor either
            self.counters.log_errors += 1
        return ALLOW

    def responded(self, view: RequestView, status: int, size: int) -> None:
        """Charge a response to whom the rules that count responses said: its status, and the bytes of its body. Never raises.

        The doors call it after the application's answer, when ``charges`` says so; the guard's own answers are not charged.
        """
        try:
            for charge, key, rates, asked in getattr(view, "owed", ()):
                charge.pay(rates, key, asked, status, size)
        except Exception:
            self.fail_open()

    def client_facts(self, packed: bytes | None) -> Client:
        """What is known of a client with this packed address; None stands for an unknown client."""
        return self._live.facts(packed)

    def explain(self, view: RequestView, client: Client | None = None) -> tuple[Decision, list[RuleVerdict], UaFacts, Client]:
        """The decision, every rule's verdict, and the facts they rest on. Raises what goes wrong. Counts the request.

        ``client`` None finds the client as ``decide`` does, by the view's peer and headers.
        """
        live = self._common()
        ua = live.ruleset.user_agent(view.first(b"user-agent"))
        if client is None:
            client = live.clients.get(view.peer) or client_of(live, view, self.once)
        now = self._clock() // 1000
        decision, verdicts = live.ruleset.explain(view, ua, client, live.store, now)
        return self.bans.refusal(live, view, client, now) or decision, verdicts, ua, client

    def _note(self, live: Live, decision: Decision, view: RequestView, ua: UaFacts, client: Client, *, disobeyed: bool = False) -> None:
        if disobeyed:
            self.counters.disobeyed[ua.agents[0].name] += 1
        if decision.rule is None and not decision.shadow and not decision.tags and not disobeyed:
            self.counters.allowed += 1
            if live.sampling and live.events.wants_allow():
                live.events.record(decision, view, ua, client)
            return
        self.counters.add(decision)
        holds = live.ruleset.holds.get(decision.rule or "")
        if holds is not None:
            self.bans.note(live, decision.rule or "", holds, view, ua, client, self._clock() // 1000)
        if live.events.active:
            live.events.record(decision, view, ua, client, disobeyed=disobeyed)

    # ---- reloading

    def swap(self, policy: Policy) -> None:
        """Put another policy in force, by one assignment. Raises like the constructor; then the old one stays.

        The store stays as it is, so that clients stay counted: a change of store takes a restart.
        """
        policy = with_settings(policy, **self._settings)
        if policy.store != self._live.policy.store:
            own.warning("the policy now names another store; a change of store takes a restart")
        live = self._make_live(policy)
        with self._swapping:
            self._live = live

    def reload(self) -> bool:
        """Read the policy's files again and put them in force; False, with one log line, when they are broken.

        A guard that was given a Policy object has no files, and keeps it.
        """
        if isinstance(self._source, Policy):
            return True
        with self._reloading:
            before = stamp(self._sources)  # taken before reading: an edit meanwhile is seen next time
            try:
                policy = load_policy(self._source)
                self.swap(policy)
            except PolicyError as error:
                self._watch(error.sources or self._sources, before)
                own.error("the policy was changed but cannot be used; the old one stays in force:\n%s", error)
                return False
            except Exception as error:
                self._watch(self._sources, before)
                own.error(
                    "the policy was changed but cannot be used; the old one stays in force: %s",
                    error,
                    exc_info=not isinstance(error, CrawlGuardError),
                )
                return False
            self._watch(policy.sources, before)
            own.info("the policy %s has been reloaded", policy.name)
            return True

    def _watch(self, sources: tuple[str, ...], before: tuple[object, ...]) -> None:
        """Look at these files from now on; ``before`` is how the ones watched so far looked before they were read."""
        self._seen = before if sources == self._sources else stamp(sources)
        self._sources = sources

    def poll(self) -> bool | None:
        """Reload if a file of the policy has changed since it was read: None when none has, else what ``reload`` says."""
        return None if stamp(self._sources) == self._seen else self.reload()

    def forget_locks(self) -> None:
        """For a process that has just been forked: a thread of its parent may have held them."""
        self._reloading, self._swapping = threading.Lock(), threading.Lock()

    def _make_live(self, policy: Policy) -> Live:
        events = EventLog(policy.log, Privacy(policy.addresses), self.counters, self.once)
        live = Live(policy, self._store, events)
        self.charges, self.speaks = "response" in live.ruleset.needs, live.headers is not None
        return live


def _for_view(decision: Decision, view: RequestView, client: Client, locate: Callable[[], object]) -> Decision:
    """The decision after the marks of the view: an exempt one is served, a strict one asks its own guard too.

    That guard takes the site's word for who the client is: it knows the site's proxies.
    """
    decision, guard = _marked(decision, locate)
    return decision if guard is None else _both(decision, guard.decide_for(view, client.packed))


async def _afor_view(decision: Decision, view: RequestView, client: Client, locate: Callable[[], object]) -> Decision:
    """``_for_view`` for asynchronous callers."""
    decision, guard = _marked(decision, locate)
    return decision if guard is None else _both(decision, await guard.adecide_for(view, client.packed))


def _marked(decision: Decision, locate: Callable[[], object]) -> tuple[Decision, Guard | None]:
    """The decision, and the guard of the view that is still to be asked."""
    try:
        target = locate()
    except Exception:  # no such view, or a router that we do not know: the decision stands
        return decision, None
    if getattr(target, EXEMPT, False):
        return (decision if decision.allowed else Decision(reason="the view is exempt", shadow=(*decision.shadow, decision))), None
    guard = getattr(target, STRICT, None)
    return decision, guard if isinstance(guard, Guard) and decision.allowed else None


def _both(decision: Decision, found: Decision) -> Decision:
    """What the site's guard and that of the view say together."""
    if found is ALLOW:
        return decision
    rule = found if found.rule is not None else decision
    return replace(rule, tags=decision.tags + found.tags, shadow=decision.shadow + found.shadow, score=decision.score + found.score)


def _owe(view: RequestView, owed: Sequence[Any]) -> None:
    """What the response was to be charged to before a store that takes each of its decisions for the view's only one was asked."""
    if owed:
        view.owed = [*owed, *getattr(view, "owed", ())]
