"""A small catalogue whose lists a test's own server publishes, and a policy that needs some of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crawlguard import catalogue
from crawlguard.errors import CrawlGuardError
from crawlguard.update.outcome import Outcome
from crawlguard.update.run import run

from .tls_site import Site, reply

NOW = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)
OLD = tuple(f"8.8.{n}.0/24" for n in range(0, 20, 2))
NEW = (*OLD[1:], "9.9.9.0/24")

_AGENTS = """
agents:
  - name: GoodBot
    operator: Bot Inc.
    category: search-engine
    user_agent: [GoodBot]
    samples: ["Mozilla/5.0 (compatible; GoodBot/1.0; +https://bot.test)"]
    near_misses: ["GoodBotany/1.0"]
    date: 2026-09-01
"""
_NETWORKS = """
networks:
  - {{name: bot, operator: Bot Inc., tags: [search-engine, published], ranges: ["{site}/bot.json"], date: 2026-09-01, cidrs: [{old}]}}
  - {{name: two, operator: Two Inc., tags: [monitor, published], ranges: ["{site}/v4.txt", "{site}/v6.txt#"], date: 2026-09-01,
      cidrs: [5.5.5.5, "2600:5::/48"]}}
  - {{name: hooks, operator: Hook Inc., tags: [webhook, published], ranges: ["{site}/meta#hooks"], date: 2026-09-01, cidrs: [6.6.6.0/24]}}
  - {{name: other, operator: Other Inc., tags: [seo, published], date: 2026-09-01, cidrs: [20.0.0.0/24]}}
  - {{name: relay, operator: Relay Inc., tags: [shared-exit, relay], ranges: ["{site}/relay.csv"], date: 2026-09-01, cidrs: [17.0.0.0/24]}}
  - {{name: cloud, operator: Cloud Inc., tags: [cloud], date: 2026-09-01, asns: [64496]}}
"""
_POLICY = """version: 1
rules:
  - {id: good, when: {network: {name: [bot, other]}}, then: allow}
  - {id: bad, when: {agent: {operator: Bot Inc.}}, then: block}
"""


def jafar(cidrs: Iterable[str], made: str = "2026-11-20T00:00:00.000000") -> bytes:
    rows = [{"ipv6Prefix" if ":" in cidr else "ipv4Prefix": cidr} for cidr in cidrs]
    return json.dumps({"creationTime": made, "prefixes": rows}).encode()


class Desk:
    """The catalogue's directory, the data directory, the policy's file, and the server that publishes all lists as they are bundled."""

    def __init__(self, directory: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.rules, self.data, self.policy = site, directory / "rules", directory / "data", directory / "site.yaml"
        for name in ("agents", "networks", "policies"):
            (self.rules / name).mkdir(parents=True)
        (self.rules / "agents" / "all.yaml").write_text(_AGENTS)
        self.bundle()
        self.policy.write_text(_POLICY)
        monkeypatch.setattr(catalogue, "rules_dir", lambda: self.rules)
        monkeypatch.setenv("CRAWLGUARD_DATA_DIR", str(self.data))
        monkeypatch.delenv("CRAWLGUARD_CATALOGUE_URL", raising=False)
        site.answers |= {
            "/bot.json": reply(jafar(OLD), Content_Type="application/json"),
            "/v4.txt": reply(b"5.5.5.5\n", Content_Type="text/plain"),
            "/v6.txt": reply(b"2600:5::/48\n", Content_Type="text/plain"),
            "/meta": reply(b'{"hooks": ["6.6.6.0/24"], "actions": ["20.0.0.0/12"]}', Content_Type="application/json"),
            "/relay.csv": reply(b"17.0.0.0/24,US,US-CA,Cupertino,\n", Content_Type="text/csv"),
        }

    def bundle(self, **changed: str) -> None:
        """Write the bundled networks; ``changed`` replaces text in them."""
        text = _NETWORKS.format(site=self.site.url("").rstrip("/"), old=", ".join(OLD))
        for old, new in changed.items():
            text = text.replace(old.replace("_", " "), new)
        (self.rules / "networks" / "all.yaml").write_text(text)

    def publish(self, path: str, body: bytes, **headers: str) -> None:
        self.site.answers[path] = reply(body, 200, **headers)

    def run(
        self, *, now: datetime = NOW, every: bool = False, url: str = "", accept: tuple[str, ...] = (), dry: bool = False
    ) -> dict[str, Outcome]:
        """An update, by the names of what it did. Raises what goes wrong."""
        fetcher = self.site.fetcher()
        try:
            found = run(str(self.policy), every=every, catalogue_url=url, accept=accept, dry_run=dry, fetcher=fetcher, now=now)
        except CrawlGuardError:
            assert not list(self.data.glob(".*.new"))
            raise
        return {outcome.name: outcome for outcome in found}

    def cidrs(self, name: str) -> set[str]:
        """What is in force for a network."""
        return set(catalogue.networks()[name].cidrs)
