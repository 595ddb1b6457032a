"""Swarms: many clients together lack what as many people would have left behind, and people among them acquit them."""

from __future__ import annotations

from crawlguard_analyzer.swarms import KEYS, PEOPLE

from .analyzer_rows import LYNX, OLD_CHROME, START, Request, crawler, people, person, told


def swarm_of(requests: list[Request], prefix: str) -> dict[str, tuple[str, str | None]]:
    """Class and swarm of each client whose address begins so, beside a site's people."""
    found = told([*people(), *requests])
    return {ip: (row["class"], row["swarm"]) for ip, row in found.items() if ip.startswith(prefix)}


def thin(prefix: str, count: int = 30, **changes: str) -> list[Request]:
    """One page each."""
    return [{"time": START + 60 * n, "ip": f"{prefix}.{n}", "target": f"/page-{n}", **changes} for n in range(count)]


def test_a_subnet_of_clients_that_load_nothing() -> None:
    found = swarm_of(thin("198.51.7"), "198.51.7.")
    assert set(found.values()) == {("swarm", "198.51.7.0/24")}


def test_the_edges_of_a_cdn_are_no_swarm() -> None:
    """Where a log holds them instead of visitors, everybody comes out of few subnets."""
    assert {kind for kind, _ in swarm_of(thin("198.51.7"), "198.51.7.").values()} == {"swarm"}
    assert {kind for kind, _ in swarm_of(thin("172.71.184"), "172.71.184.").values()} == {"unknown"}  # cloudflare-cdn in rules/networks


def test_two_clients_are_no_swarm() -> None:
    assert set(swarm_of(thin("198.51.7", 2), "198.51.7.").values()) == {("unknown", None)}


def test_people_in_the_subnet_acquit_it() -> None:
    customers = [r for n in range(100, 101 + PEOPLE) for r in person(f"198.51.7.{n}")]
    found = swarm_of([*thin("198.51.7"), *customers], "198.51.7.")
    assert {kind for kind, _ in found.values()} == {"unknown", "person"}


def test_who_follows_links_is_spared() -> None:
    linked = {"time": START, "ip": "198.51.7.99", "target": "/page-1", "referrer": "https://search.example/"}
    found = swarm_of([*thin("198.51.7"), linked], "198.51.7.")
    assert found.pop("198.51.7.99") == ("unknown", None)
    assert {kind for kind, _ in found.values()} == {"swarm"}


def test_text_browsers_are_neither_witnesses_nor_members() -> None:
    assert {kind for kind, _ in swarm_of(thin("198.51.7", ua=LYNX), "198.51.7.").values()} == {"unknown"}


def test_one_loud_crawler_condemns_no_neighbour() -> None:
    loud = [*crawler("198.51.7.1", 400), *thin("198.51.7", 3)[1:]]
    found = swarm_of(loud, "198.51.7.")
    assert found == {"198.51.7.1": ("crawler", None), "198.51.7.2": ("unknown", None)} | {
        ip: told for ip, told in found.items() if ip not in ("198.51.7.1", "198.51.7.2")
    }


def test_a_rented_swarm_is_found_all_over_its_cloud() -> None:
    """Renderers that load images and no styles, one in each subnet."""
    requests = [
        {"time": START + 60 * n, "ip": f"47.128.{n}.9", "target": target} for n in range(60) for target in ("/", "/a.png", f"/{n}.jpg")
    ]
    assert set(swarm_of(requests, "47.128.").values()) == {("swarm", "47.128.0.0/16")}


def test_images_without_a_page_are_what_mail_is_read_with() -> None:
    requests = [{"time": START + 60 * n, "ip": f"47.128.{n}.9", "target": f"/{n}.jpg"} for n in range(60)]
    assert {kind for kind, _ in swarm_of(requests, "47.128.").values()} == {"unknown"}


def test_an_old_browser_in_many_networks() -> None:
    requests = [{"time": START + 60 * n, "ip": f"198.{n + 20}.7.9", "target": f"/page-{n}", "ua": OLD_CHROME} for n in range(60)]
    assert set(swarm_of(requests, "198.").values()) == {("swarm", OLD_CHROME)}


def test_a_browser_of_today_is_nobodys_mark() -> None:
    requests = [{"time": START + 60 * n, "ip": f"198.{n + 20}.7.9", "target": f"/page-{n}"} for n in range(60)]
    assert set(swarm_of(requests, "198.").values()) == {("unknown", None)}


def test_where_nobody_loads_anything_nothing_is_missing() -> None:
    readers = [{"time": START + 60 * n, "ip": f"203.{n}.9.7", "target": "/"} for n in range(200)]
    found = told([*readers, *thin("198.51.7")])
    assert {row["class"] for row in found.values()} == {"unknown"}


def test_keys_are_different() -> None:
    assert len({key.name for key in KEYS}) == len(KEYS)
