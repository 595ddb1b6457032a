"""Updated lists in a site that runs: taken up without a restart, by bundled policies too, and by a policy's own networks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

from crawlguard import Guard, datadir
from crawlguard.loader import read_policy
from crawlguard.request import RequestView

from .updating import NEW, Desk, jafar


def rule_for(guard: Guard, address: str) -> str | None:
    return guard.decide(RequestView("GET", "/", [(b"user-agent", b"x")], address)).rule


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within ten seconds, in which the watcher looks ten times."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0)
    return False


def test_a_running_guard_takes_an_update_up_by_itself(desk: Desk) -> None:
    guard = Guard(str(desk.policy), store="memory", log="off")
    assert rule_for(guard, "9.9.9.1") is None
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    assert comes_true(lambda: rule_for(guard, "9.9.9.1") == "good")
    assert rule_for(guard, "8.8.0.1") is None


def test_one_that_is_asked_takes_it_up_at_once(desk: Desk) -> None:
    guard = Guard(str(desk.policy), store="memory", log="off", watch=False)
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    assert guard.poll() is True
    assert rule_for(guard, "9.9.9.1") == "good"
    assert guard.poll() is None


def test_a_bundled_policy_follows_too(desk: Desk) -> None:
    (desk.rules / "policies" / "default.yaml").write_text(desk.policy.read_text())
    guard = Guard(store="memory", log="off")
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    assert comes_true(lambda: rule_for(guard, "9.9.9.1") == "good")


def test_damaged_data_leave_a_running_guard_with_what_is_bundled(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    guard = Guard(str(desk.policy), store="memory", log="off", watch=False)
    assert rule_for(guard, "9.9.9.1") == "good"
    (desk.data / datadir.RANGES).write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING, "crawlguard"):
        assert guard.poll() is True
    assert (rule_for(guard, "9.9.9.1"), rule_for(guard, "8.8.0.1")) == (None, "good")
    assert sum("is not used: it is damaged" in r.getMessage() for r in caplog.records) == 1


def test_a_sites_own_network_is_fetched_like_the_catalogues(desk: Desk) -> None:
    desk.publish("/mine.txt", b"40.0.0.0/24\n41.0.0.1\n")
    url = desk.site.url("/mine.txt")
    desk.policy.write_text(
        f'version: 1\nnetworks:\n  partners: {{ranges: ["{url}"]}}\nrules:\n  - {{id: p, when: {{network: partners}}, then: block}}\n'
    )
    policy, problems = read_policy(str(desk.policy))
    assert policy is not None
    assert [(p.id, p.severity, p.advice) for p in problems] == [("CG030", "warning", "run crawlguard update to fetch its ranges")]
    assert desk.run()["partners"].verdict == "updated"
    policy, problems = read_policy(str(desk.policy))
    assert policy is not None
    assert (policy.networks["partners"].cidrs, problems) == (("40.0.0.0/24", "41.0.0.1/32"), [])
