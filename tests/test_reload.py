"""A policy changes while it is in force, by an edit or by a file that comes or goes. Never by halves."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from crawlguard import Guard
from crawlguard.loader import load_policy, parse_policy
from crawlguard.policy.model import Rule

from .policy_corpus import Clock, view
from .policy_corpus import simple_policy as policy

PATIENCE = 20.0
"""Seconds after which the threads must have seen every policy."""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "main.yaml"
    path.write_text(policy("old"))
    return path


def guard_of(path: Path) -> Guard:
    return Guard(path, clock=Clock(), watch=False, store="memory")


def decided(guard: Guard, *names: str) -> list[str | None]:
    return [guard.decide(view(f"/{name}")).rule for name in names]


def test_nothing_is_read_again_while_nothing_has_changed(main: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(main)
    before = guard.policy
    with caplog.at_level(logging.INFO, "crawlguard"):
        assert [guard.poll(), guard.poll()] == [None, None]
    assert guard.policy is before
    assert caplog.records == []


def test_an_edit_takes_effect_and_is_seen_once(main: Path) -> None:
    guard = guard_of(main)
    main.write_text(policy("new", "more"))
    assert decided(guard, "old", "new") == ["old", None]
    assert guard.poll() is True
    assert decided(guard, "old", "new") == [None, "new"]
    assert guard.poll() is None


def test_a_file_replaced_by_renaming_is_an_edit(main: Path) -> None:
    guard = guard_of(main)
    other = main.with_suffix(".tmp")
    other.write_text(policy("new"))
    stamp = main.stat()
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the same time and size: only the file is another
    os.replace(other, main)
    assert guard.poll() is True
    assert decided(guard, "new") == ["new"]


def test_a_broken_edit_keeps_the_old_policy_and_is_logged_once(main: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(main)
    main.write_text(policy("new") + "  - {id: b, when: {ip: 10.0.0.1/8}, than: block}\n")
    with caplog.at_level(logging.WARNING, "crawlguard"):
        assert [guard.poll(), guard.poll(), guard.poll()] == [False, None, None]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    for part in ("main.yaml:4:24: error CG012", "error CG004", "error CG006", "the old one stays"):
        assert part in record.getMessage()
    assert decided(guard, "old", "new") == ["old", None]
    main.write_text(policy("new"))
    assert guard.poll() is True
    assert decided(guard, "old", "new") == [None, "new"]


def test_a_broken_setting_keeps_the_old_policy_too(main: Path) -> None:
    guard = guard_of(main)
    main.write_text(policy("new") + "client_ip: {trusted_proxies: [10.0.0.1/8]}\n")
    assert guard.poll() is False
    assert decided(guard, "old") == ["old"]


def test_a_broken_database_keeps_the_old_policy_too(main: Path) -> None:
    guard = guard_of(main)
    main.with_name("x.mmdb").write_bytes(b"no database")
    main.write_text("version: 1\ndata: {asn: x.mmdb}\nrules: [{id: a, when: {asn: 5}, then: block}]\n")
    assert guard.poll() is False
    assert decided(guard, "old") == ["old"]


def test_a_deleted_policy_stays_in_force_and_one_that_comes_back_takes_over(main: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(main)
    main.unlink()
    assert [guard.poll(), guard.poll()] == [False, None]
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert decided(guard, "old") == ["old"]
    main.write_text(policy("new"))
    assert guard.poll() is True
    assert decided(guard, "new") == ["new"]


def test_an_edit_of_an_included_file(main: Path) -> None:
    part = main.with_name("part.yaml")
    part.write_text(policy("in-part"))
    main.write_text(policy("own", include="part.yaml"))
    guard = guard_of(main)
    part.write_text(policy("changed"))
    assert guard.poll() is True
    assert decided(guard, "own", "in-part", "changed") == ["own", None, "changed"]
    assert guard.poll() is None


def test_an_edit_of_a_networks_file(main: Path) -> None:
    nets = main.with_name("nets.txt")
    nets.write_text("192.0.2.0/24\n")
    main.write_text("version: 1\nnetworks: {n: {file: nets.txt}}\nrules: [{id: a, when: {network: n}, then: block}]\n")
    guard = guard_of(main)
    assert guard.decide(view(ip="203.0.113.7")).rule is None
    nets.write_text("192.0.2.0/24\n203.0.113.0/24\n")
    assert guard.poll() is True
    assert guard.decide(view(ip="203.0.113.7")).rule == "a"


@pytest.mark.parametrize(
    ("pattern", "new"),
    [("conf.d/*.yaml", "conf.d/b.yaml"), ("conf.d/**/*.yaml", "conf.d/deep/b.yaml"), ("conf*/[ab].yaml", "conf.d/b.yaml")],
)
def test_a_new_file_that_a_glob_matches_and_one_that_goes(main: Path, pattern: str, new: str) -> None:
    added = main.parent / new
    added.parent.mkdir(parents=True)
    (main.parent / "conf.d" / "a.yaml").write_text(policy("a"))
    main.write_text(policy("own", include=f"'{pattern}'"))
    guard = guard_of(main)
    assert decided(guard, "own", "a", "b") == ["own", "a", None]
    added.write_text(policy("b"))
    assert guard.poll() is True
    assert decided(guard, "own", "a", "b") == ["own", "a", "b"]
    assert guard.poll() is None, "one change is one reload"
    added.write_text(policy("b", "b2"))
    assert guard.poll() is True
    assert decided(guard, "b2") == ["b2"]
    added.unlink()
    assert guard.poll() is True
    assert decided(guard, "own", "a", "b") == ["own", "a", None]
    assert guard.poll() is None


@pytest.mark.parametrize("first", [None, "version: 1\nrules: [{id: part, then: blok}]\n"], ids=["missing", "broken"])
def test_an_edit_that_is_mended_in_the_file_that_it_newly_includes(main: Path, first: str | None) -> None:
    guard = guard_of(main)
    part = main.with_name("part.yaml")
    if first:
        part.write_text(first)
    main.write_text(policy("own", include="part.yaml"))
    assert guard.poll() is False
    part.write_text(policy("part"))
    assert guard.poll() is True
    assert decided(guard, "own", "part") == ["own", "part"]


def test_settings_given_in_code_hold_after_a_reload(main: Path) -> None:
    guard = Guard(main, clock=Clock(), watch=False, store="memory", mode="shadow")
    main.write_text(policy("new"))
    assert guard.poll() is True
    decision = guard.decide(view("/new"))
    assert (decision.allowed, [d.rule for d in decision.shadow]) == (True, ["new"])


def test_clients_stay_counted_through_a_reload(main: Path) -> None:
    rated = "version: 1\nrules: [{id: hot, when: {rate: {per: ip, requests: 2, within: 1h}}, then: throttle}]\n"
    main.write_text(rated)
    guard = guard_of(main)
    assert decided(guard, "x", "x", "x") == [None, None, "hot"]
    main.write_text(rated + "# a remark\n")
    assert guard.poll() is True
    assert decided(guard, "x") == ["hot"]


def test_a_guard_of_a_policy_object_has_no_files(main: Path) -> None:
    guard = Guard(load_policy(main), clock=Clock(), store="memory")
    main.write_text("broken: [")
    assert guard.reload() is True
    assert decided(guard, "old") == ["old"]


def test_swap_puts_another_policy_in_force_and_refuses_a_bad_one(main: Path) -> None:
    guard = guard_of(main)
    other = main.with_name("other.yaml")
    other.write_text(policy("other"))
    guard.swap(load_policy(other))
    assert decided(guard, "old", "other") == [None, "other"]
    bad = load_policy(other)
    bad.asn = str(main)
    bad.rules = load_policy_text("version: 1\nmissing_data: inactive\nrules: [{id: a, when: {asn: 5}, then: block}]\n")
    with pytest.raises(Exception, match="cannot be used"):
        guard.swap(bad)
    assert decided(guard, "old", "other") == [None, "other"]


def load_policy_text(text: str) -> tuple[Rule, ...]:
    parsed, _ = parse_policy(text)
    assert parsed is not None
    return parsed.rules


def test_no_decision_mixes_two_policies(tmp_path: Path) -> None:
    """Each policy tags by two rules with its own name, by agent, address, network and path: all must agree, in every thread."""
    policies = []
    for name, action in (("red", "block"), ("blue", "hide"), ("green", "price")):
        path = tmp_path / f"{name}.yaml"
        # The rules stand in another order and number in each, so that bits and masks differ between the policies.
        extra = {
            "red": "",
            "blue": "  - {id: x, when: {user_agent: zzz}, then: allow}\n",
            "green": "  - {id: x, when: {ip: 10.9.9.9}, then: allow}\n  - {id: y, when: {agent: CCBot}, then: allow}\n",
        }[name]
        path.write_text(
            f"version: 1\nnetworks: {{n: 203.0.113.0/24}}\nrules:\n{extra}"
            f"  - {{id: {name}-1, when: {{ip: 203.0.113.7}}, then: {{tag: {name}-ip}}}}\n"
            f"  - {{id: {name}-2, when: {{agent: GPTBot}}, then: {{tag: {name}-agent}}}}\n"
            f"  - {{id: {name}-3, when: {{network: n}}, then: {{tag: {name}-net}}}}\n"
            f"  - {{id: {name}-4, when: {{path: /x, user_agent: gptbot}}, then: {{tag: {name}-path, {action}: }}}}\n"
        )
        policies.append(load_policy(path))
    wanted = {("red", "block"), ("blue", "hide"), ("green", "price")}
    guard = Guard(policies[0], clock=Clock(), store="memory")
    stop, seen, wrong = threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            decision = guard.decide(view("/x", ua="GPTBot/1.0"))
            name = (decision.rule or "-").partition("-")[0]
            seen.add((name, str(decision.action)))
            if (
                decision.tags != (f"{name}-ip", f"{name}-agent", f"{name}-net", f"{name}-path")
                or (name, str(decision.action)) not in wanted
            ):
                wrong.append(decision)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        swaps = 0
        while (swaps < 60 or seen != wanted) and time.monotonic() < deadline:
            guard.swap(policies[swaps % 3])
            swaps += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert seen == wanted
    assert guard.counters.errors == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list a process's files")
def test_reloads_leave_no_file_open(main: Path) -> None:
    guard = guard_of(main)
    before = None
    for number in range(12):
        main.write_text(f"version: 1\nlog: decisions.jsonl\nrules: [{{id: r{number}, when: {{path: /a}}, then: block}}]\n")
        assert guard.reload()
        guard.decide(view(path="/a"))
        if number == 1:
            before = len(list(Path("/proc/self/fd").iterdir()))
    assert before is not None
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
