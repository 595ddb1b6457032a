"""Published lists as operators write them, and as they must not be."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from crawlguard.update.rangelist import ListError, collapse, parse

from .conftest import SHARED

RANGES = SHARED / "ip_ranges"

REAL = {
    "openai-gptbot.json": "bots/openai-gptbot.json",
    "openai-searchbot.json": "bots/openai-searchbot.json",
    "openai-chatgpt-user.json": "bots/sefinek-chatgpt-user.json",
    "fastly.json": "clouds/fastly.json",
    "google-cloud.json": "clouds/google.json",
    "digitalocean-google.csv": "clouds/digitalocean.json",
}
"""What operators published, and what somebody else read from (another day's edition of) the same list."""
SAME_DAY = {"openai-gptbot.json", "openai-searchbot.json", "fastly.json"}


@pytest.mark.parametrize("name", REAL)
def test_real_lists_are_read_as_others_have_read_them(name: str) -> None:
    kind = "text/csv" if name.endswith(".csv") else "application/json"
    found = parse((RANGES / "official_raw" / name).read_bytes(), kind)
    other = json.loads((RANGES / REAL[name]).read_text())
    nets = collapse([ip_network(cidr) for key in ("ipv4", "ipv6") for cidr in other.get(key, ())])
    if name in SAME_DAY:
        assert found.nets == nets
    inside = [n for n in found.nets if any(n.version == o.version and n.overlaps(o) for o in nets)]
    assert len(inside) > 0.5 * len(found.nets), "not the same operator's list"


def _covered(texts: list[str]) -> int:
    """How many addresses these CIDRs hold together, counted with nothing of ours."""
    total = end = 0
    spans = sorted((int(n.network_address), int(n.network_address) + n.num_addresses) for n in map(ip_network, texts))
    for low, high in spans:
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def test_no_address_of_a_real_list_is_lost() -> None:
    lines = (RANGES / "official_raw" / "digitalocean-google.csv").read_text().splitlines()
    found = parse("\n".join(lines).encode(), "text/csv")
    for version, mark in ((4, "."), (6, ":")):
        wanted = _covered([line.split(",")[0] for line in lines if mark in line.split(",")[0]])
        assert sum(n.num_addresses for n in found.nets if n.version == version) == wanted > 0
    raw = (RANGES / "official_raw" / "google-cloud.json").read_bytes()
    rows = [row["ipv4Prefix"] for row in json.loads(raw)["prefixes"] if "ipv4Prefix" in row]
    assert sum(n.num_addresses for n in parse(raw).nets if n.version == 4) == _covered(rows) > 0
    assert parse(raw).created == "2025-07-24T19:16:28+00:00"


SHAPES: dict[str, tuple[object, list[str]]] = {
    "Google": ({"prefixes": [{"ipv4Prefix": "8.8.8.0/24"}, {"ipv6Prefix": "2001:4860::/32"}]}, ["8.8.8.0/24", "2001:4860::/32"]),
    "Amazon": (
        {"prefixes": [{"ip_prefix": "3.5.0.0/19", "region": "x"}], "ipv6_prefixes": [{"ipv6_prefix": "2600:1f00::/24", "service": "S3"}]},
        ["3.5.0.0/19", "2600:1f00::/24"],
    ),
    "Oracle": ({"regions": [{"region": "r", "cidrs": [{"cidr": "129.213.8.0/21", "tags": ["OCI"]}]}]}, ["129.213.8.0/21"]),
    "Azure": (
        {"values": [{"properties": {"addressPrefixes": ["4.145.74.52/30", "2603:1000:4::/48"]}}]},
        ["4.145.74.52/30", "2603:1000:4::/48"],
    ),
    "Cloudflare": (
        {"success": True, "result": {"ipv4_cidrs": ["173.245.48.0/20"], "ipv6_cidrs": ["2400:cb00::/32"], "etag": "1.2.3.4"}},
        ["173.245.48.0/20", "2400:cb00::/32"],
    ),
    "WebPageTest": ({"data": [{"location": "x", "addresses": ["52.4.4.4"]}, {"addresses": None}]}, ["52.4.4.4/32"]),
    "a plain list": (["5.5.5.5", "6.6.6.0/24"], ["5.5.5.5/32", "6.6.6.0/24"]),
    "Zscaler": ({"hubPrefixes": ["165.225.0.0/17"]}, ["165.225.0.0/17"]),
    "neighbours are one": ({"addresses": ["8.8.8.0/25", "8.8.8.128/25", "8.8.8.8"]}, ["8.8.8.0/24"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_operators_shape_is_known(name: str) -> None:
    document, wanted = SHAPES[name]
    assert parse(json.dumps(document).encode(), "application/json").cidrs == wanted


def test_only_the_keys_that_hold_addresses_count() -> None:
    document = {
        "gateway": "9.9.9.9",
        "dns_servers": ["1.1.1.1"],
        "example": {"text": "8.8.8.8"},
        "prefixes": [{"ipv4Prefix": "4.4.4.0/24"}],
    }
    assert parse(json.dumps(document).encode()).cidrs == ["4.4.4.0/24"]


def test_a_fragment_names_the_list_that_counts() -> None:
    meta = {"hooks": ["192.30.252.0/22"], "actions": ["4.148.0.0/16"], "domains": {"website": ["*.github.com"]}}
    raw = json.dumps(meta).encode()
    assert parse(raw, "application/json", "hooks").cidrs == ["192.30.252.0/22"]
    with pytest.raises(ListError, match="has no 'hoks'"):
        parse(raw, "application/json", "hoks")
    with pytest.raises(ListError, match="the list is empty"):
        parse(raw, "application/json")  # without one, no key says what is an address
    with pytest.raises(ListError, match="not JSON"):
        parse(b"192.30.252.0/22\n", "text/plain", "hooks")


def test_lines_and_geofeeds() -> None:
    text = b"\xef\xbb\xbf# Last modified: today\r\n8.8.8.0/24,US,US-CA,Mountain View,\r\n\r\n2001:4860::/32 # ours\n4.4.4.4\n"
    assert parse(text, "text/csv").cidrs == ["4.4.4.4/32", "8.8.8.0/24", "2001:4860::/32"]


BAD = {
    "empty": (b"", "empty"),
    "comments alone": (b"# nothing\n", "empty"),
    "no prefixes": (b'{"prefixes": []}', "empty"),
    "a web page": (b"<!DOCTYPE html><html>4.4.4.0/24", "web page"),
    "host bits": (b"4.4.4.1/24\n", "'4.4.4.1/24' is not an address or CIDR"),
    "not an address": (b"4.4.4.0/24\nhello\n", "'hello'"),
    "a mask": (b"4.4.4.0/255.255.255.0x\n", "not an address"),
    "a range": (b"4.4.4.0-4.4.4.9\n", "not an address"),
    "a zone": (b"fe80::1%eth0\n", "not an address"),
    "dressed up": (b"::ffff:4.4.4.4\n", "dressed"),
    "one bad among many": (b'{"prefixes": [{"ipv4Prefix": "4.4.4.0/24"}, {"ipv4Prefix": "4.4.5.0/33"}]}', "4.4.5.0/33"),
    "a number": (b'{"addresses": [67372036]}', "67372036"),
    "true": (b'{"addresses": [true]}', "True"),
    "half a document": (b'{"prefixes": [{"ipv4Prefix": "4.4.4.0/24"}', "not JSON"),
    "too deep": (b'{"a":' * 200_000, "not JSON"),
    "not text": (b"\xff\xfe4.4.4.0/24", "not text"),
    "a time that is none": (b'{"creationTime": "soon", "prefixes": [{"ipv4Prefix": "4.4.4.0/24"}]}', "is not a time"),
    "a time that is a number": (b'{"creationTime": 5, "prefixes": [{"ipv4Prefix": "4.4.4.0/24"}]}', "is not a time"),
    "a line without an address": (b",US,US-CA,Mountain View,\n", "has no address"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_list_is_refused(name: str) -> None:
    body, message = BAD[name]
    with pytest.raises(ListError, match=message):
        parse(body)


@pytest.mark.parametrize("kind", ["text/html", "application/xhtml+xml", "image/png", "application/zip", "application/pdf"])
def test_what_is_not_called_a_list_is_refused(kind: str) -> None:
    with pytest.raises(ListError):
        parse(b"4.4.4.0/24\n", kind)
    with pytest.raises(ListError):
        parse(b'["4.4.4.0/24"]', kind)


def test_times_are_compared_in_one_zone() -> None:
    def made(text: str) -> str:
        return parse(json.dumps({"creationTime": text, "addresses": ["4.4.4.4"]}).encode()).created

    assert (
        made("2026-11-20T02:00:00+02:00")
        == made("2026-11-20T00:00:00Z")
        == made("2026-11-20T00:00:00.000000")
        == "2026-11-20T00:00:00+00:00"
    )
