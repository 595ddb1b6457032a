"""Whatever a client sends, the guard answers with a Decision, counts no error of its own, and takes no more than linear time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crawlguard import Decision, Guard, RequestView
from crawlguard.policy.ruleset import POLICY_FILES
from crawlguard.refusal import refuse

POLICY = """
version: 1
include: [builtin:default]
client_ip: {trusted_proxies: [private, 203.0.113.0/24], header: HEADER}
networks: {ours: [2001:db8::/32, 198.51.100.0/24]}
rules:
  - {id: path, when: {path: ["/*a*b*c*d$", "/*/*/*/x", "*.php", "/private/"]}, then: hide}
  - {id: path-text, when: {path: {contains: [evil], suffix: [.bak], regex: ['(a|aa)+$', '^/[0-9]+/']}}, then: block}
  - {id: ua, when: {user_agent: {contains: [needle, aab], regex: ['(x+x+)+y', '^(a|b)*c$'], prefix: [zz], suffix: [q]}}, then: block}
  - {id: host, when: {host: [example.org, "*.example.net"]}, then: {tag: host}}
  - {id: accept, when: {header: {name: accept, contains: [bad], regex: ['(,+,+)+z']}}, then: {price: {amount: USD 0.01}}}
  - {id: language, when: {header: {name: accept-language, missing: true}}, then: {weigh: 5}}
  - {id: method, when: {method: [TRACE], not: {network: ours}}, then: block}
  - {id: scored, when: {score: 5, ip: [192.0.2.0/24]}, then: block}
  - {id: look-alikes, when: {rate: {per: [fingerprint, ip], requests: 50, within: 1m}}, then: {throttle: {block_for: 1m}}}
  - {id: agents, when: {rate: {per: [agent, subnet], windows: [{requests: 5, within: 1s}, {requests: 50, within: 1h}]}}, then: throttle}
"""
HEADERS = ("x-forwarded-for", "forwarded", "cf-connecting-ip")


class Clock:
    """Nanoseconds that go on by 10 ms at each look."""

    now = 10**15

    def __call__(self) -> int:
        self.now += 10_000_000
        return self.now


@pytest.fixture(scope="module", params=HEADERS)
def guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Guard:
    path: Path = tmp_path_factory.mktemp("hostile") / "policy.yaml"
    path.write_text(POLICY.replace("HEADER", request.param))
    return Guard(path, clock=Clock(), watch=False, store="memory", log=str(path.with_suffix(".log")), log_sample=1.0)


def answered(guard: Guard, view: RequestView) -> None:
    decision = guard.decide(view)
    assert type(decision) is Decision
    assert guard.counters.errors == 0
    assert guard.counters.log_errors == 0
    if not decision.allowed:
        accept = view.header(b"accept")
        status, headers, body = refuse(decision, None if accept is None else accept.decode("latin-1"), view.method)
        assert 400 <= status <= 599
        assert all(value.isprintable() and value.isascii() for _, value in headers)
        assert dict(headers)["Content-Length"] == str(len(body)) or view.method == "HEAD"


NAMES = [b"user-agent", b"x-forwarded-for", b"forwarded", b"cf-connecting-ip", b"accept", b"accept-language", b"accept-encoding", b"host", b"cookie"]  # fmt: skip
WORDS = [b"GPTBot/1.2", b"needle", b"for=", b'"', b"[", b"]", b":", b",", b";", b"=", b"\\", b"1.2.3.4", b"::1", b"::ffff:1.2.3.4", b"%eth0", b"unknown", b"text/html", b"q=", b"nan", b"1e999", b"\r\n", b"\0", b" ", b"\xff\xfe"]  # fmt: skip
values = st.binary(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join)
headers = st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(max_size=12), values), max_size=10)
anything = st.text(st.characters(), max_size=40)  # lone surrogates too
peers = st.sampled_from(("", "127.0.0.1", "203.0.113.9", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "192.0.2.7")) | anything
paths = st.sampled_from(("/", "/robots.txt", "/a/b/c/x", "/x.php", "*", "", "/aab.bak")) | anything
methods = st.sampled_from(("GET", "HEAD", "POST", "TRACE", "PRI")) | anything


@settings(max_examples=300)
@given(method=methods, path=paths, sent=headers, peer=peers, scheme=st.none() | anything, query=values)
def test_any_scope_gets_a_decision(
    guard: Guard, method: str, path: str, sent: list[tuple[bytes, bytes]], peer: str, scheme: str | None, query: bytes
) -> None:
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": sent, "client": (peer, 1), "query_string": query}
    answered(guard, RequestView.from_scope(scope if scheme is None else {**scope, "scheme": scheme}))


@settings(max_examples=300)
@given(method=methods, path=paths, sent=headers, peer=peers, query=values)
def test_any_environ_gets_a_decision(
    guard: Guard, method: str, path: str, sent: list[tuple[bytes, bytes]], peer: str, query: bytes
) -> None:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": peer, "QUERY_STRING": query.decode("latin-1")}
    environ |= {"HTTP_" + name.decode("latin-1").upper().replace("-", "_"): value.decode("latin-1") for name, value in sent}
    answered(guard, RequestView.from_environ(environ))


@settings(max_examples=100)
@given(sent=headers, path=paths)
def test_no_request_forges_a_line_of_the_log(guard: Guard, sent: list[tuple[bytes, bytes]], path: str) -> None:
    assume(path not in POLICY_FILES)
    log = Path(guard.policy.log.to)
    before = log.read_bytes().count(b"\n") if log.exists() else 0
    guard.decide(RequestView("GET", path, sent, "192.0.2.7"))
    written = log.read_bytes().splitlines()[before:]
    assert 1 <= len(written) <= 3  # the decision, and what the two rules in shadow mode would have said
    assert all(line.startswith(b'{"time":') and line.endswith(b"}") and line.isascii() for line in written)


# ---- linear time

SMALL = 20_000
GROWTH = 2.6
"""What twice the input may cost: twice, and room for caches and clocks."""


Make = Callable[[int], RequestView]
BROWSER = (b"user-agent", b"Mozilla/5.0 Firefox/160.0")


def sends(header: bytes, text: bytes) -> Make:
    """A request whose header ``header`` is ``text`` again and again; from a trusted proxy, so that chains are walked."""
    return lambda size: RequestView("GET", "/", [BROWSER, (header, text * (size // len(text)))], "127.0.0.1")


def asks(piece: str) -> Make:
    return lambda size: RequestView("GET", "/" + piece * (size // len(piece)), [BROWSER], "192.0.2.7")


def repeats(header: bytes, value: bytes) -> Make:
    return lambda size: RequestView("GET", "/", [(header, value)] * (size // 10), "127.0.0.1")


XFF, FORWARDED, _ = HEADERS
GROWING: dict[str, tuple[str, Make]] = {
    **{f"user-agent {t!r}": (XFF, sends(b"user-agent", t)) for t in (b"a", b"xx", b"needl", b"GPTBot ClaudeBot ", b"\xff")},
    **{f"x-forwarded-for {t!r}": (XFF, sends(b"x-forwarded-for", t)) for t in (b",", b"10.0.0.1, ", b"1", b":", b" ", b"[", b"%")},
    **{f"forwarded {t!r}": (FORWARDED, sends(b"forwarded", t)) for t in (b'for="a",', b'"', b";", b"for=10.0.0.1,", b'\\"', b'"",')},
    **{f"accept {t!r}": (XFF, sends(b"accept", t)) for t in (b",", b"text/html;q=0.1,", b";q=1", b",,", b"a")},
    **{f"path {t!r}": (XFF, asks(t)) for t in ("a", "abc", "/", "aa", ".ph", "\ud800")},
    "headers": (XFF, repeats(b"x-a", b"b")),
    "forwarding headers": (XFF, repeats(b"x-forwarded-for", b"10.0.0.1")),
}


@pytest.fixture(scope="module")
def guards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Guard]:
    found = {}
    for header in HEADERS:
        path = tmp_path_factory.mktemp("linear") / "policy.yaml"
        path.write_text(POLICY.replace("HEADER", header))
        found[header] = Guard(path, clock=Clock(), watch=False, store="memory", log="off")
    return found


def cost(guard: Guard, view: RequestView) -> int:
    """CPU time of a decision and, so that Accept is read, of an answer."""
    started = time.process_time_ns()
    for _ in range(3):
        decision = guard.decide(view)
        refuse(decision if not decision.allowed else REFUSED, (view.header(b"accept") or b"").decode("latin-1"), "GET")
    return time.process_time_ns() - started


@pytest.fixture(scope="module", autouse=True)
def refused(guards: dict[str, Guard]) -> None:
    global REFUSED
    REFUSED = guards["forwarded"].decide(RequestView("GET", "/private/", [], "192.0.2.7"))


REFUSED: Decision


@pytest.mark.parametrize("name", sorted(GROWING))
def test_twice_the_input_costs_at_most_about_twice(guards: dict[str, Guard], name: str) -> None:
    header, make = GROWING[name]
    guard = guards[header]
    assert guard.counters.errors == 0
    # From 20 kB on until the cost is measurable at all, at most to what no server lets through.
    size = SMALL
    while size < 64 * SMALL and cost(guard, make(size)) < 1_000_000:
        size *= 2
    small, large = make(size), make(2 * size)
    ratios = []
    for _ in range(9):  # interleaved, so that a slow moment hits both
        one, two = cost(guard, small), cost(guard, large)
        ratios.append(two / max(one, 50_000))
    assert statistics.median(ratios) <= GROWTH
    assert guard.counters.errors == 0
