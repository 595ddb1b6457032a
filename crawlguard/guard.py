"""The wiring: a policy becomes a live guard that decides, counts, logs, reloads, and never takes a site down.

All state of one policy is one ``_Live`` object, replaced by one assignment: no request ever sees half of each. The fail-open
rule lives here and nowhere else: an exception while deciding serves the request.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from glob import glob
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypedDict, Unpack

from .client_ip import FORWARDING, ClientResolver, format_ip, parse_ip
from .decision import ALLOW, Decision
from .errors import ConfigError, CrawlGuardError, PolicyError
from .events import Counters, EventLog, Once, Privacy, own
from .ipdb import build_table
from .loader import load_policy
from .marks import EXEMPT, STRICT
from .policy.compile import compile_policy
from .policy.ruleset import UNKNOWN_CLIENT, Client, Ruleset, RuleVerdict, UaFacts
from .policy.schema import ClientIp, Log, Policy, Store
from .request import RequestView
from .signals.rate import Keyer
from .signals.ua import MAX_UA
from .store import RateStore, open_store

GENERATION = 4096
"""Entries in a generation of the caches (two are kept): a busy site's browsers and visitors of the last minutes."""
MAX_KEY = 128
"""Bytes of a forwarding header that is still kept in the cache: two hops of IPv6 and then some."""
WATCH_EVERY = 1.0
"""Seconds between looks at the policy's files."""


class Settings(TypedDict, total=False):
    """What can be set in code; it wins over the policy. ``log`` is "off", "logging" or a file; ``log_sample`` a share of 1."""

    mode: Literal["enforce", "shadow"]
    trusted_proxies: str | Sequence[str]
    client_ip_header: str
    store: Literal["shared", "memory"] | Store
    log: str | os.PathLike[str]
    log_sample: float
    addresses: Literal["full", "subnet", "keyed"]


SETTINGS = tuple(Settings.__annotations__)


def with_settings(policy: Policy, **settings: Unpack[Settings]) -> Policy:
    """A policy with some of its settings replaced from code. Raises ConfigError for a name that is none of SETTINGS."""
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ConfigError(f"no setting is called {unknown[0]!r}; there are: {', '.join(SETTINGS)}")
    return replace(policy, **_changes(policy, settings))


def _changes(policy: Policy, settings: Settings) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, words in (("mode", ("enforce", "shadow")), ("addresses", ("full", "subnet", "keyed"))):
        if name in settings:
            changes[name] = _one_of(name, settings[name], words)  # type: ignore[literal-required]
    if "trusted_proxies" in settings or "client_ip_header" in settings:
        proxies = settings.get("trusted_proxies", policy.client_ip.trusted_proxies)
        if not isinstance(proxies, str | Sequence) or not all(isinstance(p, str) for p in proxies):
            raise ConfigError(f"trusted_proxies: {proxies!r} is not a list of addresses and CIDRs")
        proxies = (proxies,) if isinstance(proxies, str) else tuple(proxies)
        header = settings.get("client_ip_header", policy.client_ip.header)
        ClientResolver(proxies, header)
        changes["client_ip"] = ClientIp(proxies, header)
    if "store" in settings:
        store = settings["store"]
        changes["store"] = store if isinstance(store, Store) else policy.store._replace(kind=_one_of("store", store, ("shared", "memory")))
    if "log" in settings or "log_sample" in settings:
        to, sample = settings.get("log", policy.log.to), settings.get("log_sample", policy.log.sample)
        if not isinstance(to, str | os.PathLike) or not os.fspath(to):
            raise ConfigError(f"log: {to!r} is none of 'off', 'logging' and a file's path")
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
            raise ConfigError(f"log_sample: {sample!r} is not a share; write a number from 0 to 1")
        changes["log"] = Log(os.fspath(to), float(sample))
    return changes


def _one_of(name: str, value: object, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ConfigError(f"{name}: {value!r} is none of {', '.join(map(repr, words))}")
    return str(value)


class _Live:
    """One compiled policy with everything that belongs to it: table, store, keys, caches."""

    def __init__(self, policy: Policy, store: RateStore) -> None:
        self.policy = policy
        self.store = store
        self.ruleset: Ruleset = compile_policy(policy)
        needs = self.ruleset.needs
        self.table = build_table(
            self.ruleset.addresses,
            policy.asn if "asn" in needs else None,
            policy.country if "country" in needs else None,
        )
        self.resolver = ClientResolver(policy.client_ip.trusted_proxies, policy.client_ip.header)
        self.keyer = Keyer(store.seed)
        self.counts_addresses = not needs.isdisjoint(("ip", "subnet"))
        # Two generations each: what is asked for again moves to the young one, so strangers push out only each other.
        self.uas: dict[bytes | None, UaFacts] = {}
        self.old_uas: dict[bytes | None, UaFacts] = {}
        self.clients: dict[object, Client] = {}
        self.old_clients: dict[object, Client] = {}
        # The peers that do not speak for themselves: packed address (None: a unix socket), and whether they are believed.
        self.proxies: dict[str, tuple[bytes | None, bool]] = {}

    def user_agent(self, raw: bytes | None) -> UaFacts:
        """The facts of a User-Agent that is not in the young generation."""
        key = raw
        if raw is not None and len(raw) > MAX_UA:  # what is cached is what is looked at
            key = raw[:MAX_UA]
            known = self.uas.get(key)
            if known is not None:
                return known
        facts = self.old_uas.get(key)
        if facts is None:
            facts = self.ruleset.user_agent(key)
        if len(self.uas) >= GENERATION:
            self.old_uas, self.uas = self.uas, {}
        self.uas[key] = facts
        return facts

    def client(self, key: object, packed: bytes | None) -> Client:
        """The facts of a client; ``key`` is what it is cached under."""
        client = self.old_clients.get(key)
        if client is None:
            client = self.facts(packed)
        if len(self.clients) >= GENERATION:
            self.old_clients, self.clients = self.clients, {}
        self.clients[key] = client
        return client

    def facts(self, packed: bytes | None) -> Client:
        """A client's facts from its address alone."""
        if packed is None:
            return UNKNOWN_CLIENT
        mask, asn, country = self.table.lookup(packed)
        ip_key, subnet_key = self.keyer.address(packed) if self.counts_addresses else (0, 0)
        return Client(packed, mask, ip_key, subnet_key, asn, country)


class Guard:
    """Decides about requests by one policy, and follows that policy's file while it runs.

    ``policy``: None for the bundled default, a path, ``builtin:NAME`` or a Policy. ``settings``: see Settings.
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
        self._store, complaint = open_store(loaded.store, f"{loaded.name}\0{os.getcwd()}\0{counts_as}")
        if complaint:
            own.warning(complaint)
        self._live = _Live(loaded, self._store)
        self._log_events(loaded)
        self._sources, self._seen = loaded.sources, _stamp(loaded.sources)
        self._reloading = threading.Lock()
        for warning in loaded.warnings:
            own.warning("%s", warning)
        if watch and not isinstance(policy, Policy) and not str(policy or "builtin:").startswith("builtin:"):
            _Watcher.start(self)

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

    # ---- deciding

    def decide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        """The decision on one request. Never raises: what goes wrong serves the request, and is counted and logged.

        ``locate`` finds the application's view function for the request; a door gives it while any view is marked
        (see ``views``).
        """
        try:
            live = self._live
            raw = view.first(b"user-agent")
            ua = live.uas.get(raw)
            if ua is None:
                ua = live.user_agent(raw)
            client = live.clients.get(view.peer)
            if client is None:
                client = self._client(live, view)
            decision = live.ruleset.evaluate(view, ua, client, live.store, self._clock() // 1000)
            if locate is not None:
                decision = _for_view(decision, view, client, locate)
            if decision is ALLOW:
                self.counters.allowed += 1
                if self._sampling and self.events.wants_allow():
                    self.events.record(decision, view, ua, client)
                return decision
            self._note(decision, view, ua, client)
            return decision
        except Exception:
            return self.fail_open()

    def decide_for(self, view: RequestView, packed: bytes | None) -> Decision:
        """The decision on a request of a client whose packed address is known by other means; None stands for unknown.

        For a second opinion: nothing is logged or counted here, and unlike ``decide`` it raises what goes wrong.
        """
        live = self._live
        raw = view.first(b"user-agent")
        ua = live.uas.get(raw) or live.user_agent(raw)
        client = UNKNOWN_CLIENT if packed is None else live.clients.get((packed,)) or live.client((packed,), packed)
        return live.ruleset.evaluate(view, ua, client, live.store, self._clock() // 1000)

    async def adecide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        """``decide`` for asynchronous callers: a store on another machine will be awaited here."""
        return self.decide(view, locate)

    def fail_open(self) -> Decision:
        """Count and log (once a minute) the exception being handled; the request is served."""
        self.counters.errors += 1
        try:
            self.once.warn("decide", "the guard failed on a request and let it through", exc_info=True)
        except Exception:  # a logging handler that raises must not reach the visitor either
            self.counters.log_errors += 1
        return ALLOW

    def client_facts(self, packed: bytes | None) -> Client:
        """What is known of a client with this packed address; None stands for an unknown client."""
        return self._live.facts(packed)

    def explain(self, view: RequestView, client: Client | None = None) -> tuple[Decision, list[RuleVerdict], UaFacts, Client]:
        """The decision, every rule's verdict, and the facts they rest on. Raises what goes wrong. Counts the request.

        ``client`` None finds the client as ``decide`` does, by the view's peer and headers.
        """
        live = self._live
        ua = live.ruleset.user_agent(view.first(b"user-agent"))
        if client is None:
            client = live.clients.get(view.peer) or self._client(live, view)
        decision, verdicts = live.ruleset.explain(view, ua, client, live.store, self._clock() // 1000)
        return decision, verdicts, ua, client

    def _client(self, live: _Live, view: RequestView) -> Client:
        """The client of a request whose peer is not in the young generation, or does not speak for itself."""
        known = live.proxies.get(view.peer)
        resolver = live.resolver
        if known is None:
            peer = parse_ip(view.peer)
            if not resolver.needs_headers(peer):
                return live.client(view.peer, peer)
            known = peer, resolver.is_trusted(peer)
            if len(live.proxies) < GENERATION:
                live.proxies[view.peer] = known
        peer, trusted = known
        values = view.values(resolver.header)
        if trusted and len(values) == 1:  # most visitors come again, and their header with them
            client = live.clients.get(values[0])
            if client is not None:
                return client
        forwarding = bool(values) or (not resolver.configured and any(name in FORWARDING for name, _ in view.headers))
        packed = resolver.resolve(peer, values, forwarding)
        if packed is None:
            self._advise(resolver, view, peer, forwarding)
            return UNKNOWN_CLIENT
        # What a trusted proxy's header says does not depend on which proxy sent it.
        if trusted and len(values) == 1 and len(values[0]) <= MAX_KEY:
            return live.client(values[0], packed)
        return live.facts(packed)

    def _advise(self, resolver: ClientResolver, view: RequestView, peer: bytes | None, forwarding: bool) -> None:
        """Say, once a minute, why a client is unknown and what to write."""
        who = format_ip(peer) if peer is not None else "unix"
        if not resolver.configured and forwarding:
            header = next((name for name in FORWARDING if view.first(name) is not None), resolver.header).decode("latin-1")
            setting = f'client_ip: {{trusted_proxies: ["{who}"], header: {header}}}'
            self.once.warn(
                "proxy",
                f"requests come through a reverse proxy at {who} that is not configured: clients are unknown, and address and rate rules "
                f"do not apply. Add to the policy: {setting}",
            )
        elif resolver.configured:
            header = resolver.header.decode("latin-1")
            self.once.warn(
                "proxy",
                f"the proxy at {who} sends no usable {header} header: clients are unknown, and address and rate rules do not apply. In nginx: "
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; or name another header under client_ip: {header: ...}",
            )

    def _note(self, decision: Decision, view: RequestView, ua: UaFacts, client: Client) -> None:
        if decision.rule is None and not decision.shadow and not decision.tags:
            self.counters.allowed += 1
            if self._sampling and self.events.wants_allow():
                self.events.record(decision, view, ua, client)
            return
        self.counters.add(decision)
        if self.events.active:
            self.events.record(decision, view, ua, client)

    # ---- reloading

    def swap(self, policy: Policy) -> None:
        """Put another policy in force, by one assignment. Raises like the constructor; then the old one stays.

        The store stays as it is, so that clients stay counted: a change of store takes a restart.
        """
        live = _Live(with_settings(policy, **self._settings), self._store)
        self._log_events(live.policy)
        self._live = live

    def reload(self) -> bool:
        """Read the policy's files again and put them in force; False, with one log line, when they are broken.

        A guard that was given a Policy object has no files, and keeps it.
        """
        if isinstance(self._source, Policy):
            return True
        with self._reloading:
            before = _stamp(self._sources)  # taken before reading: an edit meanwhile is seen next time
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
        self._seen = before if sources == self._sources else _stamp(sources)
        self._sources = sources

    def poll(self) -> bool | None:
        """Reload if a file of the policy has changed since it was read: None when none has, else what ``reload`` says."""
        return None if _stamp(self._sources) == self._seen else self.reload()

    def _log_events(self, policy: Policy) -> None:
        self.events = EventLog(policy.log, Privacy(policy.addresses), self.counters, self.once)
        self._sampling = self.events.active and policy.log.sample > 0


def _for_view(decision: Decision, view: RequestView, client: Client, locate: Callable[[], object]) -> Decision:
    """The decision after the marks of the view: an exempt one is served, a strict one asks its own guard too.

    That guard takes the site's word for who the client is: it knows the site's proxies.
    """
    try:
        target = locate()
    except Exception:  # no such view, or a router that we do not know: the decision stands
        return decision
    if getattr(target, EXEMPT, False):
        return decision if decision.allowed else Decision(reason="the view is exempt", shadow=(*decision.shadow, decision))
    guard = getattr(target, STRICT, None)
    if not isinstance(guard, Guard) or not decision.allowed:
        return decision
    found = guard.decide_for(view, client.packed)
    if found is ALLOW:
        return decision
    rule = found if found.rule is not None else decision
    return replace(rule, tags=decision.tags + found.tags, shadow=decision.shadow + found.shadow, score=decision.score + found.score)


def _stamp(sources: tuple[str, ...]) -> tuple[object, ...]:
    """What the files look like from outside; a missing one counts as a change too."""

    def one(path: str) -> tuple[str, int, int, int] | None:
        try:
            found = os.stat(path)
        except OSError:
            return None
        return path, found.st_mtime_ns, found.st_size, found.st_ino

    return tuple(one(path) for source in sources for path in sorted(glob(source, recursive=True)) or [source])


class _Watcher:
    """One daemon thread for each process that looks at every guard's files once a second, off the request path.

    Threads do not survive a fork, so a worker of a preloading server starts its own. SIGHUP asks for a reload at once where
    nobody else wants the signal and no terminal can send it by hanging up.
    """

    guards: weakref.WeakSet[Guard] = weakref.WeakSet()
    wake: SimpleQueue[None] = SimpleQueue()  # the one thing of the threading family that a signal handler may touch
    thread: threading.Thread | None = None

    @classmethod
    def start(cls, guard: Guard) -> None:
        cls.guards.add(guard)
        cls._run()
        cls._signal()

    @classmethod
    def _run(cls) -> None:
        if cls.thread is None or not cls.thread.is_alive():
            cls.thread = threading.Thread(target=cls._loop, name="crawlguard-watch", daemon=True)
            cls.thread.start()

    @classmethod
    def _loop(cls) -> None:
        while True:
            asked = False
            try:
                cls.wake.get(timeout=WATCH_EVERY)
                asked = True
                while True:  # many signals are one reload
                    cls.wake.get_nowait()
            except Empty:
                pass
            for guard in list(cls.guards):
                try:
                    guard.reload() if asked else guard.poll()
                except Exception:  # the watch must outlive whatever one look runs into
                    own.exception("looking for changes of the policy failed")

    @classmethod
    def after_fork(cls) -> None:
        if cls.thread is not None:
            cls.wake, cls.thread = SimpleQueue(), None
            for guard in list(cls.guards):
                guard._reloading = threading.Lock()  # the parent's thread may have held it
            cls._run()

    @classmethod
    def _signal(cls) -> None:
        hup = getattr(signal, "SIGHUP", None)
        if hup is None or threading.current_thread() is not threading.main_thread() or signal.getsignal(hup) is not signal.SIG_DFL:
            return
        try:
            os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        except OSError:  # no terminal: SIGHUP can only mean "read your configuration again"
            signal.signal(hup, lambda *_: cls.wake.put(None))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Watcher.after_fork)
