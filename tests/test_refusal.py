"""The answer to a refused request: its type, its status and headers, and what it must not tell."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Action, Decision, Guard, RequestView
from crawlguard.decision import DEFAULT_STATUS, Answer
from crawlguard.loader import parse_policy
from crawlguard.refusal import preferred, refuse

ACCEPTS = [
    (None, "text"),
    ("", "text"),
    ("*/*", "text"),
    ("text/*", "text"),
    ("image/avif,image/webp,*/*;q=0.8", "text"),
    ("text/plain", "text"),
    ("text/html", "html"),
    ("TEXT/HTML", "html"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),  # browsers
    ("application/xhtml+xml", "html"),
    ("text/html, text/plain, text/sgml, */*;q=0.01", "html"),  # lynx
    ("application/json", "json"),
    ("application/json, text/plain, */*", "json"),  # axios
    ("application/json;charset=utf-8", "json"),
    ("text/html;q=0.5, application/json", "json"),
    ("text/html;level=1;q=0.4, application/json; q=0.3", "html"),
    ("text/html;q=0", "text"),
    ("application/json;q=0.0, text/html;q=0.001", "html"),
    ("application/json;q=junk, text/html;q=0.1", "html"),
    ("application/json;q=nan, text/html;q=0.1", "html"),
    ("text/html;q=0.9, application/json;q=0.9", "html"),  # equal: the first
    (",,;;q=;=,", "text"),
]


@pytest.mark.parametrize(("accept", "kind"), ACCEPTS)
def test_the_type_that_a_client_prefers(accept: str | None, kind: str) -> None:
    assert preferred(accept) == kind


TYPES = {"text/html": "text/html; charset=utf-8", "application/json": "application/json", "text/plain": "text/plain; charset=utf-8"}
BLOCK = Decision(action=Action.BLOCK, rule="ai-training", reason="no crawlers")


def parts(decision: Decision, accept: str | None = "text/plain", method: str = "GET") -> tuple[int, dict[str, str], str]:
    status, headers, body = refuse(decision, accept, method)
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names))
    return status, {k.lower(): v for k, v in headers}, body.decode()


@pytest.mark.parametrize("accept", TYPES)
@pytest.mark.parametrize("action", [a for a in Action if a is not Action.ALLOW])
def test_each_action_in_each_type(action: Action, accept: str) -> None:
    status, headers, body = parts(Decision(action=action, rule="some-rule", reason="why"), accept)
    assert status == DEFAULT_STATUS[action]
    assert headers["content-type"] == TYPES[accept]
    assert int(headers["content-length"]) == len(body.encode())
    assert headers["cache-control"] == "no-store"  # a shared cache must not hand a crawler's 403 to people
    assert {"accept", "user-agent"} <= {v.strip().lower() for v in headers["vary"].split(",")}
    assert ("some-rule" in body) == (action is not Action.HIDE)
    if accept == "application/json":
        assert json.loads(body)["error"]


@pytest.mark.parametrize("accept", TYPES)
def test_a_head_has_the_headers_of_a_get(accept: str) -> None:
    got, asked = refuse(BLOCK, accept, "GET"), refuse(BLOCK, accept, "HEAD")
    assert asked == (got[0], got[1], b"")


@pytest.mark.parametrize("accept", TYPES)
def test_a_hidden_page_tells_nothing(accept: str) -> None:
    hidden = Decision(action=Action.HIDE, rule="secret-rule", reason="secret reason", tags=("secret-tag",), score=9)
    status, headers, body = parts(hidden, accept)
    told = (json.dumps(headers) + body).lower()
    assert status == 404
    assert "not found" in told
    for hint in ("secret", "guard", "crawl", "bot", "block", "automat", "rule", "allow", "forbid", "refus", "owner"):
        assert hint not in told.replace('name="robots"', ""), hint
    assert "retry-after" not in headers


def test_retry_after_is_there_for_throttles_and_only_then() -> None:
    throttle = Decision(action=Action.THROTTLE, rule="r", reason="slow", retry_after=7)
    assert parts(throttle)[1]["retry-after"] == "7"
    assert json.loads(parts(throttle, "application/json")[2])["retry_after"] == 7
    assert "retry-after" not in parts(BLOCK)[1]
    assert "retry_after" not in json.loads(parts(BLOCK, "application/json")[2])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


PLAIN_TAGS = Tags()
PLAIN_TAGS.feed(refuse(BLOCK, "text/html", "GET")[2].decode())


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_rule_and_no_reason_becomes_markup(rule: str, reason: str) -> None:
    for extra in ("", "<script>alert(1)</script>", '"><img src=x onerror=y>', "{0}{title}", "%s"):
        decision = Decision(action=Action.BLOCK, rule=f"r{rule}{extra}", reason=f"as {reason}{extra}")
        tags = Tags()
        tags.feed(refuse(decision, "text/html", "GET")[2].decode())
        assert tags.seen == PLAIN_TAGS.seen
        assert json.loads(refuse(decision, "application/json", "GET")[2])["rule"] == decision.rule


def custom(**answer: Any) -> Decision:
    return Decision(action=Action.BLOCK, rule="r", reason="why", answer=Answer(**{"status": 451, **answer}))


def test_a_body_for_each_type() -> None:
    decision = custom(text="plain", html="<p>rich</p>", json='{"a": 1}')
    assert [parts(decision, a)[2] for a in ("text/plain", "text/html", "application/json")] == ["plain", "<p>rich</p>", '{"a": 1}']
    assert parts(decision)[0] == 451


def test_one_text_serves_every_type_and_becomes_no_markup() -> None:
    decision = custom(text='No <b>bots</b> & "friends"')
    assert parts(decision, "text/plain")[2] == 'No <b>bots</b> & "friends"'
    assert "<b>" not in parts(decision, "text/html")[2]
    assert json.loads(parts(decision, "application/json")[2]) == {"error": 'No <b>bots</b> & "friends"'}


def test_what_is_missing_is_said_in_our_words() -> None:
    decision = custom(html="<p>rich</p>")
    assert parts(decision, "text/html")[2] == "<p>rich</p>"
    assert json.loads(parts(decision, "application/json")[2])["rule"] == "r"


def test_a_sites_own_headers_replace_ours() -> None:
    headers = parts(custom(headers=(("CACHE-control", "max-age=60"), ("X-Why", "policy"))))[1]
    assert (headers["cache-control"], headers["x-why"]) == ("max-age=60", "policy")


def decide(then: str, **view: Any) -> Decision:
    policy, problems = parse_policy(f"version: 1\nrules: [{{id: r, reason: why, then: {then}}}]\n")
    assert policy is not None, problems
    return Guard(policy, store="memory").decide(RequestView(**view))


def test_a_price_is_told_in_its_header() -> None:
    status, headers, _ = parts(decide("{price: {amount: USD 0.01}}"))
    assert (status, headers["crawler-price"]) == (402, "USD 0.01")


def test_a_policys_answer_comes_out_as_it_was_written() -> None:
    status, headers, body = parts(
        decide('{block: {status: 410, headers: {X-Why: gone}, body: {text: "Grüße", html: "<p>Grüße</p>"}}}'), "text/html"
    )
    assert (status, headers["x-why"], body) == (410, "gone", "<p>Grüße</p>")
    assert int(headers["content-length"]) == len("<p>Grüße</p>".encode())


@pytest.mark.parametrize("escape", ["\\ud800", "\\0", "\\x1b", "\\u2028"])
def test_a_body_of_odd_characters_is_refused_at_start_or_can_be_sent(escape: str) -> None:
    policy, problems = parse_policy(f'version: 1\nrules: [{{id: r, then: {{block: {{body: "a{escape}b"}}}}}}]\n')
    if policy is None:
        assert problems
    else:
        decision = Guard(policy, store="memory").decide(RequestView())
        assert all(refuse(decision, a, "GET")[2].decode() for a in TYPES)


@given(st.one_of(st.none(), st.text(max_size=200), st.text("texthmlapicon/json;q=.,* ", max_size=200)))
def test_no_accept_raises(accept: str | None) -> None:
    status, headers, body = refuse(BLOCK, accept, "GET")
    assert status == 403
    assert body
    assert all("\n" not in value and "\r" not in value for _, value in headers)
