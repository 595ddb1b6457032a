"""``crawlguard propose`` as it is typed: what it prints, writes and returns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from crawlguard_analyzer.cli_propose import propose

from crawlguard.errors import DataError

from .analyzer_propose_sample import SCRIPT, client, log, people, table
from .test_analyzer_propose_written import HOSTILE

ROWS = [
    *people(40, 8),
    *(client(f"198.51.100.{n}", "crawler", 60) for n in range(1, 20)),
    *(client(f"{20 + n}.9.113.7", "crawler", 40, f"{SCRIPT} {text}") for n, text in enumerate(HOSTILE)),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    clients = table(ROWS)
    clients.write_parquet("clients.parquet")
    with open("access.log", "wb") as file:
        file.writelines(map(_line, log(clients).iter_rows(named=True)))
    return tmp_path


def _line(row: dict[str, Any]) -> bytes:
    """As nginx writes it, in combined format."""
    when = datetime.fromtimestamp(row["time"], UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    ua = "".join(f"\\x{byte:02X}" if byte in b'"\\' or byte < 32 or byte == 127 else chr(byte) for byte in row["ua"].encode())
    return f'{row["ip"]} - - [{when}] "GET {row["target"]} HTTP/1.1" 200 1000 "-" "'.encode() + ua.encode("latin-1") + b'"\n'


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(propose, arguments, input=typed, catch_exceptions=False)


def test_proposals_are_shown_and_found_is_one(here: Path) -> None:
    done = run("--clients", "clients.parquet")
    assert done.exit_code == 1
    assert "new rules would cover" in done.output
    assert "- id: proposed-subnet-198-51-100" in done.output
    assert "without the log itself" in done.output
    assert not any(char in done.output for char in "\x1b\x07\u202e\u2028\x85\x00"), "what the log says stays text"
    assert not (here / "crawlguard-proposed.yaml").exists()


def test_the_log_is_the_proof(here: Path) -> None:
    done = run("--clients", "clients.parquet", "access.log", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["version"], told["policy"]) == (1, 1, "builtin:default")
    assert told["proposals"]
    assert all(one["proved"] and one["risk"]["people"] == 0 for one in told["proposals"])
    assert told["reviewed"] is None
    by_program = next(one for one in told["proposals"] if "sitegrab" in one["yaml"])
    assert by_program["evidence"]["requests"] == 40 * len(HOSTILE)


def test_applying_asks_writes_and_is_then_content(here: Path) -> None:
    refused = run("--clients", "clients.parquet", "--apply", typed="n\n")
    assert (refused.exit_code, (here / "crawlguard-proposed.yaml").exists()) == (1, False)
    assert "+  - id: proposed-" in refused.output
    with pytest.raises(DataError, match="nobody is there to say yes, and nothing was written; --yes writes without being asked"):
        run("--clients", "clients.parquet", "--apply", typed="")
    assert not (here / "crawlguard-proposed.yaml").exists()
    done = run("--clients", "clients.parquet", "--apply", typed="y\n")
    assert done.exit_code == 0
    assert "include: [builtin:default, crawlguard-proposed.yaml]" in done.output
    (here / "crawlguard.yaml").write_text("version: 1\ninclude: [builtin:default, crawlguard-proposed.yaml]\n")
    again = run("--clients", "clients.parquet")
    assert again.exit_code == 0
    assert "Nothing to propose." in again.output
    assert "crawlguard-proposed.yaml holds" in again.output
    assert "crawlguard.yaml and crawlguard-proposed.yaml leave alone" in again.output
    quiet = run("--clients", "clients.parquet", "--quiet", "--apply", "crawlguard-proposed.yaml", "--yes")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_json_applies_only_when_it_need_not_ask(here: Path) -> None:
    assert run("--clients", "clients.parquet", "--json", "--apply", "new.yaml").exit_code == 2
    done = run("--clients", "clients.parquet", "--json", "--yes", "--apply", "new.yaml")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["applied"]) == (0, [one["id"] for one in told["proposals"]])
    assert (here / "new.yaml").exists()
    again = json.loads(run("--clients", "clients.parquet", "--json", "--yes", "--apply", "new.yaml").stdout)
    assert (again["proposals"], again["applied"], again["reviewed"]["rules"]) == ([], [], told["applied"])


def test_expired_rules_are_marked_and_renewed(here: Path) -> None:
    run("--clients", "clients.parquet", "--apply", "--yes")
    path = here / "crawlguard-proposed.yaml"
    path.write_text(path.read_text().replace("# expires: 20", "# expires: 19"))
    told = run("--clients", "clients.parquet")
    assert told.exit_code == 1
    assert "have expired" in told.output
    done = run("--clients", "clients.parquet", "--apply", "--yes", "--prune")
    assert done.exit_code == 0
    assert "expired ones taken out" in done.output
    assert "expires: 19" not in path.read_text()
    assert path.read_text().count("- id: proposed-") == told.output.count("- id: proposed-")


def test_the_whole_chain_from_a_log(here: Path) -> None:
    done = run("access.log", "--json")
    told = json.loads(done.stdout)
    assert told["requests"] == sum(row["requests"] for row in ROWS)
    assert all(one["proved"] for one in told["proposals"])


def test_the_field_with_the_address_is_that_of_the_proof_too(here: Path) -> None:
    lines = (here / "access.log").read_bytes().splitlines()
    (here / "proxied.log").write_bytes(b"".join(b"10.0.0.1 " + line + b"\n" for line in lines))
    form = '$remote_addr $http_x_real_ip - - [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
    plain = json.loads(run("access.log", "--json").stdout)
    found = json.loads(run("proxied.log", "--json", "--format", form, "--client-field", "http_x_real_ip").stdout)
    assert [one["id"] for one in found["proposals"]] == [one["id"] for one in plain["proposals"]]
    assert [one["evidence"]["requests"] for one in found["proposals"]] == [one["evidence"]["requests"] for one in plain["proposals"]]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--state", "x", "--clients", "y"), ("access.log", "--yes"), ("access.log", "--prune"), ("access.log", "--max", "0")],
)
def test_called_wrongly(here: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_what_is_no_clients_table_is_named_with_the_cure(here: Path) -> None:
    pl.DataFrame({"client": ["a"]}).write_parquet("other.parquet")
    for name in ("access.log", "other.parquet", "missing.parquet"):
        with pytest.raises(DataError, match=f"{name}: not a clients table.*crawlguard analyze"):
            run("--clients", name)


def test_the_live_policy_is_never_written(here: Path) -> None:
    for name in ("crawlguard.yaml", "site.yaml"):
        (here / name).write_text("version: 1\ninclude: [builtin:default]\n")
        with pytest.raises(DataError, match="live policy"):
            run("--clients", "clients.parquet", "--policy", name, "--apply", name, "--yes")
        assert (here / name).read_text() == "version: 1\ninclude: [builtin:default]\n"
