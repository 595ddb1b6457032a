"""``crawlguard ban`` as operators meet it: on real workers, and what it says when it is called wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from crawlguard import Guard

from .policy_corpus import view
from .test_cli import as_json, run
from .test_servers_live import Server

POLICY = """
version: 1
client_ip: {trusted_proxies: [192.0.2.128/25]}
rules:
  - {id: hot, when: {rate: {per: ip, requests: 3, within: 1m, block_for: [10m, 1h]}}, then: throttle}
  - {id: shop, when: {path: /shop, rate: {per: [ip, path], requests: 2, within: 1m, block_for: 10m}}, then: throttle}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """A worker in this process, started in the directory of its policy."""
    (tmp_path / "crawlguard.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    return Guard("crawlguard.yaml", watch=False)


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["gunicorn", "uvicorn"])
def test_every_worker_of_a_server_heeds_it_with_its_next_request(kind: str, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    try:
        first, second = server.workers()
        with server.client_of(first) as one, server.client_of(second) as other:
            banned = as_json("ban", "add", "203.0.113.7", "--for", "10m", "--reason", "too much", cwd=tmp_path)["ban"]
            assert (banned["who"], banned["by_hand"], banned["left"]) == ("203.0.113.7", True, 600)
            assert [c.get("/").status_code for c in (one, other)] == [403, 403]
            assert [c.get("/robots.txt").status_code for c in (one, other)] == [200, 200]
            assert [b["reason"] for b in as_json("ban", "list", cwd=tmp_path)["bans"]] == ["too much"]
            assert as_json("ban", "lift", "203.0.113.7", cwd=tmp_path)["lifted"] == [{"who": "203.0.113.7", "rule": "ban"}]
            assert [c.get("/").status_code for c in (one, other)] == [200, 200]
    finally:
        server.stop()


def test_list_and_lift_of_a_rule_s_ban(site: Guard, tmp_path: Path) -> None:
    assert run("ban", "list", cwd=tmp_path).stdout == "nobody is kept out\n"
    for _ in range(4):
        site.decide(view("/other/"))
    (found,) = as_json("ban", "list", "crawlguard.yaml", cwd=tmp_path)["bans"]
    assert {k: found[k] for k in ("who", "rule", "by_hand", "times")} == {
        "who": "203.0.113.7", "rule": "hot", "by_hand": False, "times": 1
    }  # fmt: skip
    assert 0 < found["left"] <= 600
    assert run("ban", "list", cwd=tmp_path).stdout.splitlines()[1].split()[:2] == ["203.0.113.7", "hot"]
    done = run("ban", "lift", "203.0.113.7", "--forget", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "lifted 203.0.113.7 (hot)\n")
    assert site.decide(view()).allowed
    again = run("ban", "lift", "203.0.113.7", cwd=tmp_path)
    assert (again.returncode, "no ban keeps it out" in again.stderr) == (1, True)


def test_an_ipv6_address_stands_for_its_client_and_a_mapped_one_is_ipv4(site: Guard, tmp_path: Path) -> None:
    assert as_json("ban", "add", "2001:db8::5", cwd=tmp_path)["ban"]["who"] == "2001:db8::/64"
    assert site.decide(view(ip="2001:db8::6")).rule == "ban"
    assert as_json("ban", "add", "::ffff:203.0.113.0/120", cwd=tmp_path)["ban"]["who"] == "203.0.113.0/24"
    assert site.decide(view()).rule == "ban"
    under = run("ban", "lift", "203.0.113.7", cwd=tmp_path)
    assert (under.returncode, "still under the ban of 203.0.113.0/24" in under.stderr) == (1, True)
    assert len(as_json("ban", "lift", "--all", "crawlguard.yaml", cwd=tmp_path)["lifted"]) == 2
    assert site.decide(view()).allowed


def test_a_ban_by_hand_is_put_off_by_a_second_one_and_counted(site: Guard, tmp_path: Path) -> None:
    run("ban", "add", "203.0.113.7", "--for", "10m", cwd=tmp_path)
    found = as_json("ban", "add", "203.0.113.7", "--for", "7d", cwd=tmp_path)["ban"]
    assert (found["times"], found["left"]) == (2, 7 * 86_400)
    assert len(as_json("ban", "list", cwd=tmp_path)["bans"]) == 1


def test_explain_says_who_is_kept_out_of_the_running_site(site: Guard, tmp_path: Path) -> None:
    assert as_json("explain", "--ip", "203.0.113.7", cwd=tmp_path)["bans"] == []
    run("ban", "add", "203.0.113.0/24", "--reason", "scraper", cwd=tmp_path)
    for _ in range(4):
        site.decide(view(ip="198.51.100.7"))
    (by_hand,) = as_json("explain", "--ip", "203.0.113.7", cwd=tmp_path)["bans"]
    assert (by_hand["who"], by_hand["reason"]) == ("203.0.113.0/24", "scraper")
    shown = run("explain", "--ip", "198.51.100.7", cwd=tmp_path).stdout
    assert shown.startswith("KEPT OUT of the running site now")
    assert "198.51.100.7  hot" in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["127.0.0.1"], "touches 127.0.0.0/8, of the loopback and private addresses"),
        (["10.0.0.0/8"], "of the loopback and private addresses"),
        (["::1"], "of the loopback and private addresses"),
        (["192.0.2.200"], "touches 192.0.2.128/25, of the trusted proxies"),
        (["0.0.0.0/0"], "is a large part of the internet"),
        (["::/0"], "is a large part of the internet"),
        (["203.0.113.7/24"], "write 203.0.113.0/24"),
        (["203.0.113"], "is not an address or a network"),
        (["example.org"], "is not an address or a network"),
        (["203.0.113.7", "--for", "forever"], "is not a time from 1s to 31d"),
        (["203.0.113.7", "--for", "32d"], "is not a time from 1s to 31d"),
        (["203.0.113.7", "--for", "0s"], "is not a time from 1s to 31d"),
        (["203.0.113.7", "--reason", "a\x1b[31mb"], "without control characters"),
        (["203.0.113.7", "--reason", "a\nb"], "without control characters"),
        (["203.0.113.7", "--reason", "é" * 41], "at most 80 bytes"),
        (["203.0.113.7", "--reason", "a\udcff"], "without control characters"),
    ],
)
def test_what_is_hardly_meant_is_refused_and_nothing_is_changed(site: Guard, tmp_path: Path, args: list[str], words: str) -> None:
    done = run("ban", "add", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert site.bans.record is not None
    assert site.bans.record.all() == []


def test_force_takes_the_operator_at_his_word(site: Guard, tmp_path: Path) -> None:
    assert run("ban", "add", "127.0.0.1", "--force", cwd=tmp_path).returncode == 0
    assert site.decide(view(ip="127.0.0.1")).rule == "ban"


def test_a_hostile_path_reaches_the_terminal_in_plain_letters(site: Guard, tmp_path: Path) -> None:
    for _ in range(3):
        site.decide(view("/shop\x1b[31m\n/x"))
    shown = run("ban", "list", cwd=tmp_path).stdout
    assert "shop" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_no_table_is_made_for_a_site_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "crawlguard.yaml").write_text(POLICY + f"store: {{path: {tmp_path / 'rates.bin'}}}\n")
    done = run("ban", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'rates.bin'}: no worker of crawlguard.yaml has made its table" in done.stderr
    assert not (tmp_path / "rates.bin").exists()
    (tmp_path / "rates.bin").write_bytes(b"x" * 9000)
    assert run("ban", "list", "--table", "rates.bin", cwd=tmp_path).returncode == 1
    assert (tmp_path / "rates.bin").read_bytes() == b"x" * 9000
    assert as_json("explain", "--ip", "203.0.113.7", cwd=tmp_path)["bans"] == []


def test_a_store_in_memory_is_nobody_else_s_to_see(tmp_path: Path) -> None:
    (tmp_path / "crawlguard.yaml").write_text(POLICY + "store: memory\n")
    done = run("ban", "list", cwd=tmp_path)
    assert (done.returncode, "store: memory, which no other process can see" in done.stderr) == (1, True)


def test_the_table_is_found_by_directory_counts_as_and_however_the_application_names_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "crawlguard.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path / "site")
    whole = Guard(str(tmp_path / "site" / "crawlguard.yaml"), watch=False)
    apart = Guard("crawlguard.yaml", watch=False, counts_as="api")
    assert run("ban", "add", "203.0.113.7", cwd=tmp_path / "site").returncode == 0
    assert (whole.decide(view()).rule, apart.decide(view()).rule) == ("ban", None)
    there = str(tmp_path / "site")
    done = run("ban", "add", "203.0.113.7", "site/crawlguard.yaml", "--cwd", there, "--counts-as", "api", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert apart.decide(view()).rule == "ban"


@pytest.mark.parametrize("args", [["lift"], ["lift", "203.0.113.7", "crawlguard.yaml", "--all"]])
def test_lift_wants_to_know_whom(site: Guard, tmp_path: Path, args: list[str]) -> None:
    done = run("ban", *args, cwd=tmp_path)
    assert (done.returncode, "or --all" in done.stderr) == (2, True)
