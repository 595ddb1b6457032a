"""The judge of new lists: each doubt by itself, at its border, and none about the lists that are in force."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from crawlguard import catalogue
from crawlguard.policy.model import Network
from crawlguard.policy.nodes import Place
from crawlguard.update.judge import Surroundings, fault, minus, older, surprise
from crawlguard.update.rangelist import Net, collapse
from crawlguard.update.run import nets_of

from .conftest import SHARED
from .mmdb_cut import cut

NOBODY = Surroundings(())


def net(name: str, *cidrs: str, tags: tuple[str, ...] = (), operator: str = "", asns: tuple[int, ...] = ()) -> Network:
    return Network(Place(), name, cidrs, asns, tags, None, operator)


def nets(*cidrs: str) -> tuple[Net, ...]:
    return collapse([ip_network(cidr) for cidr in cidrs])


BOT = net("bot", "8.8.0.0/24", operator="Bot Inc.", tags=("published", "ai-training"))


def test_no_list_of_the_catalogue_is_at_fault_or_surprising_after_itself() -> None:
    networks = catalogue.networks()
    around = Surroundings(networks.values())
    judged = [n for n in networks.values() if n.cidrs]
    assert len(judged) > 40
    for network in judged:
        found = nets_of(network)
        assert (fault(network, found), surprise(network, found, found, around)) == ("", ""), network.name


@pytest.mark.parametrize(
    "cidr",
    [
        *("0.0.0.0/0", "::/0", "4.0.0.0/11", "4.0.0.0/8", "2600::/23", "2000::/3", "10.0.0.0/24", "127.0.0.1", "192.168.0.0/16"),
        *("169.254.0.0/16", "100.64.0.0/24", "192.0.2.0/24", "203.0.113.9", "224.0.0.1", "255.255.255.255"),
        *("fe80::1", "fc00::/32", "::1", "2001:db8::/32", "2002::/32"),
    ],
)
def test_what_no_list_can_mean_is_a_fault(cidr: str) -> None:
    assert fault(BOT, nets("4.4.4.0/24", cidr)).startswith(str(ip_network(cidr)))


def test_clouds_may_be_wide_and_not_as_wide_as_the_internet() -> None:
    cloud = net("c", tags=("cloud",))
    assert fault(cloud, nets("4.0.0.0/8", "2600::/20")) == ""
    assert "wider" in fault(cloud, nets("4.0.0.0/7"))
    assert "wider" in fault(cloud, nets("2600::/19"))
    half = [f"{n}.0.0.0/8" for n in range(1, 35, 2)]  # no two of them are neighbours, and none is special
    assert fault(cloud, nets(*half[:16])) == ""
    assert "more than such a network has" in fault(cloud, nets(*half))


def test_many_narrow_ranges_are_a_wide_list() -> None:
    assert fault(BOT, nets("4.0.0.0/12", "5.0.0.0/12", "6.0.0.0/12", "11.0.0.0/12")) == ""
    assert "more than such a network has" in fault(BOT, nets("4.0.0.0/12", "5.0.0.0/12", "6.0.0.0/12", "11.0.0.0/12", "12.0.0.1"))


def test_a_list_that_shrinks_by_more_than_half_is_doubtful() -> None:
    old = nets(*(f"8.8.{n}.0/25" for n in range(10)))
    half, less = old[:5], old[:4]
    assert surprise(BOT, old, half, NOBODY) == ""
    assert "shrinks by more than half, from 10 to 4 entries" in surprise(BOT, old, less, NOBODY)


def test_shrinking_counts_in_entries_addresses_and_ipv6_alike() -> None:
    old = nets("8.8.0.0/16", "9.9.9.9", "2600:1::/48")
    assert "IPv4 addresses" in surprise(BOT, old, nets("8.8.0.0/18", "9.9.9.9", "2600:1::/48"), NOBODY)
    assert "IPv6 networks" in surprise(BOT, old, nets("8.8.0.0/16", "9.9.9.9", "2600:1::/50"), NOBODY)


def test_a_list_that_says_the_same_in_fewer_words_has_not_shrunk() -> None:
    old = nets(*(f"8.8.{n}.0/24" for n in range(0, 40, 2)))
    assert surprise(BOT, old, nets("8.8.0.0/18"), NOBODY) == ""
    assert "from 20 to 1 entries" in surprise(BOT, old, nets("9.9.0.0/18"), NOBODY)


def test_a_list_that_is_suddenly_another_is_doubtful() -> None:
    assert surprise(BOT, nets("8.8.0.0/24"), nets("8.8.0.0/16"), NOBODY) == ""
    assert "grows from 256 to 131,072" in surprise(BOT, nets("8.8.0.0/24"), nets("8.8.0.0/15"), NOBODY)
    assert surprise(BOT, (), nets("8.8.0.0/15"), NOBODY) == ""  # the first list of all has nothing to be compared with


EXIT = net("relay", "17.0.0.0/24", tags=("shared-exit", "relay"), operator="Apple")
OTHER = net("other", "20.0.0.0/24", tags=("published",), operator="Other Inc.")


@pytest.mark.parametrize("cidr", ["17.0.0.7", "17.0.0.0/24", "17.0.0.0/20"])
def test_reaching_into_a_shared_exit_is_doubtful(cidr: str) -> None:
    assert "people's shared exit relay" in surprise(BOT, nets("8.8.0.0/24"), nets("8.8.0.0/24", cidr), Surroundings([BOT, EXIT]))


@pytest.mark.parametrize("cidr", ["20.0.0.0", "20.0.0.255", "20.0.0.0/23"])
def test_reaching_into_another_operators_list_is_doubtful(cidr: str) -> None:
    assert "the list of Other Inc., other" in surprise(BOT, nets("8.8.0.0/24"), nets("8.8.0.0/24", cidr), Surroundings([BOT, OTHER]))
    beside = nets("8.8.0.0/24", "20.0.1.0/24", "19.255.255.0/24")
    assert surprise(BOT, nets("8.8.0.0/24"), beside, Surroundings([BOT, OTHER])) == ""


def test_what_overlapped_before_is_nothing_new() -> None:
    old = nets("8.8.0.0/24", "20.0.0.0/25")
    assert surprise(BOT, old, nets("8.8.0.0/24", "20.0.0.0/26"), Surroundings([BOT, OTHER])) == ""


def test_one_operators_lists_may_overlap_and_bots_stand_in_clouds() -> None:
    sister = net("sister", "20.0.0.0/24", tags=("published",), operator="Bot Inc.")
    cloud = net("cloud", "20.0.0.0/16", tags=("cloud",), operator="Cloud Inc.")
    around = Surroundings([BOT, sister, cloud])
    assert surprise(BOT, (), nets("20.0.0.0/24"), around) == ""
    assert surprise(cloud, nets("21.0.0.0/16"), nets("21.0.0.0/16", "20.0.0.0/16"), around) == ""


def test_a_cloud_that_swallows_another_is_doubtful() -> None:
    one, two = net("one", tags=("cloud",), operator="One"), net("two", "20.0.0.0/16", tags=("cloud", "published"), operator="Two")
    assert "the list of Two" in surprise(one, (), nets("20.0.0.0/12"), Surroundings([one, two]))


def test_a_list_accepted_in_the_same_run_counts() -> None:
    around = Surroundings([BOT, OTHER])
    around.put(OTHER._replace(cidrs=("21.0.0.0/24",)))
    assert surprise(BOT, (), nets("20.0.0.0/24"), around) == ""
    assert "other" in surprise(BOT, (), nets("21.0.0.0/24"), around)


def test_exits_known_by_their_systems_count_with_an_asn_database(tmp_path: Path) -> None:
    """Mullvad's own system announces 45.83.220.0/22; the bundled network knows it by its number alone."""
    networks = catalogue.networks()
    assert not networks["mullvad"].cidrs
    database = cut(SHARED / "mmdb" / "asn.mmdb", ["45.0.0.0/8", "8.0.0.0/8"], tmp_path / "asn.mmdb")
    hit = surprise(BOT, (), nets("45.83.220.0/24"), Surroundings([networks["mullvad"]], database))
    assert "people's shared exit mullvad" in hit
    assert surprise(BOT, (), nets("8.8.8.0/24"), Surroundings([networks["mullvad"]], database)) == ""


def test_an_older_list_or_one_from_the_future_is_doubtful() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    early, late, far = "2026-11-01T00:00:00+00:00", "2026-11-20T00:00:00+00:00", "2027-11-20T00:00:00+00:00"
    assert "before the one in force" in older(early, late, now)
    assert "is to come" in older(far, late, now)
    assert {older(late, early, now), older(late, late, now), older(late, "", now), older("", late, now)} == {""}


def test_minus_is_set_difference_of_addresses() -> None:
    assert minus(nets("8.8.8.0/24", "9.9.9.0/24", "2600::/32"), nets("8.8.0.0/16", "9.9.9.0/25")) == [
        *nets("9.9.9.0/24"),
        *nets("2600::/32"),
    ]
