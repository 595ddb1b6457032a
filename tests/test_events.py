"""The decision log and the counters: no line can be forged, split, mixed or lost without a word, and no disk stops the site."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Guard, Policy, RequestView, events
from crawlguard.client_ip import parse_ip
from crawlguard.decision import ALLOW
from crawlguard.events import Counters, EventLog, Once, Privacy
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Log
from crawlguard.policy.ruleset import Client, UaFacts

CRAWLER = b"Mozilla/5.0 (compatible; GPTBot/1.4; +https://openai.com/gptbot)"
KEYS = {
    "time",
    "client",
    "agent",
    "method",
    "path",
    "fingerprint",
    "tags",
    "rule",
    "action",
    "shadow",
    "status",
    "retry_after",
    "reason",
    "robots",
}


def policy_of(rules: str, more: str = "") -> Policy:
    policy, problems = parse_policy(f"version: 1\n{more}\nrules: {rules}\n")
    assert policy is not None, problems
    return policy


def view_of(user_agent: bytes = CRAWLER, path: str = "/", peer: str = "203.0.113.7", **view: Any) -> RequestView:
    return RequestView(path=path, peer=peer, headers=[(b"user-agent", user_agent)], **view)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


BLOCK_ALL = policy_of("[{id: everybody, then: block}]")


def test_a_line_says_who_what_and_why(tmp_path: Path) -> None:
    guard = Guard(store="memory", log=tmp_path / "log", watch=False)
    guard.decide(view_of(path="/secret", method="POST"))
    (row,) = lines_of(tmp_path / "log")
    assert set(row) == KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("time"))
    assert re.fullmatch("[0-9a-f]{16}", row.pop("fingerprint"))
    assert row.pop("reason")
    assert row == {
        "client": "203.0.113.7",
        "agent": "GPTBot",
        "method": "POST",
        "path": "/secret",
        "tags": [],
        "rule": "ai-training",
        "action": "block",
        "shadow": False,
        "status": 403,
        "retry_after": None,
        "robots": None,
    }


def test_what_is_worth_a_line(tmp_path: Path) -> None:
    rules = """
      - {id: seen, when: {path: /tagged}, then: {tag: seen}}
      - {id: maybe, mode: shadow, when: {path: /shadow}, then: block}
      - {id: also, mode: shadow, when: {path: /shadow}, then: {throttle: {retry_after: 9s}}}
      - {id: known, when: {path: /known}, then: allow}
      - {id: out, when: {path: [/out, /shadow/out]}, then: hide}
    """
    guard = Guard(policy_of(rules), store="memory", log=tmp_path / "log")
    for path in ("/plain", "/robots.txt", "/tagged", "/shadow", "/known", "/out", "/shadow/out"):
        guard.decide(view_of(path=path))
    assert [
        (r["path"], r["rule"], r["action"], r["shadow"], r["status"], r["retry_after"], r["tags"]) for r in lines_of(tmp_path / "log")
    ] == [
        ("/tagged", None, "allow", False, None, None, ["seen"]),
        ("/shadow", "maybe", "block", True, 403, None, []),
        ("/shadow", "also", "throttle", True, 429, 9, []),
        ("/known", "known", "allow", False, None, None, []),
        ("/out", "out", "hide", False, 404, None, []),
        ("/shadow/out", "maybe", "block", True, 403, None, []),
        ("/shadow/out", "also", "throttle", True, 429, 9, []),
        ("/shadow/out", "out", "hide", False, 404, None, []),
    ]


# ---- no line can be forged


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Guard, Path]:
    path = tmp_path_factory.mktemp("events") / "log"
    return Guard(BLOCK_ALL, store="memory", log=path), path


ODD_TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)  # lone surrogates too
FORGERIES = st.sampled_from(
    ["\n", "\r\n", "\0", "\x1b[2J", "\x85", "\u2028", "\u2029", '"}\n{"rule": null, "action": "allow"}\n', "\ud800", "%s", "\\"]
)
TEXTS = st.one_of(ODD_TEXT, FORGERIES)
BYTES = st.one_of(st.binary(max_size=80), TEXTS.map(lambda t: t.encode("utf-8", "surrogatepass")))


@given(TEXTS, TEXTS, BYTES, st.lists(st.tuples(BYTES, BYTES), max_size=3), TEXTS)
def test_every_request_is_one_json_object_on_one_line(
    hostile: tuple[Guard, Path], path: str, method: str, agent: bytes, headers: list[tuple[bytes, bytes]], peer: str
) -> None:
    guard, log = hostile
    if path in ("/robots.txt", "/ai.txt"):
        return
    before = len(log.read_bytes()) if log.exists() else 0
    assert guard.decide(RequestView(method, path, [*headers, (b"user-agent", agent)], peer)).rule == "everybody"
    added = log.read_bytes()[before:]
    assert added.endswith(b"\n")
    assert len(added) < 20_000
    assert all(32 <= byte < 127 for byte in added[:-1])  # nothing that ends a line, or that a terminal obeys
    row = json.loads(added)
    assert set(row) == KEYS
    assert (row["rule"], row["action"], row["path"], row["method"]) == ("everybody", "block", path[:1024], method[:32])
    assert guard.counters.log_errors == 0


def test_a_huge_path_is_cut(hostile: tuple[Guard, Path]) -> None:
    guard, log = hostile
    guard.decide(view_of(path="/" + "\u20ac" * 100_000, user_agent=b"x" * 100_000))
    assert len(log.read_bytes().splitlines()[-1]) < 10_000


# ---- rotation


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a rotation before every line, instead of once a second."""
    monkeypatch.setattr(events, "REOPEN_EVERY", 0.0)


@pytest.mark.usefixtures("eager")
def test_a_renamed_log_is_followed(tmp_path: Path) -> None:
    guard = Guard(BLOCK_ALL, store="memory", log=tmp_path / "log")
    for number in range(3):
        guard.decide(view_of(path=f"/{number}"))
        guard.decide(view_of(path=f"/{number}"))
        (tmp_path / "log").rename(tmp_path / f"log.{number}")
    guard.decide(view_of(path="/last"))
    assert [[r["path"] for r in lines_of(tmp_path / f"log.{n}")] for n in range(3)] == [["/0"] * 2, ["/1"] * 2, ["/2"] * 2]
    assert [r["path"] for r in lines_of(tmp_path / "log")] == ["/last"]


def test_a_truncated_log_goes_on_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    guard = Guard(BLOCK_ALL, store="memory", log=path)
    for _ in range(5):
        guard.decide(view_of(path="/before"))
    os.truncate(path, 0)  # logrotate's copytruncate
    guard.decide(view_of(path="/after"))
    assert [r["path"] for r in lines_of(path)] == ["/after"]


@pytest.mark.usefixtures("eager")
def test_a_log_that_was_removed_comes_back_and_leaks_no_descriptor(tmp_path: Path) -> None:
    guard = Guard(BLOCK_ALL, store="memory", log=tmp_path / "log")
    guard.decide(view_of())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        (tmp_path / "log").unlink()
        guard.decide(view_of())
    assert len(lines_of(tmp_path / "log")) == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_between_two_looks_the_file_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REOPEN_EVERY", 1e9)
    guard = Guard(BLOCK_ALL, store="memory", log=tmp_path / "log")
    guard.decide(view_of())
    (tmp_path / "log").rename(tmp_path / "old")
    guard.decide(view_of())
    assert len(lines_of(tmp_path / "old")) == 2


WRITER = """
import sys
from crawlguard import Guard, RequestView
from crawlguard.loader import parse_policy
policy, _ = parse_policy("version: 1\\nrules: [{id: r, then: block}]\\n")
guard = Guard(policy, store="memory", log=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(400):
    guard.decide(RequestView(path=f"/{sys.argv[2]}/{number}/" + "\\u20ac" * 900))
assert not guard.counters.log_errors
"""


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # all at once
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    seen = [tuple(r["path"].split("/")[1:3]) for r in lines_of(path)]
    assert len(seen) == len(set(seen)) == 1200


# ---- disks that fail


@pytest.mark.parametrize("target", ["/dev/full", "/proc/nowhere/log", "/", "/dev/null/log"])
def test_a_disk_that_fails_stops_no_request_and_is_said_once_a_minute(target: str, caplog: pytest.LogCaptureFixture) -> None:
    now = 0
    guard = Guard(BLOCK_ALL, store="memory", log=target, clock=lambda: now)
    for now in (0, 10**9, 59 * 10**9, 61 * 10**9):  # noqa: B007 - the clock reads it
        assert guard.decide(view_of()).rule == "everybody"
    assert guard.counters.log_errors == 4
    assert guard.counters.errors == 0
    assert len(caplog.records) == 2
    assert all("the decision log cannot be written" in r.getMessage() for r in caplog.records)


@pytest.mark.usefixtures("eager")
def test_a_log_that_can_be_written_again_is(tmp_path: Path) -> None:
    guard = Guard(BLOCK_ALL, store="memory", log=tmp_path / "later" / "log")
    guard.decide(view_of(path="/lost"))
    (tmp_path / "later").mkdir()
    guard.decide(view_of(path="/kept"))
    assert [r["path"] for r in lines_of(tmp_path / "later" / "log")] == ["/kept"]


# Run with -B: else Python leaves truncated bytecode beside the sources.
FILLING = """
import resource, sys
from crawlguard import Guard, RequestView
from crawlguard.loader import parse_policy
policy, _ = parse_policy("version: 1\\nrules: [{id: r, then: block}]\\n")
guard = Guard(policy, store="memory", log=sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))  # a disk that fills up in the middle of a line
answers = [guard.decide(RequestView(path=f"/{n}")).rule for n in range(6)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
answers += [guard.decide(RequestView(path=f"/after/{n}")).rule for n in range(2)]
assert answers == ["r"] * 8, answers
assert guard.counters.log_errors > 0
"""


def test_after_a_full_disk_no_line_is_glued_to_half_of_another(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-B", "-c", FILLING, tmp_path / "log"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    good = []
    for line in (tmp_path / "log").read_text("ascii").splitlines():
        try:
            good.append(json.loads(line)["path"])
        except ValueError:  # the half line that the disk had room for
            assert not line.endswith("}")
    assert good[-2:] == ["/after/0", "/after/1"]


# ---- the other targets, the sample, the counters


def test_off_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG):
        Guard(BLOCK_ALL, store="memory").decide(view_of())
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []


def test_logging_gets_the_same_lines_and_is_not_configured_by_us(caplog: pytest.LogCaptureFixture) -> None:
    before = [list(logging.getLogger(n).handlers) for n in (None, "crawlguard", "crawlguard.decisions")]
    with caplog.at_level(logging.WARNING, "crawlguard.decisions"):  # as it is when nobody has configured logging
        guard = Guard(BLOCK_ALL, store="memory", log="logging")
        guard.decide(view_of())
    assert ["set its level to INFO" in r.getMessage() for r in caplog.records] == [True]
    caplog.clear()
    with caplog.at_level(logging.INFO, "crawlguard.decisions"):
        guard.decide(view_of(path="/100%s\n"))
    (record,) = caplog.records
    assert record.name == "crawlguard.decisions"
    assert json.loads(record.getMessage())["path"] == "/100%s\n"
    assert "\n" not in record.getMessage()
    assert [list(logging.getLogger(n).handlers) for n in (None, "crawlguard", "crawlguard.decisions")] == before


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (1.0, 2000, 2000), (0.5, 750, 1250)])
def test_a_share_of_the_plain_allows(share: float, low: int, high: int, tmp_path: Path) -> None:
    guard = Guard(policy_of("[]"), store="memory", log=tmp_path / "log", log_sample=share)
    for _ in range(2000):
        guard.decide(view_of())
    rows = lines_of(tmp_path / "log") if share else []
    assert low <= len(rows) <= high  # 0.5: eleven standard deviations
    assert {(r["action"], r["rule"], r["status"]) for r in rows} <= {("allow", None, None)}
    assert guard.counters.allowed == 2000


def test_counters_by_rule_action_and_shadow() -> None:
    guard = Guard(
        policy_of(
            "[{id: watch, mode: shadow, when: {path: /w}, then: throttle}, {id: out, when: {path: /o}, then: block}, {id: in, when: {path: /i}, then: allow}]"
        ),
        store="memory",
    )
    for path in ("/w", "/w", "/o", "/o", "/o", "/i", "/", "/robots.txt"):
        guard.decide(view_of(path=path))
    found = guard.counters.snapshot()
    rows = found.pop("rules")
    assert found == {"allowed": 2, "errors": 0, "log_errors": 0, "disobeyed": {}}
    assert isinstance(rows, list)
    assert {(r["rule"], r["action"], r["shadow"]): r["count"] for r in rows if r["rule"]} == {
        ("watch", "throttle", True): 2,
        ("out", "block", False): 3,
        ("in", "allow", False): 1,
    }
    json.dumps(rows)


def test_counters_lose_nothing_between_threads() -> None:
    guard = Guard(BLOCK_ALL, store="memory")
    threads = [threading.Thread(target=lambda: [guard.decide(view_of()) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = guard.counters.snapshot()["rules"]
    assert isinstance(rows, list)
    assert [row["count"] for row in rows] == [2000]


@given(st.floats(0, 4e9))
def test_the_time_is_utc_to_the_millisecond(now: float) -> None:
    lines: list[str] = []
    log = EventLog(Log("off"), Privacy(), Counters(), Once(), wall=lambda: now)
    log._write = lines.append
    log.record(ALLOW, view_of(), UaFacts(0), Client(None, 0))
    row = json.loads(lines[0])
    assert abs(datetime.fromisoformat(row["time"]).timestamp() - now) <= 0.001
    assert row["client"] is None


def test_once_a_minute_and_topic(caplog: pytest.LogCaptureFixture) -> None:
    times: Iterator[float] = iter([0.0, 1.0, 59.9, 60.0, 61.0, 500.0])
    once = Once(lambda: next(times))
    for topic in ("a", "b", "a", "a", "b", "a"):
        once.warn(topic, topic)
    assert [r.getMessage() for r in caplog.records] == ["a", "b", "a", "b", "a"]


# ---- privacy


@pytest.mark.parametrize(
    ("addresses", "address", "shown"),
    [
        ("full", "203.0.113.7", "203.0.113.7"),
        ("full", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ("full", "::ffff:203.0.113.7", "203.0.113.7"),
        ("subnet", "203.0.113.7", "203.0.113.0/24"),
        ("subnet", "::ffff:203.0.113.7", "203.0.113.0/24"),
        ("subnet", "2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("subnet", "::1", "::/48"),
    ],
)
def test_what_an_address_looks_like(addresses: str, address: str, shown: str) -> None:
    assert Privacy(addresses).show(parse_ip(address)) == shown
    ipaddress.ip_network(shown)


@pytest.mark.parametrize("addresses", ["full", "subnet", "keyed"])
def test_an_unknown_client_has_no_address(addresses: str) -> None:
    assert Privacy(addresses).show(None) is None


@given(st.ip_addresses(), st.ip_addresses())
def test_keyed_tells_addresses_apart_and_nothing_else(one: Any, other: Any) -> None:
    privacy = Privacy("keyed")
    shown = privacy.show(one.packed)
    assert shown is not None
    assert shown.startswith("k-")
    assert set(shown[2:]) <= set(string.hexdigits)
    assert len(shown) == 18
    assert (shown == privacy.show(other.packed)) == (one == other)


KEYED = 'from crawlguard.events import Privacy; print(Privacy("keyed").show(bytes([203, 0, 113, 7])), Privacy("keyed").show(bytes(16)))'


def keyed(**environ: str) -> str:
    return subprocess.run([sys.executable, "-c", KEYED], env={**os.environ, **environ}, capture_output=True, text=True, check=True).stdout


def test_keyed_is_the_same_in_every_process_of_a_host(tmp_path: Path) -> None:
    first = keyed(CRAWLGUARD_STATE_DIR=str(tmp_path))
    assert first == keyed(CRAWLGUARD_STATE_DIR=str(tmp_path))
    assert (tmp_path / "address-key").stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    assert first != keyed(CRAWLGUARD_STATE_DIR=str(other))
    secrets = [keyed(CRAWLGUARD_STATE_DIR=str(where), CRAWLGUARD_SECRET="s3cret") for where in (tmp_path, other)]
    assert secrets[0] == secrets[1] != first
    assert secrets[0] != keyed(CRAWLGUARD_SECRET="another")


@pytest.mark.parametrize("left", [b"", b"half a key"])
def test_a_key_that_was_never_finished_is_made_again(left: bytes, tmp_path: Path) -> None:
    # A disk that was full, or a worker that was killed, in the moment when the key was made.
    (tmp_path / "address-key").write_bytes(left)
    assert keyed(CRAWLGUARD_STATE_DIR=str(tmp_path)) == keyed(CRAWLGUARD_STATE_DIR=str(tmp_path))


TOGETHER = """
import os, sys
from crawlguard.events import Privacy
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    os.environ["CRAWLGUARD_STATE_DIR"] = f"{sys.argv[1]}/{number}"
    print(Privacy("keyed").show(bytes(4)))
"""


def test_workers_that_start_in_the_same_moment_agree_on_the_key(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    names = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert len(names[0]) == 300
    assert [n for n, shown in enumerate(zip(*names, strict=True)) if len(set(shown)) > 1] == []


def test_a_key_that_cannot_be_read_stops_no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "address-key").mkdir()
    monkeypatch.setenv("CRAWLGUARD_STATE_DIR", str(tmp_path))
    guard = Guard(store="memory", addresses="keyed")
    assert not guard.decide(view_of()).allowed


@pytest.mark.parametrize("addresses", ["subnet", "keyed"])
def test_no_log_shows_the_whole_address(addresses: Literal["subnet", "keyed"], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(BLOCK_ALL, store="memory", log=tmp_path / "log", addresses=addresses, trusted_proxies="private")
    with caplog.at_level(logging.DEBUG):
        for peer in ("203.0.113.77", "2001:db8:1:2:3:4:5:6"):
            guard.decide(view_of(peer=peer))
            guard.decide(RequestView(peer="127.0.0.1", headers=[(b"x-forwarded-for", peer.encode())]))
    text = (tmp_path / "log").read_text() + caplog.text
    assert len(lines_of(tmp_path / "log")) == 4
    assert len({r["client"] for r in lines_of(tmp_path / "log")}) == 2
    assert "203.0.113.77" not in text
    assert "3:4:5:6" not in text
