"""One compiled policy with all that belongs to it: address table, store, keys, caches. Replaced as a whole, never changed."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from .client_ip import ClientResolver
from .events import EventLog
from .ipdb import build_table
from .policy.compile import compile_policy
from .policy.model import Policy
from .policy.ruleset import UNKNOWN_CLIENT, Client, Ruleset, UaFacts
from .signals.rate import Keyer
from .signals.ua import MAX_UA
from .store import RateStore

if TYPE_CHECKING:
    from .compliance import Audit
    from .export.headers import Headers

GENERATION = 4096
"""Entries in a generation of the caches (two are kept): a busy site's browsers and visitors of the last minutes."""

_new = tuple.__new__  # a third of what Client() costs, for each stranger


class Live:
    """The facts of user agents and clients under one policy, from the caches or made anew."""

    def __init__(self, policy: Policy, store: RateStore, events: EventLog) -> None:
        self.policy = policy
        self.store = store
        self.events = events
        self.sampling = events.active and policy.log.sample > 0
        self.ruleset: Ruleset = compile_policy(policy)
        self.ruleset.together = getattr(store, "together", None)  # what a store can do besides its contract
        needs = self.ruleset.needs
        self.table = build_table(
            self.ruleset.addresses,
            policy.asn if "asn" in needs else None,
            policy.country if "country" in needs else None,
        )
        self.resolver = ClientResolver(policy.client_ip.trusted_proxies, policy.client_ip.header)
        self.seed = store.seed
        self.keyer = Keyer(self.seed)
        self.counts_addresses = not needs.isdisjoint(("ip", "subnet"))
        self.fingerprints = "fingerprint" in needs
        self.headers: Headers | None = None
        self.audit: Audit | None = None
        if any(policy.serve) or policy.robots.place.line:
            self._publish()
        # Two generations each: what is asked for again moves to the young one, so strangers push out only each other.
        self.uas: dict[bytes | None, UaFacts] = {}
        self.old_uas: dict[bytes | None, UaFacts] = {}
        self.clients: dict[object, Client] = {}
        self.old_clients: dict[object, Client] = {}
        # The peers that do not speak for themselves: packed address (None: a unix socket), and whether they are believed.
        self.proxies: dict[str, tuple[bytes | None, bool]] = {}

    def under(self, seed: bytes) -> Live:
        """The same with clients' keys under another seed: a request that finds that the store has a new one does not wait for a policy to be compiled."""
        made = copy(self)
        made.seed, made.keyer = seed, Keyer(seed)
        made.clients, made.old_clients = {}, {}
        return made

    def _publish(self) -> None:
        """Make the site's word to crawlers. Raises ConfigError when it cannot be published as the policy asks."""
        from .compliance import Audit  # only sites that publish through the guard need any of this
        from .decision import Decision, Page
        from .export.documents import documents
        from .export.headers import Headers
        from .export.robots import will_of
        from .policy.ruleset import FILE_SERVED

        will = will_of(self.policy)
        pages = {path: Decision(reason=FILE_SERVED.reason, page=Page(*page)) for path, page in documents(self.policy, will).items()}
        self.ruleset.files = {**self.ruleset.files, **pages}
        self.headers = Headers(self.policy, will) if self.policy.serve.headers else None
        # What an agent has fetched is this host's to know: no request waits for a store on another machine because of a mark in the log.
        self.audit = Audit(self.policy, will, getattr(self.store, "local", self.store), self.ruleset.files)

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
        return _new(Client, (packed, mask, ip_key, subnet_key, asn, country))
