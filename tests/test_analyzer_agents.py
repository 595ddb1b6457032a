"""Who a User-Agent says it is, and whose network an address is in."""

from __future__ import annotations

import ipaddress
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.agents import KINDS, STALE, Registry, identity, subnets
from crawlguard_analyzer.browsers import kinds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawlguard import identify, load_policy
from crawlguard.client_ip import parse_ip
from crawlguard.errors import DataError
from crawlguard.ipdb import AddressTable, build_table
from crawlguard.policy.model import Network
from crawlguard.policy.nodes import Place

from .analyzer_rows import CHROME, GPTBOT, LYNX, START, judge
from .conftest import SHARED
from .mmdb_cut import cut

UAS = [
    line
    for name in ("ai", "browsers", "search_engines", "feedreaders")
    for line in (SHARED / f"ua/ua_{name}.txt").read_text("utf-8").splitlines()
]


def network(name: str, *cidrs: str, operator: str = "", tags: tuple[str, ...] = (), date: str = "2026-09-01") -> Network:
    return Network(Place(), name, cidrs=cidrs, operator=operator, tags=tags, date=date)


@cache
def registry() -> Registry:
    found = (
        network("gptbot", "198.51.100.0/28", "2001:db8:1::/64", operator="OpenAI", tags=("ai-training", "published")),
        network("user", "203.0.113.64/28", operator="OpenAI", tags=("user-fetch", "published")),
        network("cloud", "192.0.2.0/24", tags=("cloud",)),
        network("vpn", "192.0.2.128/25", tags=("shared-exit",)),
        network("edges", "203.0.113.128/28", tags=("cdn",)),
    )
    return Registry(load_policy(), {n.name: n for n in found})


@settings(deadline=None)
@given(st.lists(st.sampled_from(UAS) | st.text(max_size=600), min_size=1, max_size=20))
def test_names_are_those_of_the_catalogue(uas: list[str]) -> None:
    for row in judge().registry.names(pl.Series("ua", uas)).iter_rows(named=True):
        agent = identify(row["ua"]) if row["ua"].isascii() else None
        if row["ua"].isascii():
            assert (row["agent"], row["category"], row["operator"]) == (
                (agent.name, agent.category, agent.operator) if agent else (None,) * 3
            )


def test_a_huge_user_agent_is_looked_at_as_far_as_the_guard_looks() -> None:
    names = judge().registry.names(pl.Series("ua", ["x" * 70_000 + GPTBOT, "GPTBot/1.0 " + "x" * 70_000, "\x00\x1b[31m�"]))
    assert dict(zip((ua[:6] for ua in names["ua"]), names["agent"], strict=True)) == {
        "xxxxxx": None,
        "GPTBot": "GPTBot",
        "\x00\x1b[31m": None,
    }


PLACES = {
    "198.51.100.3": {"published", "near"},
    "::ffff:198.51.100.3": {"published", "near"},
    "198.51.100.200": {"near"},
    "2001:db8:1::5": {"published", "near"},
    "2001:db8:1:ffff::5": {"near"},
    "192.0.2.5": {"cloud"},
    "192.0.2.200": {"cloud", "exit"},
    "203.0.113.130": {"exit"},
    "10.1.2.3": {"private"},
    "203.0.113.65": set(),  # where people's questions are fetched for them is no crawler's own network
    "host.example": set(),
    "": set(),
}


def test_what_an_address_is() -> None:
    found = registry().addresses(pl.Series("client", list(PLACES)))
    assert found["client"].to_list() == list(PLACES)
    assert {row["client"]: {kind for kind in KINDS if row[kind]} for row in found.iter_rows(named=True)} == PLACES


def test_what_a_database_does_not_know_is_nothing_else(tmp_path: Path) -> None:
    wholes = {"asn": SHARED / "mmdb/asn.mmdb", "country": SHARED / "mmdb/iptoasn-country.mmdb"}
    databases = {kind: cut(whole, ["8.0.0.0/8", "10.0.0.0/8"], tmp_path / f"{kind}.mmdb") for kind, whole in wholes.items()}
    found = Registry(load_policy(), {}, **databases).addresses(pl.Series("client", ["10.1.2.3", "8.8.8.8"]))
    assert found.select("asn", "country").rows() == [(None, None), (15169, "US")]
    assert [{kind for kind in KINDS if row[kind]} for row in found.iter_rows(named=True)] == [{"private"}, set()]


@cache
def table() -> AddressTable:
    """The same networks, to be asked for one address after the other."""
    return build_table(registry()._sets, None, None)


OCTETS = st.sampled_from(
    ("0", "1", "9", "10", "99", "100", "198", "199", "255", "256", "00", "01", "099", "+1", "-1", "1 ", "", "a", "\u0661")
)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.lists(OCTETS, min_size=3, max_size=5).map(".".join), st.ip_addresses().map(str), st.text(max_size=9)), unique=True
    )
)
@example(["198.51.100.0", "198.51.99.255", "198.51.100.127", "198.51.100.128", "0.0.0.0", "255.255.255.255", "1.2.3.4\n"])
def test_whole_columns_of_addresses_are_looked_up_as_each_is(texts: list[str]) -> None:
    by, found = registry(), registry().addresses(pl.Series("client", texts, dtype=pl.String))
    masks = [table().lookup(packed)[0] if (packed := parse_ip(text)) else 0 for text in texts]
    assert [{kind for kind in KINDS if row[kind]} for row in found.iter_rows(named=True)] == [
        {kind for kind, said in zip(KINDS, by._says(mask)[0], strict=True) if said} for mask in masks
    ]
    assert found["subnet"].to_list() == [pl.select(subnets(pl.lit(text))).item() for text in texts]


def test_a_database_that_is_none() -> None:
    with pytest.raises(DataError, match="not-there"):
        Registry(load_policy(), {}, asn="not-there.mmdb")


@settings(deadline=None)
@given(st.ip_addresses())
def test_subnets_are_those_of_the_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    text = str(address)
    if address.version == 6 and address.ipv4_mapped:
        return
    expected = ipaddress.ip_network((text, 24 if address.version == 4 else 48), strict=False)
    found = pl.select(subnets(pl.lit(text))).item()
    assert ipaddress.ip_network(found) == expected


@pytest.mark.parametrize(
    ("text", "subnet"), [("::ffff:192.0.2.9", "192.0.2.0/24"), ("host.example", "host.example"), ("", ""), ("1.2.3", "1.2.3")]
)
def test_subnets_of_what_is_written_otherwise(text: str, subnet: str) -> None:
    assert pl.select(subnets(pl.lit(text))).item() == subnet


LAST = START
IDENTITIES: list[tuple[dict[str, Any], str | None]] = [
    ({"client": "198.51.100.3"}, "verified"),
    ({"client": "203.0.113.65"}, "verified"),  # another network of the same operator
    ({"client": "198.51.7.7"}, "unverified"),  # in the /16 of a published range: lists are never quite of today
    ({"client": "8.8.8.8"}, "spoofed"),
    ({"client": "8.8.8.8", "last": LAST - (STALE + 60) * 86_400}, "unverified"),  # too long before the list was fetched
    ({"client": "10.0.0.1"}, "unverified"),  # behind a proxy
    ({"client": "8.8.8.8", "agent": "ChatGPT-User", "category": "user-fetch"}, "unverified"),  # may run anywhere
    ({"client": "8.8.8.8", "agent": "Nobody", "operator": "Nobody"}, "unverified"),  # publishes nothing
    ({"client": "198.51.100.3", "agent": None, "category": None, "operator": None}, None),
]


@pytest.mark.parametrize(("facts", "expected"), IDENTITIES)
def test_identity(facts: dict[str, Any], expected: str | None) -> None:
    by = registry()
    row = {"last": LAST, "agent": "GPTBot", "category": "training", "operator": "OpenAI", **facts}
    text = dict.fromkeys(("agent", "category", "operator"), pl.String)
    frame = pl.DataFrame([row], schema_overrides=text).join(by.addresses(pl.Series("client", [row["client"]])), on="client")
    assert frame.select(identity(pl.col("last"), by.dates)).item() == expected


KINDS_OF = {CHROME: "browser", LYNX: "text", "": "none", "  ": "none", "Mozilla/5.0 (compatible; my-crawler)": "robot", "thing/1.0": "other",
            "Mozilla/5.0 (Linux; Android 7.0; CUBOT CHEETAH 2) Chrome/72.0.3626.105": "browser",
            "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; Toolbar (+http://toolbar.example))": "browser"}  # fmt: skip


@pytest.mark.parametrize(("ua", "kind"), KINDS_OF.items())
def test_kinds(ua: str, kind: str) -> None:
    assert kinds(pl.Series("ua", [ua]))["kind"].item() == kind


@pytest.mark.parametrize(
    ("ua", "expected"),
    [
        ("Chrome/95.0.4638.69", False),
        ("Chrome/95.0.1234.69", True),
        ("Chrome/152.0.0.0", False),
        ("Chrome/99.666.4147.105", True),
        ("Windows NT 11.0", True),
    ],
)
def test_browsers_that_never_were(ua: str, expected: bool) -> None:
    assert kinds(pl.Series("ua", [f"Mozilla/5.0 ({ua}"]))["impossible"].item() is expected


def test_real_browsers_are_possible_and_no_robots() -> None:
    real = kinds(pl.Series("ua", (SHARED / "ua/ua_browsers.txt").read_text("utf-8").splitlines()).unique())
    assert real["impossible"].sum() <= 4  # made up: Chrome/99.666, Chrome/100.0.4758, Chrome/130.0.237, Chrome/134.0.289
    assert (real["kind"] == "robot").sum() <= 4
