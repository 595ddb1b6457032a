"""The Django door behind both of Django's handlers, its checks, and marked views."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import django
import httpx
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.djangosite.settings")
django.setup()

from django.core.checks import CheckMessage, run_checks  # noqa: E402 - Django wants its settings first
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.test import override_settings  # noqa: E402

from crawlguard import Guard  # noqa: E402
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor  # noqa: E402
from crawlguard.marks import Marks  # noqa: E402
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor  # noqa: E402

CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
LIBRARY = "Scrapy/2.14.0 (+https://scrapy.org)"
GUARD_PATH = "crawlguard.django.CrawlGuardMiddleware"

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Answer]


def through_wsgi(path: str, user_agent: str, method: str = "GET", app: Any = None, **environ: Any) -> Answer:
    started: list[Any] = []
    full: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REMOTE_ADDR": "203.0.113.7",
        "HTTP_USER_AGENT": user_agent,
    }
    setup_testing_defaults(full)
    full |= {"wsgi.input": io.BytesIO(), **environ}
    handler: Any = app or WSGIHandler()
    response = handler(full, lambda *given: started.extend(given))
    body = b"".join(response)
    if hasattr(response, "close"):
        response.close()
    return int(started[0].split()[0]), {k.lower(): v for k, v in started[1]}, body


def through_asgi(path: str, user_agent: str, method: str = "GET", app: Any = None, **environ: Any) -> Answer:
    async def main() -> Answer:
        handler: Any = app or ASGIHandler()
        transport = httpx.ASGITransport(app=handler, client=("203.0.113.7", 5))
        headers = {"user-agent": user_agent} | {k[5:].replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
        async with httpx.AsyncClient(transport=transport, base_url="http://example.org") as client:
            answer = await client.request(method, path, headers=headers)
        return answer.status_code, dict(answer.headers), answer.content

    return asyncio.run(main())


both = pytest.mark.parametrize("ask", [through_wsgi, through_asgi], ids=["wsgi", "asgi"])


@both
@pytest.mark.parametrize("path", ["/", "/apage", "/Plain", "/AsyncPlain", "/absent"])
def test_a_crawler_gets_403_from_every_kind_of_view(path: str, ask: Ask) -> None:
    status, headers, body = ask(path, CRAWLER)
    assert (status, headers["content-type"], int(headers["content-length"])) == (403, "text/plain; charset=utf-8", len(body))
    assert b"ai-training" in body


@both
@pytest.mark.parametrize("path", ["/", "/apage", "/Plain", "/AsyncPlain", "/robots.txt", "/inner/page"])
def test_a_browser_reaches_the_view_with_the_decision(path: str, ask: Ask) -> None:
    status, _, body = ask(path, BROWSER)
    assert status == 200
    assert b'"action": "allow"' in body


@both
def test_robots_txt_is_served_to_everybody(ask: Ask) -> None:
    assert ask("/robots.txt", CRAWLER)[0] == 200


@both
def test_a_refused_head_has_no_body(ask: Ask) -> None:
    status, headers, body = ask("/", CRAWLER, "HEAD")
    assert (status, body) == (403, b"")
    assert headers["content-length"] == ask("/", CRAWLER)[1]["content-length"]


@both
def test_the_answer_is_in_the_type_that_is_asked_for(ask: Ask) -> None:
    assert ask("/", CRAWLER, HTTP_ACCEPT="text/html")[1]["content-type"] == "text/html; charset=utf-8"
    assert ask("/", CRAWLER, HTTP_ACCEPT="application/json")[1]["content-type"] == "application/json"


def test_a_streaming_response_is_handed_through() -> None:
    assert through_wsgi("/stream", BROWSER)[2] == b"012"


@both
def test_a_policy_and_settings_of_the_sites_own(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "crawlguard.yaml"
    path.write_text(
        "version: 1\nrules:\n"
        "  - {id: seen, when: {path: /apage}, then: {tag: watched}}\n"
        "  - {id: far, when: {ip: 198.51.100.0/24}, then: {block: {status: 410, headers: {X-Why: far}}}}\n"
    )
    with override_settings(CRAWLGUARD={"policy": str(path), "store": "memory", "trusted_proxies": ["203.0.113.7"]}):
        assert ask("/", CRAWLER, HTTP_X_FORWARDED_FOR="198.51.100.9, 8.8.8.8")[0] == 200
        status, headers, _ = ask("/", BROWSER, HTTP_X_FORWARDED_FOR="8.8.8.8, 198.51.100.9")
        assert (status, headers["x-why"]) == (410, "far")
        assert b'"tags": ["watched"]' in ask("/apage", BROWSER, HTTP_X_FORWARDED_FOR="8.8.8.8")[2]


@both
def test_shadow_mode_serves_and_tells_the_view(ask: Ask) -> None:
    with override_settings(CRAWLGUARD={"mode": "shadow", "store": "memory"}):
        assert ask("/", CRAWLER)[0] == 200


@both
def test_the_documents_of_a_policy_and_its_headers(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "crawlguard.yaml"
    path.write_text("version: 1\ninclude: [builtin:default]\nserve: {robots: true, headers: true}\n")
    with override_settings(CRAWLGUARD={"policy": str(path), "store": "memory"}):
        status, headers, body = ask("/robots.txt", CRAWLER)
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert b"User-agent: GPTBot\n" in body
        assert ask("/", BROWSER)[1]["tdm-reservation"] == "1"
        assert "tdm-reservation" not in headers


def test_the_other_two_doors_around_django() -> None:
    with override_settings(MIDDLEWARE=[]):
        django_asgi: Any = ASGIHandler()
        for ask, app in ((through_wsgi, WsgiDoor(WSGIHandler(), store="memory")), (through_asgi, AsgiDoor(django_asgi, store="memory"))):
            assert ask("/", CRAWLER, app=app)[0] == 403
            assert ask("/absent", BROWSER, app=app)[0] == 404


# ---- marked views


@both
@pytest.mark.parametrize("path", ["/status", "/astatus", "/Status", "/inner/status"])
def test_an_exempt_view_serves_everybody(path: str, ask: Ask) -> None:
    assert ask(path, CRAWLER)[0] == ask(path, BROWSER)[0] == 200


@both
@pytest.mark.parametrize("path", ["/archive", "/aarchive", "/Archive", "/inner/Archive"])
def test_a_strict_view_is_held_to_both_policies(path: str, ask: Ask) -> None:
    assert [ask(path, who)[0] for who in (BROWSER, LIBRARY, CRAWLER)] == [200, 451, 403]
    assert ask("/", LIBRARY)[0] == 200


@both
def test_while_no_view_is_marked_none_is_looked_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("crawlguard.django.middleware.resolve", lambda *args: calls.append(args[0]))
    monkeypatch.setattr(Marks, "used", False)
    assert ask("/", BROWSER)[0] == 200
    assert calls == []
    monkeypatch.setattr(Marks, "used", True)
    assert ask("/", BROWSER)[0] == 200
    assert calls == ["/"]


# ---- checks


def found() -> list[CheckMessage]:
    return [m for m in run_checks() if m.id and m.id.startswith("crawlguard.")]


def test_a_site_that_is_set_up_well_has_nothing_to_hear() -> None:
    assert found() == []


POLICIES = {
    "broken.yaml": "version: 1\nrules:\n  - {id: a, when: {agnet: GPTBot}, then: block}\n  - {id: b, then: blok}\n",
    "doubtful.yaml": "version: 1\nrules: [{id: a, when: {agent: {category: training}}, then: block}, {id: a2, when: {agent: {category: training}}, then: block}]\n",
    "nodata.yaml": "version: 1\nmissing_data: inactive\ndata: {asn: nowhere.mmdb}\nrules: [{id: a, when: {asn: AS64500}, then: block}]\n",
}
ERRORS: list[tuple[Any, str]] = [
    ("crawlguard.yaml", "crawlguard.E001"),
    (None, "crawlguard.E001"),
    (["policy"], "crawlguard.E001"),
    ({"polcy": "x"}, "crawlguard.E001"),
    ({5: "x"}, "crawlguard.E001"),
    ({"mode": "off"}, "crawlguard.E002"),
    ({"mode": None}, "crawlguard.E002"),
    ({"store": "redis"}, "crawlguard.E002"),
    ({"addresses": "hashed"}, "crawlguard.E002"),
    ({"trusted_proxies": ["10.0.0.1/8"]}, "crawlguard.E002"),
    ({"trusted_proxies": "nonsense"}, "crawlguard.E002"),
    ({"trusted_proxies": None}, "crawlguard.E002"),
    ({"trusted_proxies": 5}, "crawlguard.E002"),
    ({"client_ip_header": 5}, "crawlguard.E002"),
    ({"client_ip_header": ""}, "crawlguard.E002"),
    ({"log": 5}, "crawlguard.E002"),
    ({"log": None}, "crawlguard.E002"),
    ({"log_sample": "many"}, "crawlguard.E002"),
    ({"log_sample": 2}, "crawlguard.E002"),
    ({"policy": "no-such-file.yaml"}, "crawlguard.E003"),
    ({"policy": "builtin:nonsense"}, "crawlguard.E003"),
    ({"policy": "broken.yaml"}, "crawlguard.E003"),
    ({"policy": 5}, "crawlguard.E002"),
]


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in POLICIES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize(("given", "wanted"), ERRORS, ids=[repr(e[0]) for e in ERRORS])
def test_a_wrong_setting_is_an_error_of_the_checks_and_at_start(given: Any, wanted: str) -> None:
    with override_settings(CRAWLGUARD=given):
        messages = found()
        assert {m.id for m in messages} == {wanted}
        assert all(m.is_serious() and (m.hint or m.msg) for m in messages)
        for handler in (WSGIHandler, ASGIHandler):
            with pytest.raises(ImproperlyConfigured, match=wanted):
                handler()


@pytest.mark.usefixtures("policies")
def test_every_problem_of_a_policy_is_a_message_with_its_place_and_advice() -> None:
    with override_settings(CRAWLGUARD={"policy": "broken.yaml"}):
        messages = found()
    assert len(messages) == 2
    assert [":".join(m.msg.split(":")[:2]) for m in messages] == ["broken.yaml:3", "broken.yaml:4"]
    assert all("CG0" in m.msg and m.hint for m in messages)


@pytest.mark.usefixtures("policies")
def test_a_doubt_about_the_policy_is_a_warning_and_the_site_starts() -> None:
    with override_settings(CRAWLGUARD={"policy": "nodata.yaml", "store": "memory"}):
        messages = found()
        assert messages
        assert {m.id for m in messages} == {"crawlguard.W002"}
        assert not any(m.is_serious() for m in messages)
        assert through_wsgi("/", BROWSER)[0] == 200


@pytest.mark.parametrize(
    ("middleware", "ids"),
    [
        ([GUARD_PATH], []),
        ([], ["crawlguard.W001"]),
        (["django.middleware.common.CommonMiddleware"], ["crawlguard.W001"]),
        (["django.middleware.common.CommonMiddleware", GUARD_PATH], ["crawlguard.W003"]),
        ([GUARD_PATH, "django.middleware.common.CommonMiddleware"], []),
        (["django.middleware.security.SecurityMiddleware", GUARD_PATH], []),
    ],
)
def test_the_place_of_the_middleware(middleware: list[str], ids: list[str]) -> None:
    with override_settings(MIDDLEWARE=middleware):
        messages = found()
    assert [m.id for m in messages] == ids
    assert all((m.hint and GUARD_PATH in m.hint) or "before" in (m.hint or "") for m in messages)


def test_checks_have_a_tag_of_their_own() -> None:
    with override_settings(MIDDLEWARE=[]):
        assert [m.id for m in run_checks(tags=["crawlguard"])] == ["crawlguard.W001"]


def test_a_request_that_cannot_be_read_is_the_sites_to_deal_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise LookupError("no such request")

    monkeypatch.setattr("crawlguard.django.middleware.RequestView.from_environ", broken)
    assert through_wsgi("/", CRAWLER)[0] == 200


def test_an_exception_of_a_view_stays_its_own() -> None:
    with override_settings(ROOT_URLCONF="tests.djangosite.nowhere"), pytest.raises(ModuleNotFoundError, match="nowhere"):
        through_wsgi("/", BROWSER)


def test_the_guard_is_the_one_of_the_settings() -> None:
    from crawlguard.django import CrawlGuardMiddleware

    door = CrawlGuardMiddleware(lambda request: None)  # type: ignore[arg-type, return-value]
    assert isinstance(door.guard, Guard)
    assert door.guard.policy.store.kind == "memory"
    assert CrawlGuardMiddleware.sync_capable
    assert CrawlGuardMiddleware.async_capable
