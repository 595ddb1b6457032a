"""Who is asking: the walk over trusted proxies, line by line of what it promises, and against whatever a stranger sends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Guard, RequestView
from crawlguard.client_ip import (
    MAX_HEADER,
    MAX_HOPS,
    PRIVATE,
    ClientResolver,
    Networks,
    format_ip,
    forwarded_from_right,
    parse_hop,
    parse_ip,
)
from crawlguard.errors import ConfigError
from crawlguard.loader import parse_policy
from crawlguard.policy.ruleset import Client

PROXY = "10.0.0.1"
XFF = b"x-forwarded-for"


def resolve(peer: str | None, *values: str, trusted: tuple[str, ...] = ("10.0.0.0/8",), header: str = "x-forwarded-for") -> str | None:
    """The client as text: ``peer`` None is a unix socket."""
    packed = None if peer is None else parse_ip(peer)
    found = ClientResolver(trusted, header).resolve(packed, [v.encode("latin-1") for v in values], bool(values))
    return None if found is None else format_ip(found)


HOPS = [
    ("203.0.113.7", "203.0.113.7"),
    ("  203.0.113.7\t", "203.0.113.7"),
    ("203.0.113.7:5678", "203.0.113.7"),
    ("203.0.113.7:0", "203.0.113.7"),
    ("2001:db8::1", "2001:db8::1"),
    ("2001:DB8:0:0::1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("[2001:db8::1]:443", "2001:db8::1"),
    ("[203.0.113.7]:443", "203.0.113.7"),
    ("::ffff:203.0.113.7", "203.0.113.7"),
    ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
    ("::ffff:cb00:7107", "203.0.113.7"),
    ("fe80::1%eth0", "fe80::1"),
    ("[fe80::1%25eth0]:80", "fe80::1"),
    # Nobody is named:
    ("", None),
    ("unknown", None),
    ("_hidden", None),
    ("localhost", None),
    ("203.0.113", None),
    ("203.0.113.7.8", None),
    ("203.0.113.256", None),
    ("203.0.113.07", None),
    ("0xcb.0.113.7", None),
    ("3405803783", None),
    ("203.0.113.7/24", None),
    ("203.0.113.7:", None),
    ("203.0.113.7:http", None),
    ("203.0.113.7:123456", None),
    ("203.0.113.7:\xb2", None),  # a superscript two is a digit to str.isdigit
    ("203.0.113.7%eth0", None),
    ("[203.0.113.7", None),
    ("[2001:db8::1", None),
    ("[2001:db8::1]443", None),
    ("[2001:db8::1]:", None),
    ("2001:db8::1]", None),
    ("[[2001:db8::1]]", None),
    ("2001:db8::1::2", None),
    (":", None),
    ("::ffff:203.0.113.7\0", None),
    ("203.0.113.7\0", None),
    ("203.0.113.7\n", None),
    ("٢.0.0.1".encode().decode("latin-1"), None),
    ("<script>", None),
]


@pytest.mark.parametrize(("hop", "address"), HOPS)
def test_a_hop_names_an_address_or_nobody(hop: str, address: str | None) -> None:
    found = parse_hop(hop)
    assert (None if found is None else format_ip(found)) == address
    assert resolve(PROXY, hop) == address


FORWARDED = [
    ("for=203.0.113.7", "203.0.113.7"),
    ("For=203.0.113.7", "203.0.113.7"),
    ("FOR=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
    ("proto=https; for=203.0.113.7 ;host=example.org", "203.0.113.7"),
    ('for="203.0.113.7:8080"', "203.0.113.7"),
    ('for="[2001:db8::1]"', "2001:db8::1"),
    ('for="[2001:db8::1]:443"', "2001:db8::1"),
    ("for=198.51.100.9, for=203.0.113.7", "203.0.113.7"),
    ('for=198.51.100.9, for="203.0.113.7", for=10.9.9.9', "203.0.113.7"),
    ('host="a,b;for=198.51.100.9";for=203.0.113.7', "203.0.113.7"),  # separators and names inside quotes are text
    ("for=198.51.100.9, for=unknown", None),
    ("for=_hidden", None),
    ("proto=https", None),  # our own proxy names nobody
    ("for=203.0.113.7, proto=https", None),
    ("for=198.51.100.9;for=203.0.113.7", None),  # twice in one element is malformed
    ("for = 203.0.113.7", None),
    ('for=203.0.113.7;host="a\\",for=9.9.9.9;x=\\"b"', None),  # a Host that our proxy copies names no client
    ("203.0.113.7", None),
    ("", None),
]


@pytest.mark.parametrize(("value", "address"), FORWARDED)
def test_forwarded_is_read_as_rfc_7239_writes_it(value: str, address: str | None) -> None:
    assert resolve(PROXY, value, header="forwarded") == address


# What stands left of our own proxy's element comes from the client. It may be anything, and must change nothing: a client
# that could make itself unknown would have left every address and rate rule behind.
NOISE = [
    "for=1.1.1.1",
    "garbage",
    'for="',
    '"',
    'for="\\"',
    "for=\\",
    "for=" + "x" * (2 * MAX_HEADER),
    ", ,,;;=",
    "for=1.1.1.1;for=2.2.2.2",
]


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("joined", [True, False])
def test_a_client_cannot_make_itself_unknown_in_forwarded(noise: str, joined: bool) -> None:
    values = [f"{noise}, for=203.0.113.7"] if joined else [noise, "for=203.0.113.7"]
    assert resolve(PROXY, *values, header="forwarded") == "203.0.113.7"


@pytest.mark.parametrize("noise", ["1.1.1.1", "garbage", '"', "\\", "x" * (2 * MAX_HEADER), ",,,,", "unknown", "[", "10.0.0.1," * 500])
def test_a_client_cannot_make_itself_unknown_in_x_forwarded_for(noise: str) -> None:
    assert resolve(PROXY, f"{noise}, 203.0.113.7") == resolve(PROXY, noise, "203.0.113.7") == "203.0.113.7"


def chain(length: int, first: str = "203.0.113.7") -> str:
    return ", ".join([first] + [f"10.1.{n >> 8}.{n & 255}" for n in range(length - 1)])


WALKS: list[tuple[str, str | None, tuple[str, ...], tuple[str, ...], str | None]] = [
    # what, peer, values, trusted, client
    ("no proxy: the peer, whatever the header says", "203.0.113.9", ("198.51.100.1",), (), "203.0.113.9"),
    ("an untrusted peer's header is ignored", "203.0.113.9", ("198.51.100.1",), ("10.0.0.0/8",), "203.0.113.9"),
    ("one trusted proxy", PROXY, ("203.0.113.7",), ("10.0.0.0/8",), "203.0.113.7"),
    ("a single trusted address", PROXY, ("203.0.113.7",), (PROXY,), "203.0.113.7"),
    ("the leftmost is a claim", PROXY, ("127.0.0.1, 8.8.8.8, 203.0.113.7",), ("10.0.0.0/8",), "203.0.113.7"),
    ("several trusted hops", PROXY, ("8.8.8.8, 203.0.113.7, 10.2.2.2, 10.3.3.3",), ("10.0.0.0/8",), "203.0.113.7"),
    ("a private address that is not trusted is the client", PROXY, ("8.8.8.8, 192.168.1.5",), ("10.0.0.0/8",), "192.168.1.5"),
    ("only trusted hops: the outermost one asked", PROXY, ("10.7.7.7, 10.8.8.8",), ("10.0.0.0/8",), "10.7.7.7"),
    ("garbage at the place of the client", PROXY, ("8.8.8.8, junk, 10.2.2.2",), ("10.0.0.0/8",), None),
    ("an empty hop at the place of the client", PROXY, ("8.8.8.8, , 10.2.2.2",), ("10.0.0.0/8",), None),
    ("a trailing comma", PROXY, ("203.0.113.7,",), ("10.0.0.0/8",), None),
    ("repeated headers are one list", PROXY, ("8.8.8.8", "203.0.113.7", "10.2.2.2"), ("10.0.0.0/8",), "203.0.113.7"),
    ("repeated headers, the last one garbage", PROXY, ("203.0.113.7", "junk"), ("10.0.0.0/8",), None),
    ("a trusted proxy without the header", PROXY, (), ("10.0.0.0/8",), None),
    ("an empty header", PROXY, ("",), ("10.0.0.0/8",), None),
    ("100 hops of strangers", PROXY, (", ".join(f"8.8.{n}.8" for n in range(99)) + ", 203.0.113.7",), ("10.0.0.0/8",), "203.0.113.7"),
    ("100 hops of our own", PROXY, (chain(100),), ("10.0.0.0/8",), None),
    ("as many proxies as a chain may have", PROXY, (chain(MAX_HOPS),), ("10.0.0.0/8",), "203.0.113.7"),
    ("one proxy too many", PROXY, (chain(MAX_HOPS + 2),), ("10.0.0.0/8",), None),
    ("a mapped peer is its IPv4 self", "::ffff:10.0.0.1", ("203.0.113.7",), ("10.0.0.0/8",), "203.0.113.7"),
    ("a mapped hop is its IPv4 self", PROXY, ("203.0.113.7, ::ffff:10.2.2.2",), ("10.0.0.0/8",), "203.0.113.7"),
    ("an IPv6 proxy with a zone", "fe80::9%eth0", ("2001:db8::5",), ("fe80::/10",), "2001:db8::5"),
    ("private: loopback", "127.0.0.1", ("203.0.113.7",), ("private",), "203.0.113.7"),
    ("private: IPv6 loopback", "::1", ("203.0.113.7",), ("private",), "203.0.113.7"),
    ("private: carrier-grade NAT", "100.64.0.1", ("203.0.113.7",), ("private",), "203.0.113.7"),
    ("private: a unix socket", None, ("203.0.113.7",), ("private",), "203.0.113.7"),
    ("private does not mean everybody", "203.0.113.9", ("8.8.8.8",), ("private",), "203.0.113.9"),
    ("unix: a unix socket", None, ("203.0.113.7",), ("unix",), "203.0.113.7"),
    ("unix alone does not mean loopback", "127.0.0.1", (), ("unix",), "127.0.0.1"),
    ("a unix socket behind which nobody is trusted", None, ("203.0.113.7",), ("10.0.0.0/8",), None),
    ("a unix socket without a header", None, (), ("unix",), None),
    ("a unix socket, not configured", None, ("203.0.113.7",), (), None),
    ("nginx in front, not configured: loopback", "127.0.0.1", ("203.0.113.7",), (), None),
    ("nginx in front, not configured: private", "192.168.1.1", ("203.0.113.7",), (), None),
    ("nginx in front, not configured: IPv6 ULA", "fd00::1", ("203.0.113.7",), (), None),
    ("another proxy in front than the one that is named", "192.168.1.1", ("203.0.113.7",), ("10.0.0.0/8",), None),
    ("loopback without a forwarding header is a local client", "127.0.0.1", (), (), "127.0.0.1"),
]


@pytest.mark.parametrize(("peer", "values", "trusted", "client"), [w[1:] for w in WALKS], ids=[w[0] for w in WALKS])
def test_the_walk(peer: str | None, values: tuple[str, ...], trusted: tuple[str, ...], client: str | None) -> None:
    assert resolve(peer, *values, trusted=trusted) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (("203.0.113.7",), "203.0.113.7"),
        (("[2001:db8::1]:443",), "2001:db8::1"),
        (("203.0.113.7, 8.8.8.8",), None),  # a list is not what such a header carries
        (("203.0.113.7", "8.8.8.8"), None),
        (("203.0.113.7", "203.0.113.7"), None),
        (("junk",), None),
        ((), None),
        (("10.2.2.2",), "10.2.2.2"),  # it names the client itself, so no hop is skipped
    ],
)
def test_a_header_of_a_single_value(values: tuple[str, ...], client: str | None) -> None:
    assert resolve(PROXY, *values, header="CF-Connecting-IP") == client


@pytest.mark.parametrize("trusted", ["10.0.0.1/8", "nonsense", "1.2.3", "10.0.0.0/33", ""])
def test_a_proxy_that_is_no_cidr_is_an_error_with_advice(trusted: str) -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: .*write an address"):
        ClientResolver([trusted])


def client_of(guard: Guard, peer: str, *headers: tuple[bytes, bytes]) -> Client:
    return guard.explain(RequestView(peer=peer, headers=list(headers)))[3]


LIMIT = "version: 1\nrules: [{id: limit, when: {rate: {per: ip, requests: 1, within: 1h}}, then: throttle}]\n"


@pytest.mark.parametrize("peer", ["127.0.0.1", "", "192.168.7.7", "::1", "::ffff:10.1.1.1", "fe80::1%eth0"])
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"])
def test_a_proxy_that_is_not_configured_is_named_once_with_the_cure(peer: str, header: str, caplog: pytest.LogCaptureFixture) -> None:
    policy, _ = parse_policy(LIMIT)
    guard = Guard(policy, store="memory")
    sent = (header.encode(), b"for=203.0.113.7" if header == "forwarded" else b"203.0.113.7")
    # Everybody comes through the proxy: a limit of one request must not stop the second visitor.
    assert all(guard.decide(RequestView(peer=peer, headers=[sent])).allowed for _ in range(5))
    assert client_of(guard, peer, sent).packed is None
    assert len(caplog.records) == 1
    # What the warning tells to add is taken as it stands, and finds the client.
    advice = caplog.records[0].getMessage().partition("Add to the policy: ")[2]
    changed, problems = parse_policy(f"version: 1\n{advice}\n{LIMIT.partition(chr(10))[2]}")
    assert changed is not None, (advice, problems)
    assert client_of(Guard(changed, store="memory"), peer, sent).packed == parse_ip("203.0.113.7"), advice


def test_a_trusted_proxy_that_names_nobody_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(trusted_proxies="private", store="memory")
    for _ in range(3):
        guard.decide(RequestView(peer="127.0.0.1"))
    assert len(caplog.records) == 1
    assert "the proxy at 127.0.0.1 sends no usable x-forwarded-for header" in caplog.records[0].getMessage()


def test_each_client_of_one_trusted_proxy_has_its_own_rate() -> None:
    policy, _ = parse_policy(LIMIT)
    guard = Guard(policy, store="memory", trusted_proxies=["private"])

    def ask(client: bytes) -> bool:
        return guard.decide(RequestView(peer="127.0.0.1", headers=[(XFF, b"6.6.6.6, " + client)])).allowed

    assert [ask(b"203.0.113.7"), ask(b"203.0.113.8"), ask(b"203.0.113.7"), ask(b"203.0.113.8")] == [True, True, False, False]


def test_a_stranger_mints_no_fresh_rate_by_what_it_claims() -> None:
    policy, _ = parse_policy(LIMIT)
    guard = Guard(policy, store="memory", trusted_proxies=["private"])
    answers = [
        guard.decide(RequestView(peer="127.0.0.1", headers=[(XFF, b"8.8.%d.8, 203.0.113.7" % n)])).allowed  # nginx appends the peer
        for n in range(20)
    ]
    assert answers == [True] + [False] * 19


# ---- properties

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
ANY_TRUST = st.lists(st.sampled_from(["private", "unix", "10.0.0.0/8", "2001:db8::/32", "203.0.113.7"]), max_size=3)
HEADERS = st.sampled_from(["x-forwarded-for", "forwarded", "cf-connecting-ip"])
NOISY = st.one_of(st.binary(max_size=200), st.text('fFor=".,:;[]%\\ 0123456789abcdef', max_size=120).map(lambda t: t.encode("latin-1")))


@given(ADDRESSES)
def test_an_address_is_read_as_ipaddress_reads_it(address: Any) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert parse_ip(str(address)) == (mapped or address).packed
    assert ip_address(format_ip(address.packed)) == address


@given(st.lists(ADDRESSES.map(lambda a: ip_network(f"{a}/{a.max_prefixlen // 2}", strict=False)), max_size=6), ADDRESSES)
def test_a_set_of_networks_holds_what_ipaddress_says(networks: list[Any], address: Any) -> None:
    assert (address.packed in Networks(map(str, networks))) == any(address in n for n in networks)


@given(st.one_of(st.none(), ADDRESSES.map(str)), st.lists(NOISY, max_size=4), ANY_TRUST, HEADERS)
def test_no_bytes_raise_and_the_answer_is_an_address_or_unknown(
    peer: str | None, values: list[bytes], trusted: list[str], header: str
) -> None:
    resolver = ClientResolver(trusted, header)
    packed = None if peer is None else parse_ip(peer)
    found = resolver.resolve(packed, values, bool(values))
    assert found is None or len(found) in (4, 16)
    if packed is not None and not resolver.needs_headers(packed):
        assert found == packed


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    assert parse_ip(text) is None or len(parse_ip(text) or b"") in (4, 16)
    parse_hop(text)
    list(forwarded_from_right(text))


@given(st.lists(NOISY, max_size=3), st.ip_addresses(v=4).filter(lambda a: a not in ip_network("10.0.0.0/8")))
def test_what_the_client_writes_never_changes_what_our_proxy_appended(noise: list[bytes], address: Any) -> None:
    values = [*noise, str(address).encode()]
    resolver = ClientResolver(["10.0.0.0/8"])
    assert resolver.resolve(parse_ip(PROXY), [b", ".join(values)], True) == address.packed
    assert resolver.resolve(parse_ip(PROXY), values, True) == address.packed


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a count, so that a busy machine changes nothing."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


HOSTILE = [b"10.1.1.1,", b",", b'for="10.1.1.1",', b"for=10.1.1.1;", b'"', b"for=", b"[", b":", b"%", b" "]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "cf-connecting-ip"])
def test_a_long_header_costs_no_more_than_a_long_enough_one(piece: bytes, header: str) -> None:
    resolver, peer = ClientResolver(["10.0.0.0/8"], header), parse_ip(PROXY)

    def cost(size: int) -> int:
        value = (piece * (size // len(piece) + 1))[:size]
        return lines_run(lambda: resolver.resolve(peer, [value], True))

    small, large = cost(MAX_HEADER), cost(64 * MAX_HEADER)
    assert large <= small * 2 + 100


@pytest.mark.parametrize("piece", HOSTILE)
def test_twice_the_input_is_at_most_about_twice_the_work(piece: bytes) -> None:
    def cost(size: int) -> int:
        text = (piece * size).decode()[:size]
        return lines_run(lambda: (parse_hop(text), list(forwarded_from_right(text))))

    assert cost(32_000) <= cost(16_000) * 2.5 + 100


def test_private_is_what_the_registries_call_private() -> None:
    for cidr in PRIVATE:
        assert not ip_network(cidr).is_global
