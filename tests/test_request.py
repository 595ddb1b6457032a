"""One request as values: the same facts from a scope and from an environ, and an honest answer where a door cannot know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Guard, RequestView

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/caf\xe9/x y",
    "query_string": b"a=1&b=%00",
    "scheme": "https",
    "client": ("203.0.113.7", 5678),
    "headers": [(b"host", b"Example.ORG:8443"), (b"user-agent", b"GPTBot/1.4"), (b"accept", b"text/html"), (b"accept", b"*/*")],
}
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "/caf\xc3\xa9",  # WSGI hands UTF-8 over as latin-1
    "PATH_INFO": "/x y",
    "QUERY_STRING": "a=1&b=%00",
    "wsgi.url_scheme": "https",
    "REMOTE_ADDR": "203.0.113.7",
    "HTTP_HOST": "Example.ORG:8443",
    "HTTP_USER_AGENT": "GPTBot/1.4",
    "HTTP_ACCEPT": "text/html, */*",
    "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "3",
}


@pytest.mark.parametrize("view", [RequestView.from_scope(SCOPE), RequestView.from_environ(ENVIRON)], ids=["scope", "environ"])
def test_both_doors_see_the_same_request(view: RequestView) -> None:
    assert (view.method, view.path, view.query, view.scheme, view.peer) == ("POST", "/café/x y", b"a=1&b=%00", "https", "203.0.113.7")
    assert view.host == "example.org"
    assert view.first(b"user-agent") == b"GPTBot/1.4"
    assert view.header(b"accept") == b"text/html, */*"
    assert view.first(b"cookie") is None
    assert view.header(b"cookie") is None
    assert view.values(b"cookie") == []
    assert {b"host", b"user-agent", b"accept"} <= {name for name, _ in view.headers}


def test_a_scope_keeps_order_and_repetition_and_an_environ_says_that_it_does_not() -> None:
    scope, environ = RequestView.from_scope(SCOPE), RequestView.from_environ(ENVIRON)
    assert scope.order_known
    assert not environ.order_known
    assert scope.values(b"accept") == [b"text/html", b"*/*"]
    assert environ.values(b"accept") == [b"text/html, */*"]
    assert scope.first(b"accept") == b"text/html"


def test_the_two_headers_that_wsgi_keeps_elsewhere() -> None:
    view = RequestView.from_environ(ENVIRON)
    assert view.header(b"content-type") == b"text/plain"
    assert view.header(b"content-length") == b"3"
    assert RequestView.from_environ({}).header(b"content-type") is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"example.org", "example.org"),
        (b"EXAMPLE.org.", "example.org"),
        (b"example.org:80", "example.org"),
        (b"example.org.:80", "example.org"),
        (b"[2001:DB8::1]:80", "2001:db8::1"),
        (b"[2001:db8::1", "2001:db8::1"),
        (b" example.org\t", "example.org"),
        (b"", ""),
        (b"\xff\xfe", "\xff\xfe"),
    ],
)
def test_the_host_without_its_port(host: bytes, name: str) -> None:
    assert RequestView(headers=[(b"host", host)]).host == name
    assert RequestView.from_environ({"HTTP_HOST": host.decode("latin-1")}).host == name


def test_no_host_header() -> None:
    assert RequestView().host == ""


@pytest.mark.parametrize("client", [None, ("", 0), []])
def test_a_unix_socket_has_no_peer(client: Any) -> None:
    assert RequestView.from_scope({**SCOPE, "client": client}).peer == ""
    assert RequestView.from_environ({**ENVIRON, "REMOTE_ADDR": ""}).peer == ""
    assert RequestView.from_environ({k: v for k, v in ENVIRON.items() if k != "REMOTE_ADDR"}).peer == ""


@pytest.mark.parametrize(
    ("script", "info", "path"),
    [("", "", "/"), ("", "/", "/"), ("/app", "", "/app"), ("/app", "/x", "/app/x"), ("", "/\xff", "/\ufffd"), ("", "/%2e", "/%2e")],
)
def test_the_path_of_an_environ(script: str, info: str, path: str) -> None:
    assert RequestView.from_environ({"SCRIPT_NAME": script, "PATH_INFO": info}).path == path


def test_a_websocket_handshake_counts_as_a_get() -> None:
    scope = {k: v for k, v in SCOPE.items() if k != "method"} | {"type": "websocket", "scheme": "wss"}
    view = RequestView.from_scope(scope)
    assert (view.method, view.scheme) == ("GET", "wss")


@pytest.mark.parametrize("scheme", [None, 5, b"https"])
def test_a_scheme_that_is_no_text_is_not_known(scheme: Any) -> None:
    assert RequestView.from_environ({"wsgi.url_scheme": scheme}).scheme is None


NATIVE = st.text(st.characters(max_codepoint=255), max_size=40)
ENVIRONS = st.dictionaries(
    st.sampled_from(
        [
            "REQUEST_METHOD",
            "SCRIPT_NAME",
            "PATH_INFO",
            "QUERY_STRING",
            "REMOTE_ADDR",
            "HTTP_HOST",
            "HTTP_USER_AGENT",
            "HTTP_X_FORWARDED_FOR",
            "HTTP_",
        ]
    ),
    st.one_of(NATIVE, st.text(max_size=20)),  # a server should send latin-1 alone
)
FIELDS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=6)
GUARD = Guard(store="memory", trusted_proxies="private")


def read_all(view: RequestView) -> None:
    assert isinstance(view.path, str)
    assert isinstance(view.host, str)
    assert isinstance(view.query, bytes)
    assert all(isinstance(k, bytes) and isinstance(v, bytes) for k, v in view.headers)
    for name in (b"user-agent", b"x-forwarded-for", b"accept", b"", b"\xff"):
        assert view.first(name) == (view.values(name) or [None])[0]  # type: ignore[list-item]
    before = GUARD.counters.errors
    GUARD.decide(view)
    assert GUARD.counters.errors == before


@given(ENVIRONS)
def test_no_environ_raises(environ: dict[str, str]) -> None:
    read_all(RequestView.from_environ(environ))


@given(st.text(max_size=40), st.binary(max_size=40), FIELDS, st.one_of(st.none(), st.tuples(st.text(max_size=20), st.integers())))
def test_no_scope_raises(path: str, query: bytes, headers: list[tuple[bytes, bytes]], client: Any) -> None:
    read_all(
        RequestView.from_scope({"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers, "client": client})
    )


def test_one_pass_finds_the_agent_and_what_a_fingerprint_is_made_of() -> None:
    view = RequestView(headers=[(b"accept-encoding", b"gzip"), (b"user-agent", b"a"), (b"accept-encoding", b"br"), (b"user-agent", b"b")])
    assert view.agent() == view.first(b"user-agent") == b"a"
    assert view.sent == (b"a", None, b"gzip")
    assert RequestView().agent() is None
    assert RequestView.from_environ(ENVIRON).agent() == b"GPTBot/1.4"
