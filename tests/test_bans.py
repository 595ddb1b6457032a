"""Bans that an operator can see and change: two guards on one table, the clock, damage, a full record, and many writers at once."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Action, Guard
from crawlguard.decision import Decision
from crawlguard.lifting import Lifted, keeps_out, lift, standing
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.store import SharedStore
from crawlguard.store.bans import NEIGHBOURHOOD, RECORDS, Bans, Record, SharedBans, network_key

from .policy_corpus import Clock, view

MINUTE, SECOND = 60_000_000, 1_000_000
SEED = bytes(32)
TERMS: dict[str, Any] = {
    "id": "hot",
    "when": {"rate": {"per": "ip", "requests": 3, "within": "1m", "block_for": ["10m", "1h"]}},
    "then": "throttle",
}
PLAIN = {
    "id": "near",
    "when": {"path": "/p", "rate": {"per": "subnet", "requests": 2, "within": "1m", "block_for": "10m"}},
    "then": "block",
}


class Site:
    """Two workers of one site."""

    def __init__(self, path: Path, *rules: dict[str, Any], **top: Any) -> None:
        policy, problems = parse_policy(json.dumps({"version": 1, **top, "rules": list(rules or (TERMS, PLAIN))}))
        assert policy is not None, problems
        self.clock = Clock()
        self.guards = [Guard(policy, clock=self.clock, store=Store("shared", str(path / "rates.bin"), 1 << 16)) for _ in range(2)]
        store, record = self.guards[0].store, self.guards[0].bans.record
        assert isinstance(store, SharedStore)
        assert record is not None
        self.store, self.record = store, record

    @property
    def now(self) -> int:
        return self.clock.now // 1000

    def ask(self, path: str = "/", ip: str = "203.0.113.7", worker: int = 0, **more: Any) -> Decision:
        return self.guards[worker].decide(view(path, ip=ip, **more))

    def ban(self, network: str, seconds: int = 60, reason: str = "") -> None:
        net = ip_network(network)
        assert self.record.put(by_hand(self.record.seed, network, self.now, seconds, reason, str(net)), self.now)

    def lift(self, target: str | None, forget: bool = False) -> list[Lifted]:
        try:
            wanted = None if target is None else ip_network(target)
        except ValueError:
            return lift(self.record, self.guards[1].live, self.store, target, self.now, forget)
        return lift(self.record, self.guards[1].live, self.store, wanted, self.now, forget)

    def listed(self) -> list[tuple[str, str, int]]:
        found = standing(self.record, self.guards[1].live, self.store, self.now)
        return [(r.who, r.rule, (r.until - r.since) // SECOND) for r in found]


def by_hand(seed: bytes, network: str, now: int, seconds: int, reason: str = "", who: str = "") -> Record:
    net = ip_network(network)
    packed = net.network_address.packed
    key = network_key(seed, packed, net.prefixlen)
    return Record(key, 0, now, now + seconds * SECOND, 0, len(packed), net.prefixlen, who or network, "ban", reason)


def of_rule(key: int, now: int, seconds: int, rule: str = "hot") -> Record:
    return Record(key, key, now, now + seconds * SECOND, 0, 0, 0, f"k{key}", rule, "")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# ---- by hand


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("203.0.113.7/32", "203.0.113.7", "203.0.113.8"),
        ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
        ("203.0.112.0/21", "203.0.119.255", "203.0.120.0"),
        ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"),
        ("2001:db8:1::/48", "2001:db8:1:9::1", "2001:db8:2::1"),
        ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
        ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
    ],
)
def test_a_ban_acts_on_the_next_request_of_every_worker_and_on_nobody_else(tmp_path: Path, network: str, inside: str, outside: str) -> None:
    site = Site(tmp_path, PLAIN)
    for worker in (0, 1):  # both know both clients already
        assert site.ask(ip=inside, worker=worker).allowed
        assert site.ask(ip=outside, worker=worker).allowed
    site.ban(network, reason="too much")
    for worker in (0, 1):
        found = site.ask(ip=inside, worker=worker)
        assert (found.action, found.rule, found.reason, found.status) == (Action.BLOCK, "ban", "too much", 403)
        assert site.ask("/robots.txt", ip=inside, worker=worker).allowed
    assert site.ask(ip=outside).allowed
    site.clock.at(59.9)
    assert not site.ask(ip=inside).allowed
    site.clock.at(60)
    assert site.ask(ip=inside).allowed
    assert site.listed() == []


def test_while_nobody_is_banned_a_request_looks_at_one_word(site: Site) -> None:
    guard = site.guards[0]
    site.ask()
    assert guard.bans.changes[0] == guard.bans.quiet
    site.ban("198.51.100.0/24")
    site.ask()
    assert guard.bans.changes[0] != guard.bans.quiet
    site.clock.at(61)
    site.ask()
    assert guard.bans.changes[0] == guard.bans.quiet


def test_a_ban_is_the_operators_word_in_shadow_mode_and_over_any_allow(tmp_path: Path) -> None:
    site = Site(tmp_path, {"id": "all", "when": {"path": "/"}, "then": "allow"}, mode="shadow")
    site.ban("203.0.113.7")
    assert site.ask().rule == "ban"
    assert site.guards[0].explain(view())[0].rule == "ban"
    assert site.guards[0].counters.snapshot()["rules"] == [{"rule": "ban", "action": "block", "shadow": False, "count": 1}]


def test_a_ban_is_logged_like_other_decisions(tmp_path: Path) -> None:
    site = Site(tmp_path, log=str(tmp_path / "log"))
    site.ban("203.0.113.7", reason="scraper")
    site.ask("/x")
    row = json.loads((tmp_path / "log").read_text())
    assert (row["client"], row["rule"], row["action"], row["status"], row["reason"]) == ("203.0.113.7", "ban", "block", 403, "scraper")


def test_an_unknown_client_is_under_no_ban(site: Site) -> None:
    site.ban("0.0.0.0/0")
    assert site.ask(ip="").allowed


# ---- by rules


def test_a_rule_s_ban_is_listed_from_its_beginning_and_once(site: Site) -> None:
    for n in range(8):
        site.ask(worker=n % 2)
    assert site.listed() == [("203.0.113.7", "hot", 600)]
    site.clock.at(30)
    site.ask(worker=1)
    assert site.listed() == [("203.0.113.7", "hot", 600)]
    assert [r.times for r in site.record.all()] == [1]
    site.clock.at(601)
    assert site.listed() == []
    for _ in range(4):
        site.ask()
    assert site.listed() == [("203.0.113.7", "hot", 3600)]
    assert [r.times for r in site.record.all()] == [2]


def test_what_is_in_shadow_keeps_nobody_out(tmp_path: Path) -> None:
    site = Site(tmp_path, mode="shadow")
    for _ in range(8):
        assert site.ask().allowed
    assert site.listed() == []


def test_a_lifted_client_begins_afresh_and_its_offences_stay_known_unless_forgotten(site: Site) -> None:
    for term in (600, 3600):
        assert [site.ask().retry_after for _ in range(4)][-1] == term
        assert site.lift("203.0.113.7") == [("203.0.113.7", "hot")]
    assert [site.ask(worker=1).retry_after for _ in range(4)] == [None, None, None, 3600]
    assert site.lift("203.0.113.7", forget=True) == [("203.0.113.7", "hot")]
    assert [site.ask().retry_after for _ in range(4)] == [None, None, None, 600]


@pytest.mark.parametrize("target", ["198.51.100.200", "198.51.100.0/24", "198.51.0.0/16", None])
def test_a_plain_rate_s_hold_is_lifted_too(site: Site, target: str | None) -> None:
    for n in range(3):
        site.ask("/p", ip=f"198.51.100.{n}")
    assert site.listed() == [("198.51.100.0/24", "near", 600)]
    assert not site.ask("/p", ip="198.51.100.9").allowed
    assert site.lift(target) == [("198.51.100.0/24", "near")]
    assert [site.ask("/p", ip="198.51.100.9").allowed for _ in range(3)] == [True, True, False]


def test_a_hold_in_its_last_minute_is_lifted(site: Site) -> None:
    for _ in range(4):
        site.ask()
    site.clock.at(595)
    assert site.ask().retry_after == 5
    site.lift("203.0.113.7")
    assert site.ask().allowed


def test_what_a_signature_has_counted_is_forgotten_with_the_ban(tmp_path: Path) -> None:
    rate = {"per": "ip", "distinct_paths": 5, "within": "1h", "block_for": ["10m", "1h"]}
    site = Site(tmp_path, {"id": "many", "when": {"rate": rate}, "then": "throttle"})
    assert [site.ask(f"/{n}").allowed for n in range(7)] == [True] * 5 + [False] * 2
    assert site.lift("203.0.113.7") == [("203.0.113.7", "many")]
    assert [site.ask(f"/again/{n}").allowed for n in range(6)] == [True] * 5 + [False]


def test_a_rule_that_counts_by_other_things_than_addresses_says_by_which(tmp_path: Path) -> None:
    rate = {"per": ["fingerprint", "path"], "requests": 1, "within": "1m", "block_for": "10m"}
    site = Site(tmp_path, {"id": "same", "when": {"rate": rate}, "then": "throttle"})
    for n in range(2):
        site.ask("/shop/x", ip=f"203.0.113.{n}")
    ((who, rule, _),) = site.listed()
    assert rule == "same"
    assert who.startswith("fingerprint ")
    assert who.endswith(" + path /shop/")
    assert site.lift("203.0.113.1") == []
    assert site.lift(who) == [(who, "same")]
    assert site.ask("/shop/x").allowed


def test_lifting_works_when_the_record_has_made_room_for_others(site: Site) -> None:
    for _ in range(4):
        site.ask()
    site.record.drop(site.record.all())
    assert site.listed() == []
    assert site.lift("203.0.113.0/24") == [("203.0.113.0/24", "hot")]
    assert site.ask().allowed


@pytest.mark.parametrize("addresses", ["subnet", "keyed"])
def test_the_record_says_no_more_of_an_address_than_the_policy_allows(tmp_path: Path, addresses: str) -> None:
    site = Site(tmp_path, privacy={"addresses": addresses})
    for _ in range(4):
        site.ask(ip="203.0.113.77")
    raw = (tmp_path / "rates.bin.bans").read_bytes()
    assert b"203.0.113.77" not in raw
    ((who, _, _),) = site.listed()
    assert who == "203.0.113.0/24" if addresses == "subnet" else who.startswith("k-")
    assert [r.rule for r in keeps_out(site.guards[1].bans, site.guards[1].live, site.store, bytes((203, 0, 113, 77)), site.now)] == ["hot"]
    assert site.lift("203.0.113.78") == []
    assert site.lift("203.0.113.77") == [(who, "hot")]
    assert site.ask(ip="203.0.113.77").allowed


def test_bans_of_a_network_are_lifted_with_it_and_others_stay(site: Site) -> None:
    for network in ("203.0.113.7/32", "203.0.113.64/26", "198.51.100.0/24", "2001:db8::/48"):
        site.ban(network)
    assert sorted(site.lift("203.0.113.0/24")) == [("203.0.113.64/26", "ban"), ("203.0.113.7/32", "ban")]
    assert sorted(who for who, _, _ in site.listed()) == ["198.51.100.0/24", "2001:db8::/48"]
    assert site.lift("198.51.100.7") == []
    assert len(site.lift(None)) == 2
    assert site.ask(ip="2001:db8::1").allowed


# ---- the record


@pytest.fixture
def record(tmp_path: Path) -> SharedBans:
    return SharedBans(tmp_path / "bans", SEED)


def test_a_full_record_makes_room_where_a_ban_ends_first_but_not_by_hand_for_a_rule(record: SharedBans) -> None:
    assert record.put(by_hand(SEED, "203.0.113.7", 0, 5), 0)
    assert all(record.put(of_rule(0, 0, 100 + n, f"r{n}"), 0) for n in range(NEIGHBOURHOOD + 9))
    kept = record.all()
    assert {r.rule for r in kept if not r.by_hand} <= {f"r{n}" for n in range(9, NEIGHBOURHOOD + 9)}
    assert len(kept) == NEIGHBOURHOOD
    assert [r.who for r in kept if r.by_hand] == ["203.0.113.7"]
    # What is over makes room first.
    assert record.put(of_rule(0, 6 * SECOND, 900, "late"), 6 * SECOND)
    assert [r for r in record.all() if r.by_hand] == []


def test_however_many_bans_begin_the_record_stays_as_large_as_it_is(record: SharedBans) -> None:
    size = record.path.stat().st_size
    assert record.put(by_hand(SEED, "203.0.113.7", 0, 5), 0)
    for n in range(2 * RECORDS):
        assert record.put(of_rule(n * 0x9E3779B97F4A7C15 & (1 << 64) - 1, 0, 100 + n), 0)
    kept = record.all()
    assert RECORDS * 0.95 < len(kept) <= RECORDS
    assert len(record.all(by_hand=True)) == 1
    assert record.path.stat().st_size == size


def test_of_bans_by_hand_alone_none_makes_room_for_a_rule(record: SharedBans) -> None:
    for n in range(RECORDS):
        assert record.put(by_hand(SEED, f"10.{n >> 8}.{n & 255}.0/24", 0, 100 + n), 0)
    assert not record.put(of_rule(1, 0, 900), 0)
    assert record.put(by_hand(SEED, "203.0.113.7", 0, 900), 0)
    assert len(record.all(by_hand=True)) == RECORDS
    assert "10.0.0.0/24" not in {r.who for r in record.all()}


@pytest.mark.parametrize("at", [0, 16, 24, 33, 40, 48, 120, 200])
def test_a_damaged_record_says_nothing_and_the_others_stand(site: Site, at: int) -> None:
    site.ban("203.0.113.7", reason="first")
    site.ban("198.51.100.7", reason="second")
    assert isinstance(site.record, SharedBans)
    with site.record.path.open("r+b") as file:
        file.seek(8192 + at)
        byte = file.read(1)[0]
        file.seek(8192 + at)
        file.write(bytes((byte ^ 0x55,)))
    assert site.ask().allowed
    assert not site.ask(ip="198.51.100.7").allowed
    assert [who for who, _, _ in site.listed()] == ["198.51.100.7/32"]


def test_a_guard_runs_without_a_record_that_is_not_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rates.bin.bans").write_bytes(b"something else of the site's own")
    guard = Guard(store=Store("shared", str(tmp_path / "rates.bin"), 1 << 16))
    assert guard.bans.record is None
    assert "bans are not listed" in caplog.text
    assert guard.decide(view()).allowed
    assert (tmp_path / "rates.bin.bans").read_bytes().startswith(b"something else")


def test_long_and_odd_texts_are_cut_between_characters(record: SharedBans) -> None:
    record.put(of_rule(1, 0, 9)._replace(who="é" * 99, rule="r" * 63 + "é", reason="\ud800\0x"), 0)
    (found,) = record.all()
    assert (found.who, found.rule, found.reason) == ("é" * 32, "r" * 63, "?\0x")


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from crawlguard.store.bans import SharedBans
from tests.test_bans import SEED, of_rule
record = SharedBans(Path(sys.argv[1]), SEED)
for n in range(int(sys.argv[2]), int(sys.argv[3])):
    assert record.put(of_rule(n, 0, 1000), 0, 10)
    assert record.put(of_rule(7, 0, 1000 + 10 * n), 0, 10)
"""


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    record: Bans = SharedBans(tmp_path / "bans", SEED)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "bans"), str(start), str(start + 100), root], cwd=root)
        for start in (1000, 2000, 3000)
    ]
    while any(writer.poll() is None for writer in writers):
        assert all(r.who == f"k{r.key}" for r in record.all()), "never half of a record"
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = {r.key: r.times for r in record.all()}
    assert found == {**dict.fromkeys((n for start in (1000, 2000, 3000) for n in range(start, start + 100)), 1), 7: 300}


def test_a_ban_that_cannot_be_written_is_in_force_all_the_same(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> bool:
        raise OSError("no")

    site.record.put = full  # type: ignore[method-assign, assignment]
    assert [site.ask().allowed for _ in range(5)] == [True] * 3 + [False] * 2
    assert "could not be written down" in caplog.text
