"""The WSGI door, with wsgiref's validator on both of its sides: as the server sees it, and as the application does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Flask, Response, g, request
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import ConfigError, Decision, Guard, PolicyError
from crawlguard.loader import parse_policy
from crawlguard.wsgi import App, CrawlGuardMiddleware, Environ

CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
GUARD = Guard(store="memory")


class Site:
    """An application that writes down what reaches it."""

    def __init__(self) -> None:
        self.environs: list[Environ] = []

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.environs.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "yes")])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"hello"]


def environ_of(user_agent: str = BROWSER, method: str = "GET", path: str = "/", **changes: Any) -> Environ:
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REMOTE_ADDR": "203.0.113.7",
        "HTTP_USER_AGENT": user_agent,
        "QUERY_STRING": "",
    }
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    return {**environ, **changes}


def run(app: App, environ: Environ) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request, read as a server reads them."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
        started.append((status, headers))
        return lambda data: None

    result = app(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, headers = started[0]
    return int(status.split()[0]), {k.lower(): v for k, v in headers}, body


def checked(app: App, guard: Guard | None = None, **settings: Any) -> App:
    """The door between two validators."""
    return validator(CrawlGuardMiddleware(validator(app), guard or Guard(store="memory", **settings)))


@pytest.mark.parametrize("accept", ["", "text/html", "application/json", "*/*", "text/plain;q=0.5, text/html"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_a_crawler_gets_403_and_never_reaches_the_app(method: str, accept: str) -> None:
    site = Site()
    status, headers, body = run(checked(site, GUARD), environ_of(CRAWLER, method, HTTP_ACCEPT=accept))
    assert status == 403
    assert (body == b"") == (method == "HEAD")
    assert int(headers["content-length"]) == len(body) or method == "HEAD"
    assert site.environs == []


def test_a_head_tells_what_a_get_would() -> None:
    got, asked = (run(checked(Site(), GUARD), environ_of(CRAWLER, method)) for method in ("GET", "HEAD"))
    assert (asked[0], asked[1], asked[2]) == (got[0], got[1], b"")


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_browser_reaches_the_app_with_the_decision(method: str) -> None:
    site = Site()
    status, headers, body = run(checked(site), environ_of(BROWSER, method))
    assert (status, headers["x-app"], body) == (200, "yes", b"" if method == "HEAD" else b"hello")
    decision = site.environs[0]["crawlguard.decision"]
    assert isinstance(decision, Decision)
    assert decision.allowed


def test_robots_txt_is_served_to_everybody() -> None:
    assert run(checked(Site(), GUARD), environ_of(CRAWLER, path="/robots.txt"))[0] == 200


STATUSES = [200, 204, 205, 304, 402, 403, 404, 410, 418, 429, 451, 499, 503, 599]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_of_the_sites_own(status: int) -> None:
    policy, problems = parse_policy(f"version: 1\nrules: [{{id: r, then: {{block: {{status: {status}, body: no}}}}}}]\n")
    if policy is None:  # then it is refused while loading, never in front of a visitor
        assert problems
        return
    found, _, body = run(checked(Site(), Guard(policy, store="memory")), environ_of())
    assert found == status
    assert body == (b"" if status in (204, 304) else b"no")


def test_a_throttle_says_when_to_come_back() -> None:
    policy, _ = parse_policy("version: 1\nrules: [{id: r, when: {rate: {per: ip, requests: 1, within: 1m}}, then: throttle}]\n")
    door = checked(Site(), Guard(policy, store="memory", clock=lambda: 10**12))
    assert [run(door, environ_of())[0] for _ in range(3)] == [200, 429, 429]
    assert run(door, environ_of())[1]["retry-after"] == "60"


class Chunks:
    """A response that is made while it is read, and must be closed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __iter__(self) -> Iterator[bytes]:
        for number in range(3):
            self.log.append(f"made {number}")
            yield b"%d" % number

    def close(self) -> None:
        self.log.append("closed")


def test_a_stream_is_the_apps_own_iterable() -> None:
    log: list[str] = []
    chunks = Chunks(log)

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return chunks

    assert CrawlGuardMiddleware(app, GUARD)(environ_of(), lambda *_: None) is chunks
    assert log == []

    def left(data: bytes) -> None:
        log.append(f"left {data.decode()}")

    door = checked(app, GUARD)
    result = door(environ_of(), lambda status, headers, exc_info=None: left)
    for chunk in result:
        left(chunk)
    result.close()  # type: ignore[attr-defined]
    assert log == ["made 0", "left 0", "made 1", "left 1", "made 2", "left 2", "closed"]


def test_start_response_is_the_servers_own_with_write_and_exc_info() -> None:
    seen: list[object] = []

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.append(start_response)
        return []

    def start_response(*_: object) -> None: ...

    CrawlGuardMiddleware(app, GUARD)(environ_of(), start_response)
    assert seen == [start_response]


def test_an_exception_of_the_app_stays_its_own() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise LookupError("the application's own")

    door = CrawlGuardMiddleware(app, store="memory")
    with pytest.raises(LookupError, match="the application's own"):
        door(environ_of(), lambda *_: None)
    assert door.guard.counters.errors == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"polcy": "x"}, ConfigError),
        ({"mode": "off"}, ConfigError),
        ({"policy": "builtin:nonsense"}, PolicyError),
        ({"policy": "/no/such.yaml"}, PolicyError),
    ],
)
def test_what_is_wrong_is_said_at_start(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CrawlGuardMiddleware(Site(), **arguments)


MALFORMED: list[dict[str, Any]] = [
    {"PATH_INFO": None},
    {"PATH_INFO": b"/"},
    {"SCRIPT_NAME": 5},
    {"REMOTE_ADDR": 5},
    {"REMOTE_ADDR": "not an address"},
    {"HTTP_USER_AGENT": b"GPTBot"},
    {"HTTP_USER_AGENT": 5},
    {"HTTP_X_FORWARDED_FOR": None, "REMOTE_ADDR": "127.0.0.1"},
    {"REQUEST_METHOD": None},
]


@pytest.mark.parametrize("changes", MALFORMED, ids=repr)
def test_a_malformed_environ_is_the_apps_to_deal_with(changes: dict[str, Any]) -> None:
    site = Site()
    assert run(CrawlGuardMiddleware(site, GUARD), environ_of(**changes))[0] == 200
    assert isinstance(site.environs[0]["crawlguard.decision"], Decision)


def test_an_empty_environ() -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.append(environ)
        return []

    CrawlGuardMiddleware(app, GUARD)({}, lambda *_: None)
    assert seen[0]["crawlguard.decision"].allowed


def test_a_refusal_that_cannot_be_written_serves_the_request() -> None:
    site = Site()
    assert run(CrawlGuardMiddleware(site, GUARD), environ_of(CRAWLER, HTTP_ACCEPT=5))[0] in (200, 403)


NATIVE = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=40)


@given(NATIVE, NATIVE, NATIVE, st.sampled_from(["GET", "HEAD", "POST", "BREW"]))
def test_hostile_headers_make_no_invalid_answer(agent: str, accept: str, query: str, method: str) -> None:
    environ = environ_of(f"GPTBot {agent}", "GET", HTTP_ACCEPT=accept, QUERY_STRING=query)
    environ["REQUEST_METHOD"] = method if method != "BREW" else "PUT"
    status, _, body = run(checked(Site(), GUARD), environ)
    assert status in (200, 403)
    assert body or method == "HEAD"


# ---- Flask


def flask_site(**settings: Any) -> tuple[Flask, list[Decision]]:
    app, seen = Flask(__name__), []

    @app.get("/")
    def page() -> str:
        seen.append(request.environ["crawlguard.decision"])
        g.used = True
        return "hello"

    @app.get("/stream")
    def stream() -> Response:
        return Response(str(n) for n in range(3))

    app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app, **{"store": "memory", **settings})  # type: ignore[method-assign]
    return app, seen


def test_flask_behind_the_door() -> None:
    app, seen = flask_site()
    client = app.test_client()
    with client.get("/", headers={"User-Agent": BROWSER}) as page:
        assert (page.status_code, page.get_data(as_text=True), len(seen)) == (200, "hello", 1)
    with client.get("/stream", headers={"User-Agent": BROWSER}) as stream:
        assert stream.get_data(as_text=True) == "012"
    with client.get("/", headers={"User-Agent": CRAWLER, "Accept": "application/json"}) as refused:
        assert (refused.status_code, refused.json["rule"]) == (403, "ai-training")  # type: ignore[index]
    with client.head("/", headers={"User-Agent": CRAWLER}) as head:
        assert (head.status_code, head.data) == (403, b"")
    assert len(seen) == 1


def test_flask_behind_a_trusted_proxy() -> None:
    policy, _ = parse_policy("version: 1\nrules: [{id: r, when: {ip: 203.0.113.9}, then: hide}]\n")
    app, _ = flask_site(policy=policy, trusted_proxies="private")
    client = app.test_client()
    for address, status in (("203.0.113.9", 404), ("203.0.113.8", 200), ("203.0.113.9, 203.0.113.8", 200), ("junk", 200)):
        with client.get("/", headers={"X-Forwarded-For": address}, environ_base={"REMOTE_ADDR": "127.0.0.1"}) as answer:
            assert answer.status_code == status, address


def test_flask_through_the_validator() -> None:
    app, seen = flask_site()
    assert run(validator(app), environ_of(CRAWLER))[0] == 403
    assert run(validator(app), environ_of(BROWSER))[0] == 200
    assert len(seen) == 1
