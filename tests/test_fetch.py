"""The safe fetcher against a server that misbehaves: each way of it ends in a FetchError that says what was wrong, in time and in bounds."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from crawlguard.update.fetch import MAX_BODY, MAX_REDIRECTS, USER_AGENT, Answer, Fetcher
from crawlguard.update.urls import FetchError, is_public, same_site, split

from .tls_site import HOST, Behaviour, Site, cut, drip, endless, head, raw, redirect, reply, reset, serving, silent

LIST = b"4.4.4.0/24\n8.8.8.0/24\n"


@pytest.fixture
def site(authority: Path) -> Iterator[Site]:
    with serving(authority) as site:
        yield site


# ---- what is well


def test_an_answer_comes_with_what_asks_for_it_again(site: Site) -> None:
    site.answers["/l"] = reply(LIST, Content_Type="Text/Plain; charset=utf-8", ETag='"a1"', Last_Modified="Sat, 21 Nov 2026 10:00:00 GMT")
    found = site.fetcher().get(site.url("/l"))
    assert found == Answer(True, LIST, "text/plain", '"a1"', "Sat, 21 Nov 2026 10:00:00 GMT")
    _, headers = site.seen[0]
    assert headers["host"] == f"{HOST}:{site.port}"
    assert headers["user-agent"] == USER_AGENT
    assert headers["accept-encoding"] == "identity"
    assert "if-none-match" not in headers


def test_what_has_not_changed_is_not_fetched_again(site: Site) -> None:
    site.answers["/l"] = lambda connection, headers: connection.sendall(
        head(304) if headers.get("if-none-match") == '"a1"' and headers.get("if-modified-since") == "yesterday" else head(500)
    )
    assert site.fetcher().get(site.url("/l"), '"a1"', "yesterday") == Answer(changed=False)


def test_chunks_and_an_answer_without_a_length_are_read_to_their_end(site: Site) -> None:
    site.answers["/chunks"] = raw(head(200, Transfer_Encoding="chunked") + b"5\r\n4.4.4\r\n6;x=y\r\n.0/24\n\r\n0\r\n\r\n")
    site.answers["/plain"] = raw(head(200) + LIST)
    assert site.fetcher().get(site.url("/chunks")).body == b"4.4.4.0/24\n"
    assert site.fetcher().get(site.url("/plain")).body == LIST


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_within_the_site_are_followed(site: Site, status: int) -> None:
    site.answers["/old"] = redirect("/new?a=b", status)
    site.answers["/new?a=b"] = redirect(site.url("/newest", "cdn." + HOST), status)
    site.answers["/newest"] = reply(LIST)
    assert site.fetcher().get(site.url("/old")).body == LIST
    assert [path for path, _ in site.seen] == ["/old", "/new?a=b", "/newest"]


def test_the_next_address_is_tried_when_one_does_not_answer(site: Site) -> None:
    site.answers["/l"] = reply(LIST)
    with socket.socket() as closed:  # bound and never listening: connections to it are refused
        closed.bind(("127.0.0.2", site.port))
        fetcher = site.fetcher(resolver=lambda host, port: ["127.0.0.2", "127.0.0.1"], allowed=lambda address: True)
        assert fetcher.get(site.url("/l")).body == LIST


def test_a_header_that_could_not_be_sent_back_is_forgotten(site: Site) -> None:
    site.answers["/l"] = raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: "a"\r\n X-Injected: 1\r\nLast-Modified: caf\xe9\r\n\r\nx')
    assert site.fetcher().get(site.url("/l")) == Answer(True, b"x")


# ---- what is not

ENDLESS_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n"
BAD: dict[str, tuple[Behaviour, str]] = {
    "not found": (reply(b"no", 404), "answers 404"),
    "broken": (reply(b"no", 500), "answers 500"),
    "304 without being asked": (reply(b"", 304), "answers 304"),
    "partial": (reply(LIST, 206), "answers 206"),
    "elsewhere": (redirect("https://evil.test/l"), "another site, evil.test"),
    "to a sibling": (redirect("https://other.example.test/l"), "another site"),
    "to a name that only ends alike": (redirect(f"https://evil{HOST}/l"), "another site"),
    "to a parent": (redirect("https://test/l"), "another site"),
    "to another port": (redirect(f"https://{HOST}:1/l"), "another site"),
    "to an address": (redirect("https://127.0.0.1/l"), "another site"),
    "to http": (redirect(f"http://{HOST}/l"), "not an https URL"),
    "to a file": (redirect("file:///etc/passwd"), "not an https URL"),
    "to a password": (redirect(f"https://me:secret@{HOST}/l"), "password"),
    "to nowhere": (redirect(""), "redirects"),
    "to a second request": (redirect("/a b\tHTTP/1.1"), "plain characters"),
    "giant by its own word": (reply(b"", Content_Length=str(MAX_BODY + 1)), "larger than 8192 KiB"),
    "giant": (endless(head(200)), "larger than 8192 KiB"),
    "giant in chunks": (endless(head(200, Transfer_Encoding="chunked"), b"8000\r\n" + b"x" * 0x8000 + b"\r\n"), "larger than 8192 KiB"),
    "giant in the names of its chunks": (
        endless(head(200, Transfer_Encoding="chunked"), b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
        "larger than",
    ),
    "endless headers": (raw(ENDLESS_HEADERS), "connection failed"),
    "an endless header": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536), "connection failed"),
    "endless preliminaries": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "larger than"),
    "compressed": (reply(gzip.compress(b"0" * (16 << 20)), Content_Encoding="gzip"), r"compressed \('gzip'\)"),
    "broken off": (cut(head(200, Content_Length="1000") + LIST), "broke off|connection failed"),
    "broken off politely": (raw(head(200, Content_Length="1000") + LIST), "broke off|connection failed"),
    "broken off in a chunk": (raw(head(200, Transfer_Encoding="chunked") + b"ff\r\n4.4.4.0/24\n"), "connection failed"),
    "broken off where nothing tells": (cut(head(200) + LIST), "connection failed"),
    "reset": (reset(), "connection failed"),
    "reset in the body": (reset(head(200, Content_Length="1000") + LIST), "connection failed"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "connection failed"),
    "nothing": (raw(b""), "connection failed"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_server_does_wrong_is_told(site: Site, name: str) -> None:
    site.answers["/l"], message = BAD[name]
    with pytest.raises(FetchError, match=message):
        site.fetcher().get(site.url("/l"))


def test_redirects_have_an_end(site: Site) -> None:
    site.answers["/a"], site.answers["/b"] = redirect("/b"), redirect("/a")
    with pytest.raises(FetchError, match="redirects"):
        site.fetcher().get(site.url("/a"))
    assert len(site.seen) == MAX_REDIRECTS + 1


SLOW = {
    "in its headers": b"HTTP/1.1 200 OK\r\nX: ",
    "in its body": head(200, Content_Length="100000"),
    "in a body without a length": head(200),
    "before its first byte": b"",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_server_that_drips_holds_nobody(site: Site, name: str) -> None:
    site.answers["/l"] = drip(site, SLOW[name], b"H")
    begun = time.monotonic()
    with pytest.raises(FetchError, match=r"not there within 0\.3 s"):
        site.fetcher(total=0.3).get(site.url("/l"))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", SLOW)
def test_a_silent_server_holds_nobody(site: Site, name: str) -> None:
    site.answers["/l"] = silent(site, SLOW[name])
    with pytest.raises(FetchError, match=r"silent for 0\.2 s"):
        site.fetcher(read=0.2).get(site.url("/l"))


def test_the_time_is_that_of_all_redirects_together(site: Site) -> None:
    clock = count()
    site.answers["/a"] = redirect("/a")
    with pytest.raises(FetchError, match="not there within 6 s"):
        site.fetcher(total=6, clock=lambda: float(next(clock))).get(site.url("/a"))
    assert 0 < len(site.seen) <= MAX_REDIRECTS


def test_a_server_that_never_shakes_hands_holds_nobody(authority: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        site = Site(authority)
        site.server.server_close()
        with pytest.raises(FetchError, match=r"silent for 0\.2 s"):
            site.fetcher(read=0.2).get(f"https://{HOST}:{port}/l")


def test_a_server_without_tls_is_refused(authority: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.recv(65_536)

        thread = threading.Thread(target=answer)
        thread.start()
        site = Site(authority)
        site.server.server_close()
        with pytest.raises(FetchError, match="connection failed"):
            site.fetcher().get(f"https://{HOST}:{listening.getsockname()[1]}/l")
        thread.join()


# ---- certificates


def test_a_certificate_of_nobody_is_refused(site: Site) -> None:
    site.answers["/l"] = reply(LIST)
    with pytest.raises(FetchError, match="certificate is not good"):
        site.fetcher(context=None).get(site.url("/l"))
    assert site.seen == []


def test_a_certificate_of_another_host_is_refused(site: Site) -> None:
    site.answers["/l"] = reply(LIST)
    with pytest.raises(FetchError, match="certificate is not good"):
        site.fetcher().get(site.url("/l", "wrong.test"))
    assert site.seen == []


# ---- names and addresses


def test_a_name_without_an_address_is_told(site: Site) -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(FetchError, match="has no address"):
        site.fetcher(resolver=nobody).get(site.url("/l"))
    with pytest.raises(FetchError, match="has no address"):
        site.fetcher(resolver=lambda host, port: []).get(site.url("/l"))


def test_a_name_that_leads_home_is_refused(site: Site) -> None:
    site.answers["/l"] = reply(LIST)
    home = Fetcher(context=site.context(), resolver=site.resolver)
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 is not a public one"):
        home.get(site.url("/l"))
    with pytest.raises(FetchError, match="is not a public one"):  # the system's resolver, and an address for a name
        Fetcher(context=site.context()).get(f"https://127.0.0.1:{site.port}/l")
    assert site.seen == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(site: Site) -> None:
    site.answers["/l"] = reply(LIST)
    with pytest.raises(FetchError, match=r"10\.0\.0\.7 is not a public one"):
        site.fetcher(resolver=lambda host, port: ["127.0.0.1", "10.0.0.7"]).get(site.url("/l"))
    assert site.seen == []


def test_a_redirect_to_a_name_that_leads_home_is_refused(site: Site) -> None:
    site.answers["/l"] = redirect(site.url("/secret", "internal." + HOST))
    site.answers["/secret"] = reply(LIST)
    answers = {HOST: ["127.0.0.1"], "internal." + HOST: ["192.168.0.1"]}
    with pytest.raises(FetchError, match=r"192\.168\.0\.1 is not a public one"):
        site.fetcher(resolver=lambda host, port: answers[host]).get(site.url("/l"))
    assert [path for path, _ in site.seen] == ["/l"]


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(site: Site) -> None:
    """Rebinding: the second answer would lead home, and is never asked for."""
    site.answers["/l"] = reply(LIST)
    answers = iter([["127.0.0.1"], ["127.0.0.9"], ["127.0.0.9"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    assert site.fetcher(resolver=rebinding).get(site.url("/l")).body == LIST
    assert asked == [HOST]


PUBLIC = ("1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")
NOT_PUBLIC = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "192.0.2.1"),
    *("198.18.0.1", "203.0.113.5", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:4136::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://a.test/", "ftp://a.test/", "https://", "https:///x", "https://a.test:0/", "https://a.test:99999/", "a.test", ""),
        *("https://u:p@a.test/", "https://ä.test/", "https://a.test/b c", "https://a.test/\r\nX: y", "https://[::1/"),
    ],
)
def test_what_is_no_good_url_is_refused(url: str) -> None:
    with pytest.raises(FetchError):
        split(url)


def test_what_counts_as_one_site() -> None:
    assert same_site("a.test", "a.test")
    assert same_site("a.test", "www.a.test")
    assert same_site("www.a.test", "a.test")
    assert not same_site("b.a.test", "a.test")
    assert not same_site("me.github.io", "you.github.io")
    assert not same_site("a.test", "nota.test")
    assert not same_site("www.a.test", "b.a.test")


def test_a_proxy_is_not_used_and_that_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{site.port}")
    site.answers["/l"] = reply(LIST)
    assert site.fetcher().get(site.url("/l")).body == LIST
    with pytest.raises(FetchError, match="HTTPS_PROXY is set, and is not used"):
        site.fetcher(resolver=lambda host, port: []).get(site.url("/l"))
