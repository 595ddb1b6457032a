"""What a compiled policy decides: order, shadow, tags, score, rates, and that nothing is ever concluded from ignorance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.decision import ALLOW, Action, Decision
from crawlguard.policy.ruleset import POLICY_FILES

from .policy_corpus import BRITISH, DATA, TELSTRA, Clock, guard_of, view

UNKNOWN: dict[str, Any] = {"ip": "127.0.0.1", "headers": {"x-forwarded-for": "203.0.113.7"}}
"""A client behind a proxy that nobody has configured."""


def verdict(guard: Guard, **request: Any) -> str:
    """What the first rule says."""
    return guard.explain(view(**request))[1][0].verdict


# ---- three values

M, N, U = "matched", "not matched", "unknown"


@pytest.mark.parametrize(
    ("when", "telstra", "british", "unknown"),
    [
        ({"asn": 1221}, M, U, U),
        ({"asn": 209}, N, U, U),
        ({"not": {"asn": 209}}, M, U, U),
        ({"country": "GB"}, U, M, U),
        ({"not": {"country": "GB"}}, U, N, U),
        ({"ip": "1.128.0.0/11"}, M, N, U),
        ({"not": {"ip": "1.128.0.0/11"}}, N, M, U),
        ({"network": "home"}, N, N, U),
        ({"network": "telco"}, M, U, U),
        ({"not": {"network": "telco"}}, N, U, U),
        ({"network": ["home", "telco"]}, M, U, U),
        ({"not": {"network": "both"}}, N, U, U),
        ({"asn": 1221, "country": "GB"}, U, U, U),
        ({"any": [{"asn": 1221}, {"country": "GB"}]}, M, M, U),
        ({"all": [{"asn": 1221}, {"ip": "1.128.0.0/11"}]}, M, N, U),
        ({"any": [{"asn": 1221}, {"path": "/"}]}, M, M, M),
        ({"any": [{"asn": 209}, {"path": "/x"}]}, N, U, U),
        ({"asn": 1221, "path": "/x"}, N, N, N),
        ({"not": {"asn": 1221, "path": "/x"}}, M, M, M),
        ({"not": {"asn": 1221, "path": "/"}}, N, U, U),
        ({"not": {"asn": 1221, "user_agent": "x"}}, M, M, M),
        ({"not": {"all": [{"any": [{"asn": 209}, {"path": "/x"}]}, {"method": "POST"}]}}, M, M, M),
        ({"not": {"any": [{"asn": 209}, {"path": "/"}]}}, N, N, N),
        ({"not": {"not": {"asn": 209}}}, N, U, U),
        ({"rate": {"per": "asn", "requests": 5, "within": "1m"}}, N, U, U),
        ({"not": {"rate": {"per": "asn", "requests": 5, "within": "1m"}}}, M, U, U),
        ({"not": {"rate": {"per": "ip", "requests": 5, "within": "1m"}}}, M, M, U),
        ({"not": {"rate": {"per": ["ip", "agent"], "requests": 5, "within": "1m"}}}, U, U, U),
        ({"rate": {"per": "fingerprint", "requests": 50, "within": "1m"}}, N, N, N),
    ],
    ids=json.dumps,
)
def test_what_is_not_known_stays_unknown(when: dict[str, Any], telstra: str, british: str, unknown: str) -> None:
    networks = {"home": "203.0.113.0/24", "telco": {"asns": 1221}, "both": {"asns": 1221, "cidrs": "203.0.113.0/24"}}
    guard = guard_of({"when": when}, data=DATA, networks=networks)
    found = {
        name: verdict(guard, **request)
        for name, request in (("telstra", {"ip": TELSTRA}), ("british", {"ip": BRITISH}), ("unknown", UNKNOWN))
    }
    assert found == {"telstra": telstra, "british": british, "unknown": unknown}
    for name, request in (("telstra", {"ip": TELSTRA}), ("british", {"ip": BRITISH}), ("unknown", UNKNOWN)):
        assert guard.decide(view(**request)).allowed is (found[name] != M)


# ---- order, shadow, tags, score


def test_the_first_rule_with_a_final_action_decides() -> None:
    guard = guard_of(
        {"when": {"path": "/a/b"}, "then": "allow"},
        {"when": {"path": "/a"}, "then": "hide"},
        {"when": {"user_agent": "x"}, "then": "price"},
    )
    assert [guard.decide(view(p, ua="x")).rule for p in ("/a/b", "/a", "/")] == ["r1", "r2", "r3"]
    assert guard.decide(view("/", ua="y")) is ALLOW


def test_a_rule_that_always_matches_decides_what_is_left() -> None:
    guard = guard_of({"when": {"path": "/open"}, "then": "allow"}, {"then": "block", "reason": "closed"})
    assert guard.decide(view("/open")).action is Action.ALLOW
    assert (guard.decide(view("/")).action, guard.decide(view("/")).reason) == (Action.BLOCK, "closed")
    assert guard.decide(view("/open")).reason == "rule r1"


def test_tags_and_weights_of_all_rules_that_matched_go_with_the_decision() -> None:
    guard = guard_of(
        {"when": {"path": "/a"}, "then": {"tag": ["x", "y"], "weigh": 5}},
        {"when": {"method": "POST"}, "then": {"tag": "z", "weigh": -2}},
        {"when": {"score": {"at_least": 3, "below": 4}}, "then": {"block": None, "tag": "last", "weigh": 1}},
    )
    assert guard.decide(view("/a")) == Decision(tags=("x", "y"), score=5)
    both = guard.decide(view("/a", method="POST"))
    assert (both.rule, both.tags, both.score) == ("r3", ("x", "y", "z", "last"), 4)
    assert guard.decide(view("/b", method="POST")) == Decision(tags=("z",), score=-2)


def test_a_score_sees_only_the_weights_before_it() -> None:
    guard = guard_of(
        {"then": {"weigh": 4}},
        {"when": {"path": "/more"}, "then": {"weigh": 1}},
        {"when": {"score": 5}, "then": "hide"},
        {"then": {"weigh": 4}},
        {"when": {"score": 8}},
    )
    assert [guard.decide(view(p)).rule for p in ("/", "/more")] == ["r5", "r3"]


def test_shadow_for_one_rule_tells_and_goes_on() -> None:
    guard = guard_of(
        {"when": {"path": "/"}, "then": "block", "mode": "shadow"},
        {"when": {"path": "/a"}, "then": {"weigh": 9, "tag": "never"}, "mode": "shadow"},
        {"when": {"path": "/a"}, "then": {"tag": "real"}},
        {"when": {"path": "/a"}, "then": "hide"},
    )
    decision = guard.decide(view("/a"))
    assert (decision.action, decision.rule, decision.tags, decision.score) == (Action.HIDE, "r4", ("real",), 0)
    assert [(d.rule, d.action) for d in decision.shadow] == [("r1", Action.BLOCK)]
    assert guard.decide(view("/b")).allowed


def test_shadow_for_all_acts_on_nothing_but_still_weighs() -> None:
    guard = guard_of(
        {"when": {"path": "/a"}, "then": {"weigh": 5}},
        {"when": {"path": "/a"}, "then": "price", "mode": "shadow"},
        {"when": {"score": 5}},
        {"when": {"path": "/*a"}, "then": "hide"},
        {"when": {"method": "GET"}, "then": "price", "mode": "shadow"},
        mode="shadow",
    )
    decision = guard.decide(view("/a"))
    assert (decision.allowed, decision.rule, decision.score) == (True, None, 5)
    # r4 and r5 will not be reached when the policy is enforced, so they say nothing now.
    assert [(d.rule, d.action) for d in decision.shadow] == [("r2", Action.PRICE), ("r3", Action.BLOCK)]


def test_shadow_for_all_leaves_enforced_rules_in_force() -> None:
    guard = guard_of({"when": {"path": "/a"}, "then": "block"}, {"when": {"path": "/*a"}, "then": "hide", "mode": "enforce"}, mode="shadow")
    decision = guard.decide(view("/a"))
    assert (decision.action, decision.rule, [d.rule for d in decision.shadow]) == (Action.HIDE, "r2", ["r1"])


def test_a_header_is_compared_as_the_client_sent_it() -> None:
    guard = guard_of(
        {"when": {"header": {"name": "x-site", "contains": "Zürich"}}},
        {"when": {"header": {"name": "x-site", "regex": "^caf\u00e9$"}}, "then": "hide"},
    )
    asked = [
        guard.decide(view("/", headers={"x-site": text.encode().decode("latin-1")})).rule
        for text in ("in ZüRICH now", "café", "cafe", "Zurich")
    ]
    assert asked == ["r1", "r2", None, None]


def test_a_shadow_throttle_says_how_long_and_counts() -> None:
    clock = Clock()
    guard = guard_of({"when": {"rate": {"per": "ip", "requests": 1, "within": "1m"}}, "then": "throttle", "mode": "shadow"}, clock=clock)
    assert guard.decide(view()) is ALLOW
    (would,) = guard.decide(view()).shadow
    assert (would.action, would.retry_after) == (Action.THROTTLE, 60)


@pytest.mark.parametrize("path", sorted(POLICY_FILES))
def test_files_that_state_the_policy_are_always_served_and_never_counted(path: str) -> None:
    guard = guard_of({"when": {"rate": {"per": "ip", "requests": 1, "within": "1h"}}, "then": "throttle"}, {"then": "block"})
    for _ in range(3):
        decision = guard.decide(view(path))
        assert (decision.allowed, decision.rule) == (True, None)
    assert guard.decide(view("/")).rule == "r2", "the rate has counted none of them"
    assert guard.decide(view(path.upper())).rule == "r1"
    assert [v.verdict for v in guard.explain(view(path))[1]] == ["not reached", "not reached"]


# ---- explain


def test_explain_says_what_evaluate_does_and_counts_once() -> None:
    rules: list[dict[str, Any]] = [
        {"when": {"path": "/a"}, "then": {"weigh": 2}},
        {"when": {"not": {"asn": 209}}, "then": "hide"},
        {"when": {"rate": {"per": "ip", "requests": 3, "within": "1h"}}, "then": "throttle", "mode": "shadow"},
        {
            "when": {
                "rate": {"per": "ip", "windows": [{"requests": 2, "within": "1h"}, {"requests": 9, "within": "1d"}], "block_for": "2h"}
            },
            "then": "throttle",
        },
        {"when": {"country": "GB"}, "then": "price"},
        {"when": {"score": 2}, "then": "block"},
    ]
    guards = [guard_of(*rules, data={"asn": DATA["asn"]}, missing_data="inactive") for _ in range(2)]
    words = []
    for _ in range(4):
        decision, verdicts, _, _ = guards[0].explain(view("/a"))
        assert decision == guards[1].decide(view("/a"))
        words.append([v.verdict for v in verdicts])
    calm = [M, U, N, N, "inactive", M]
    assert words == [calm, calm, [M, U, N, M, "inactive", "not reached"], [M, U, M, M, "inactive", "not reached"]]
    assert [v.action for v in verdicts] == ["weigh", "hide", "throttle", "throttle", "price", "block"]
    assert verdicts[4].note
    assert [v.shadow for v in verdicts] == [False, False, True, False, False, False]
