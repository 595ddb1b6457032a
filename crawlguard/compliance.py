"""Who reads robots.txt and then does what it asks not to do.

An agent that says it honours robots.txt, that has fetched it within a day, and that asks for a path it is asked to leave alone is marked
in the decision log. That it has fetched is kept in the rate store under the agent's name: crawlers fetch from one address and crawl
from others. So whoever uses an agent's name can speak for it here; the line's client tells them apart.
"""

from __future__ import annotations

from collections.abc import Container
from hashlib import blake2b

from .export.paths import Line, decide
from .export.robots import Will
from .policy.model import Policy
from .policy.ruleset import POLICY_FILES, UaFacts
from .signals.rate import US
from .store import RateStore

DAY = 86_400 * US
"""How long a crawler may go by the robots.txt that it has (RFC 9309 2.4), in us."""


class Audit:
    """Watches the agents of a policy that say they honour robots.txt."""

    def __init__(self, policy: Policy, will: Will, store: RateStore, always: Container[str] = POLICY_FILES) -> None:
        """``always``: paths that everybody may fetch."""
        self._store, self._always = store, always
        lines = will.by_token()
        self._told: dict[str, tuple[int, tuple[Line, ...]]] = {}
        for agent in policy.agents:
            if agent.honours_robots == "yes" and agent.robots:
                key = int.from_bytes(blake2b(agent.name.encode(), key=store.seed[:64], digest_size=8, person=b"robots.txt").digest(), "big")
                self._told[agent.name] = (key or 1, lines.get(agent.robots[0].lower(), lines["*"]))

    def disobeys(self, ua: UaFacts, path: str, now: int) -> bool:
        """Whether this request goes against a robots.txt that its agent knows. ``now`` in us; a fetch of the file is remembered."""
        told = self._told.get(ua.agents[0].name)
        if told is None:
            return False
        key, lines = told
        if path == "/robots.txt":
            self._store.hit(key, now, DAY, DAY, 0)
            return False
        return path not in self._always and not decide(lines, path) and self._store.peek(key, now, DAY, DAY, 0) > 0
