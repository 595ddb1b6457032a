"""The wiring: whatever fails inside serves the request, what strangers send stays bounded, and a wrong setting names its cure."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from crawlguard import ConfigError, Guard, Policy, RequestView
from crawlguard import live as live_module
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.client_ip import ClientResolver, parse_ip
from crawlguard.events import Counters, EventLog, Privacy
from crawlguard.live import GENERATION
from crawlguard.loader import parse_policy
from crawlguard.policy.ruleset import Ruleset
from crawlguard.settings import SETTINGS
from crawlguard.signals.ua import UserAgentIndex
from crawlguard.store import MemoryStore
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor

CRAWLER = b"Mozilla/5.0 (compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = b"Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
SECOND = 10**9


def policy_of(rules: str, more: str = "") -> Policy:
    policy, problems = parse_policy(f"version: 1\n{more}\nrules: {rules}\n")
    assert policy is not None, problems
    return policy


def view_of(user_agent: bytes = CRAWLER, peer: str = "203.0.113.7", *headers: tuple[bytes, bytes]) -> RequestView:
    return RequestView(peer=peer, headers=[(b"user-agent", user_agent), *headers])


class BoomError(Exception):
    """What goes wrong in these tests."""


def boom(*args: object, **kwargs: object) -> Any:
    raise BoomError


LIMIT = "[{id: limit, when: {rate: {per: ip, requests: 1000, within: 1h}}, then: throttle}, {id: bots, when: {agent: {category: training}}, then: block}]"
STAGES: dict[str, tuple[object, str]] = {
    "the catalogue": (UserAgentIndex, "find"),
    "the client's address": (ClientResolver, "resolve"),
    "the store": (MemoryStore, "hit"),
    "the ruleset": (Ruleset, "evaluate"),
    "the counters": (Counters, "add"),
    "the log": (EventLog, "record"),
}


@pytest.mark.parametrize(("owner", "name"), STAGES.values(), ids=STAGES)
def test_a_failure_in_any_stage_serves_the_request(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    now = 0
    guard = Guard(policy_of(LIMIT), store="memory", trusted_proxies="private", log=tmp_path / "log", clock=lambda: now)
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, boom)
        for number, now in enumerate((0, 1 * SECOND, 59 * SECOND, 61 * SECOND, 62 * SECOND), 1):  # noqa: B007 - the clock reads it
            assert guard.decide(view_of(CRAWLER, "127.0.0.1", (b"x-forwarded-for", b"203.0.113.%d" % number))).allowed
            assert guard.counters.errors == number
    assert len(caplog.records) == 2  # once a minute
    for record in caplog.records:
        assert record.levelno >= logging.WARNING
        assert record.exc_info is not None
        assert record.exc_info[0] is BoomError
    assert guard.decide(view_of()).rule == "bots"  # and when it is over, the guard guards
    assert guard.counters.errors == 5


def test_a_failure_of_the_clock_serves_the_request() -> None:
    broken = True
    guard = Guard(policy_of(LIMIT), store="memory", clock=lambda: int(boom() if broken else 0))
    assert guard.decide(view_of()).allowed
    assert guard.counters.errors == 1
    broken = False
    assert guard.decide(view_of()).rule == "bots"


def test_a_failure_of_the_address_table_serves_the_request() -> None:
    guard = Guard(policy_of("[{id: here, when: {ip: 203.0.113.0/24}, then: block}]"), store="memory")
    table, guard._live.table = guard._live.table, None  # type: ignore[assignment]
    assert guard.decide(view_of()).allowed
    guard._live.table = table
    assert guard.decide(view_of()).rule == "here"
    assert guard.counters.errors == 1


def test_a_request_that_raises_when_it_is_read() -> None:
    class Broken(RequestView):
        first = boom

    guard = Guard(store="memory")
    assert guard.decide(Broken()).allowed
    assert guard.counters.errors == 1


def test_a_logging_handler_that_raises_does_not_reach_the_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(store="memory")
    monkeypatch.setattr(Ruleset, "evaluate", boom)
    monkeypatch.setattr("crawlguard.events.own.warning", boom)
    assert guard.decide(view_of()).allowed
    assert (guard.counters.errors, guard.counters.log_errors) == (1, 1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_process_or_a_task_is_not_held_back(stop: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object) -> None:
        raise stop

    guard = Guard(store="memory")
    monkeypatch.setattr(Ruleset, "evaluate", end)
    with pytest.raises(stop):
        guard.decide(view_of())


def through_asgi(guard: Guard) -> list[str]:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        log.append("app")

    async def send(message: Any) -> None:
        log.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"user-agent", CRAWLER)], "client": ("203.0.113.7", 1)}
    asyncio.run(AsgiDoor(app, guard)(scope, boom, send))
    return log


def through_wsgi(guard: Guard) -> list[str]:
    log: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        log.append("app")
        return []

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_USER_AGENT": CRAWLER.decode(), "REMOTE_ADDR": "203.0.113.7"}
    WsgiDoor(app, guard)(environ, lambda status, headers: log.append(status))
    return log


@pytest.mark.parametrize(("door", "through"), [("asgi", through_asgi), ("wsgi", through_wsgi)])
def test_a_refusal_that_cannot_be_made_serves_the_request(
    door: str, through: Callable[[Guard], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(store="memory")
    assert "app" not in through(guard)
    monkeypatch.setattr(f"crawlguard.{door}.refuse", boom)
    assert through(guard) == ["app"]
    assert guard.counters.errors == 1


# ---- settings

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"polcy": 1}, "no setting is called 'polcy'; there are: mode"),
    ({"mode": "off"}, "mode: 'off' is none of 'enforce', 'shadow'"),
    ({"mode": None}, "mode: None"),
    ({"store": "redis"}, "store: 'redis' is none of 'shared', 'memory'"),
    ({"store": None}, "store: None"),
    ({"addresses": "hashed"}, "addresses: 'hashed' is none of 'full', 'subnet', 'keyed'"),
    ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies: .*write an address"),
    ({"trusted_proxies": "localhost"}, "trusted_proxies: .*write an address"),
    ({"trusted_proxies": 5}, "trusted_proxies"),
    ({"trusted_proxies": None}, "trusted_proxies"),
    ({"trusted_proxies": [None]}, "trusted_proxies"),
    ({"client_ip_header": 5}, "client_ip_header"),
    ({"client_ip_header": " "}, "client_ip_header"),
    ({"log": None}, "log"),
    ({"log": 5}, "log"),
    ({"log_sample": "many"}, "log_sample"),
    ({"log_sample": None}, "log_sample"),
    ({"log_sample": 1.5}, "log_sample"),
    ({"log_sample": -1}, "log_sample"),
    ({"log_sample": float("nan")}, "log_sample"),
    ({"policy": 5}, "policy"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG, ids=[repr(w[0]) for w in WRONG])
def test_a_wrong_setting_names_itself_and_the_cure(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Guard(**settings)


RIGHT: list[dict[str, Any]] = [
    {"mode": "shadow"},
    {"mode": "enforce"},
    {"store": "memory"},
    {"store": "shared"},
    {"addresses": "keyed"},
    {"trusted_proxies": "private"},
    {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8", "unix"]},
    {"trusted_proxies": []},
    {"client_ip_header": "CF-Connecting-IP"},
    {"log": "off"},
    {"log": "logging"},
    {"log": Path("/dev/null"), "log_sample": 0.5},
]


@pytest.mark.parametrize("settings", RIGHT, ids=repr)
def test_a_right_setting_wins_over_the_policy(settings: dict[str, Any]) -> None:
    guard = Guard(policy_of("[]", "mode: enforce\nprivacy: {addresses: subnet}\nlog: logging\nstore: memory"), **settings)
    assert guard.policy.mode == settings.get("mode", "enforce")
    assert guard.policy.addresses == settings.get("addresses", "subnet")
    assert guard.policy.log.to == str(settings.get("log", "logging"))
    assert guard.store.name == settings.get("store", "memory")
    assert set(settings) <= set(SETTINGS)


def test_shadow_mode_tells_and_lets_pass() -> None:
    decision = Guard(store="memory", mode="shadow").decide(view_of())
    assert decision.allowed
    assert [d.rule for d in decision.shadow] == ["ai-training"]


# ---- caches


def stranger(rng: random.Random) -> tuple[bytes, str]:
    return b"Mozilla/5.0 %x" % rng.getrandbits(
        96
    ), f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"


def sizes(guard: Guard) -> list[int]:
    live = guard._live
    return [len(c) for c in (live.uas, live.old_uas, live.clients, live.old_clients, live.proxies)]


@pytest.mark.parametrize("behind", [False, True], ids=["direct", "behind a proxy"])
def test_strangers_stay_bounded_and_do_not_flush_what_is_common(behind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    guard = Guard(policy_of(LIMIT), store="memory", trusted_proxies="private")
    looked_at: list[object] = []
    agent, facts = Ruleset.user_agent, type(guard._live).facts

    def count_agent(self: Ruleset, raw: bytes | None) -> Any:
        looked_at.append(raw)
        return agent(self, raw)

    def count_facts(self: Any, packed: bytes | None) -> Any:
        looked_at.append(packed)
        return facts(self, packed)

    monkeypatch.setattr(Ruleset, "user_agent", count_agent)
    monkeypatch.setattr(type(guard._live), "facts", count_facts)

    def ask(user_agent: bytes, address: str) -> None:
        if behind:
            guard.decide(view_of(user_agent, "10.0.0.1", (b"x-forwarded-for", address.encode())))
        else:
            guard.decide(view_of(user_agent, address))

    for number in range(5 * GENERATION):
        ask(*stranger(rng))
        if number % 1000 == 0:  # far rarer than the strangers
            ask(BROWSER, "198.51.100.1")
    assert looked_at.count(BROWSER) == 1
    assert looked_at.count(parse_ip("198.51.100.1")) == 1
    assert all(size <= GENERATION for size in sizes(guard))
    assert guard.counters.errors == 0


def test_a_user_agent_is_kept_by_what_is_looked_at() -> None:
    guard = Guard(store="memory")
    for number in range(100):
        guard.decide(view_of(b"x" * 512 + b"%d" % number))
    assert len(guard._live.uas) == 1
    assert guard.decide(view_of(b"x" * 512 + CRAWLER)).allowed
    assert not guard.decide(view_of(b"x" * 400 + b" " + CRAWLER)).allowed


def test_long_forwarding_headers_fill_no_memory() -> None:
    guard = Guard(store="memory", trusted_proxies="private")
    for number in range(100):
        guard.decide(view_of(BROWSER, "10.0.0.1", (b"x-forwarded-for", b"8.8.8.8, " * 400 + b"203.0.113.%d" % number)))
    assert max(map(len, guard._live.clients), default=0) <= 512  # type: ignore[arg-type]


def test_threads_that_turn_the_generations_over_decide_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "GENERATION", 8)
    guard = Guard(
        policy_of("[{id: bots, when: {agent: {category: training}}, then: block}, {id: far, when: {ip: 8.0.0.0/8}, then: hide}]"),
        store="memory",
    )
    wrong: list[object] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(1500):
            user_agent, address = stranger(rng)
            wanted = "far" if address.startswith("8.") else None
            if rng.random() < 0.2:
                user_agent, wanted = CRAWLER + user_agent, "bots"
            if guard.decide(view_of(user_agent, address)).rule != wanted:
                wrong.append((user_agent, address))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert guard.counters.errors == 0


# ---- the store


@pytest.mark.parametrize("path", ["/proc/nowhere/rates.bin", "/dev/null/rates.bin"])
def test_a_store_that_cannot_be_made_falls_back_to_memory_and_says_so_once(path: str, caplog: pytest.LogCaptureFixture) -> None:
    rule = "[{id: slow, when: {rate: {per: ip, requests: 2, within: 1h}}, then: throttle}]"
    guard = Guard(policy_of(rule, f"store: {{kind: shared, path: {path}}}"), clock=lambda: 10**15)
    answers = [guard.decide(view_of()).allowed for _ in range(5)]
    assert answers == [True, True, False, False, False]
    assert guard.store.name == "memory"
    assert guard.counters.errors == 0
    assert len(caplog.records) == 1
    assert "rates are counted by each process alone" in caplog.records[0].getMessage()


def test_a_file_of_somebody_elses_is_not_taken_for_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "letters").write_text("pointed at by mistake")
    guard = Guard(policy_of("[]", f"store: {{kind: shared, path: {tmp_path / 'letters'}}}"))
    assert (tmp_path / "letters").read_text() == "pointed at by mistake"
    assert guard.store.name == "memory"
    assert "letters" in caplog.records[0].getMessage()


def test_where_no_directory_is_writable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("crawlguard.paths._candidates", lambda kind: iter([Path("/proc/nowhere")]))
    guard = Guard(addresses="keyed")
    assert guard.store.name == "memory"
    assert guard.decide(view_of()).rule == "ai-training"
    assert len(caplog.records) == 1
    assert "CRAWLGUARD_STATE_DIR" in caplog.records[0].getMessage()
    assert Privacy("keyed").show(b"\1\2\3\4")


# Run with -B: else Python leaves truncated bytecode beside the sources.
FULL = """
import logging, resource, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # no file of ours may grow past a page, as on a full disk
from crawlguard import Guard, RequestView
guard = Guard()
crawler, person = [(b"user-agent", b"GPTBot/1.4")], [(b"user-agent", b"Mozilla/5.0")]
print([guard.decide(RequestView(headers=h, peer="203.0.113.7")).allowed for h in (crawler, person)], guard.store.name, guard.counters.errors)
"""


def test_a_full_disk_at_start_stops_no_site(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL],
        env={"CRAWLGUARD_STATE_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *warnings, last = done.stdout.splitlines()
    assert last == "[False, True] memory 0"
    assert len(warnings) == 1
    assert "rates are counted by each process alone" in warnings[0]
    assert not list(tmp_path.glob("rates-*"))  # nothing half made is left


def test_guards_of_one_policy_count_together_by_default(tmp_path: Path) -> None:
    path = tmp_path / "crawlguard.yaml"
    path.write_text("version: 1\nrules: [{id: slow, when: {rate: {per: ip, requests: 4, within: 1h}}, then: throttle}]\n")
    workers = [Guard(path, watch=False, clock=lambda: 10**15) for _ in range(2)]
    assert [w.store.name for w in workers] == ["shared", "shared"]
    answers = [workers[n % 2].decide(view_of()).allowed for n in range(6)]
    assert answers == [True] * 4 + [False] * 2


# ---- the asynchronous form


def test_adecide_says_what_decide_says() -> None:
    guard = Guard(store="memory")

    async def main() -> list[bool]:
        asked = [guard.adecide(view_of(who)) for who in (CRAWLER, BROWSER) * 50]
        return [d.allowed for d in await asyncio.gather(*asked)]

    assert asyncio.run(main()) == [False, True] * 50


def test_adecide_never_raises_either(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(store="memory")
    monkeypatch.setattr(Ruleset, "evaluate", boom)
    assert asyncio.run(guard.adecide(view_of())).allowed
    assert guard.counters.errors == 1


def test_explain_says_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(store="memory")
    monkeypatch.setattr(Ruleset, "evaluate", boom)
    with pytest.raises(BoomError):
        guard.explain(view_of())


def test_a_site_without_a_server_loads_nothing_of_its_store() -> None:
    code = "import sys; from crawlguard import asgi, wsgi; print(*[m for m in sys.modules if m.startswith('crawlguard.store.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "crawlguard.store.shared" in loaded
    assert not {f"crawlguard.store.{name}" for name in ("remote", "remote_bans", "breaker", "batch", "links")} & set(loaded)
