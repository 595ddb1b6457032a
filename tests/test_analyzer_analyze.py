"""``crawlguard analyze`` as people and cron call it: what it writes, what it remembers, and that nothing is half done."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import polars as pl
import pytest
from click.testing import CliRunner, Result
from crawlguard_analyzer import pipeline, reading
from crawlguard_analyzer.analyze import analyse
from crawlguard_analyzer.cli_analyze import analyze
from crawlguard_analyzer.cli_propose import propose
from crawlguard_analyzer.cli_report import report
from crawlguard_analyzer.clients import CLIENTS_VERSION
from crawlguard_analyzer.progress import bytes_line, shards_line
from crawlguard_analyzer.state import MANIFEST
from crawlguard_analyzer.tables import CLASSES

from crawlguard.errors import DataError

from .conftest import SHARED

SHOP = str(SHARED / "logs" / "shop.log.gz")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0"
GPTBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"


def line(second: int, ip: str = "203.0.113.7", path: str = "/", ua: str = BROWSER) -> str:
    return f'{ip} - - [26/Nov/2026:10:{second // 60:02}:{second % 60:02} +0000] "GET {path} HTTP/1.1" 200 512 "-" "{ua}"\n'


def log(path: Path, *lines: str) -> Path:
    with path.open("a", newline="") as file:
        file.writelines(lines)
    return path


def run(*args: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(analyze, [str(arg) for arg in args], catch_exceptions=True)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def told(*args: str | Path) -> dict[str, Any]:
    """What a call prints with --json."""
    value: dict[str, Any] = json.loads(run(*args, "--json").stdout)
    assert value["version"] == 1
    return value


def test_one_row_per_client_of_a_real_log(tmp_path: Path) -> None:
    assert run(SHOP, "--clients", tmp_path / "clients.parquet", "--quiet").output == ""
    clients = pl.read_parquet(tmp_path / "clients.parquet")
    assert clients["requests"].sum() == 144_837
    assert clients["client"].n_unique() == clients.height
    assert set(clients["class"].unique()) <= set(CLASSES)
    assert {"score", "documents", "assets", "bytes", "first", "last", "subnet", "ua"} <= set(clients.columns)
    assert pl.read_parquet_metadata(tmp_path / "clients.parquet")["crawlguard.clients"] == str(CLIENTS_VERSION)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clients.parquet"]


def test_who_asks_for_clients_alone_gets_the_same_ones(tmp_path: Path) -> None:
    told, quiet = tmp_path / "told.parquet", tmp_path / "quiet.parquet"
    run(SHOP, "--clients", told)
    run(SHOP, "--clients", quiet, "--quiet")
    assert told.read_bytes() == quiet.read_bytes()
    alone = analyse([SHOP], only_clients=True)
    assert alone.clients.equals(pl.read_parquet(told))
    assert (alone.agents.height, alone.days.height, alone.totals.rows) == (0, 0, alone.clients["requests"].sum())


def test_a_person_sees_who_takes_the_load_and_what_comes_next(tmp_path: Path) -> None:
    path = log(tmp_path / "access.log", *(line(n, ua=GPTBOT, path=f"/{n}") for n in range(40)), "what\n")
    said = run(path).output
    assert "Who takes the load" in said
    assert "false names" in said  # not from where its operator says it comes from
    assert "nginx/Apache combined" in said  # never guessed silently
    assert "41 lines" in said
    assert f"crawlguard report {path}" in said


def test_the_next_run_reads_only_what_is_new(tmp_path: Path) -> None:
    path, state = log(tmp_path / "access.log", *(line(n) for n in range(5))), tmp_path / "state"
    assert told(path, "--state", state)["totals"]["rows"] == 5
    log(path, line(6), line(7), line(8).rstrip("\n"))  # the last one is not finished
    assert told(path, "--state", state)["totals"]["rows"] == 7
    log(path, "\n")
    assert told(path, "--state", state)["totals"]["rows"] == 8
    assert told("--state", state)["totals"]["rows"] == 8
    assert told(path)["totals"]["rows"] == 8


def test_a_log_with_nothing_new_is_not_looked_at(tmp_path: Path) -> None:
    path, state = (
        log(tmp_path / "access.log", "203.0.113.7|26/Nov/2026:10:00:01 +0000|GET / HTTP/1.1|200|12|-|curl/8\n"),
        tmp_path / "state",
    )
    form = "$remote_addr|$time_local|$request|$status|$body_bytes_sent|$http_referer|$http_user_agent"
    run(path, "--state", state, "--format", form, "--quiet")
    assert told(path, "--state", state)["totals"]["rows"] == 1  # its format is of no interest now
    run(path, code=1)


def test_rotation_is_followed(tmp_path: Path) -> None:
    state, path = tmp_path / "state", log(tmp_path / "access.log", line(1), line(2))
    every = str(tmp_path / "access.log*")
    assert told(every, "--state", state)["totals"]["rows"] == 2
    log(path, line(3))
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    log(path, line(4, ip="203.0.113.9"))
    found = told(every, "--state", state)
    assert (found["totals"]["rows"], found["totals"]["clients"]) == (4, 2)
    assert told(every, "--state", state)["totals"]["rows"] == 4


def test_hosts_add_up(tmp_path: Path) -> None:
    one, two = log(tmp_path / "one.log", line(1), line(2, ip="2001:db8::1")), log(tmp_path / "two.log", line(3))
    run(one, "--state", tmp_path / "state", "--quiet")
    run(two, "--rollup", tmp_path / "two.parquet", "--quiet")
    found = told("--merge", tmp_path / "state", "--merge", tmp_path / "two.parquet")
    assert (found["totals"]["rows"], found["totals"]["clients"]) == (3, 2)
    assert any("merged hosts" in note for note in found["notes"])


def test_lines_that_are_no_requests_are_kept(tmp_path: Path) -> None:
    garbage = [b"\x16\x03\x01\x00\xa5", b"", b"\xff what?"]
    path = tmp_path / "access.log"
    path.write_bytes(line(1).encode() + b"\n".join(garbage) + b"\n" + line(2).encode())
    found = told(path, "--rejects", tmp_path / "rejects")
    assert (tmp_path / "rejects").read_bytes().split(b"\n")[:-1] == garbage
    assert found["totals"]["lines"] == 5
    assert sum(found["totals"]["unparsed"].values()) == 3


@pytest.mark.parametrize("level", ["subnet", "keyed"])
def test_what_is_kept_holds_no_address(tmp_path: Path, level: str) -> None:
    path = log(tmp_path / "access.log", line(1), line(2, ip="203.0.113.8"), line(3, ip="2001:db8:1:2:3:4:5:6"), line(4, ip="host.example"))
    said = run(path, "--state", tmp_path / "state", "--privacy", level, "--clients", tmp_path / "clients.parquet").output
    parts = [pl.read_parquet(part) for part in (tmp_path / "state").glob("part-*.parquet")]
    kept = pl.concat(
        [*(part.select(pl.col("ip").alias("client")) for part in parts), pl.read_parquet(tmp_path / "clients.parquet")["client"].to_frame()]
    )
    for address in ("203.0.113.7", "203.0.113.8", "2001:db8:1:2:3:4:5:6", "host.example"):
        assert address not in kept["client"].to_list()
        assert address not in said
    assert sum(part["requests"].sum() for part in parts) == 4
    assert kept["client"].n_unique() == (3 if level == "subnet" else 4)


# Run with -B: else Python leaves truncated bytecode beside the sources.
FULL = """
import resource, sys
from crawlguard.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))  # no file may have more bytes: as on a disk that is full
sys.argv[0] = "crawlguard"
main()
"""


@pytest.mark.parametrize("option", ["--state", "--clients", "--rollup"])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path, option: str) -> None:
    path = log(tmp_path / "access.log", line(1))
    place = tmp_path / {"--state": "state", "--clients": "clients.parquet", "--rollup": "rollup.parquet"}[option]
    call = [sys.executable, "-B", "-c", FULL, "analyze", str(path), option, str(place)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"crawlguard: {place}.*: cannot be written \(.*\); free some space, or .*\n", done.stderr)
    assert {one.name for one in tmp_path.rglob("*")} <= {"access.log", "state", "lock"}


OTHER = """
import os, sys
from click.testing import CliRunner
from crawlguard.cli import main
from crawlguard.commands.group import cli
log, *sys.argv = sys.argv[1:]
if os.geteuid() == 0:
    CliRunner().invoke(cli, ["analyze", log])  # what is imported need not be open to everybody
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
main()
"""


def test_a_state_of_another_user_can_be_looked_at_and_not_changed() -> None:
    with TemporaryDirectory() as directory:  # pytest's own are closed to others
        home = Path(directory)
        path, state = log(home / "access.log", line(1)), home / "state"
        run(path, "--state", state, "--quiet")
        for one in (home, state, *state.iterdir()):
            one.chmod(0o555 if one.is_dir() else 0o444)
        call, env = (
            [sys.executable, "-c", OTHER, str(path), "crawlguard", "analyze", "--state", str(state)],
            {**os.environ, "HOME": directory},
        )
        done = subprocess.run([*call, "--json"], capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["totals"]["rows"] == 1
        home.chmod(0o755)
        path.chmod(0o644)
        log(path, line(2))
        done = subprocess.run([*call, str(path)], capture_output=True, text=True, env=env, check=False)
        assert (done.returncode, "mistake of ours" in done.stderr) == (1, False), done.stderr
        assert "cannot be written (Permission denied" in done.stderr
        assert "run as the user whose state it is" in done.stderr
        state.chmod(0o755)
        (state / "lock").chmod(0)
        done = subprocess.run([*call, str(path)], capture_output=True, text=True, env=env, check=False)
        assert f"{state / 'lock'}: cannot be opened (Permission denied); run as the user whose state it is" in done.stderr


@pytest.mark.parametrize("level", ["subnet", "keyed"])
def test_a_state_keeps_to_the_privacy_it_began_with(tmp_path: Path, level: str) -> None:
    path, state = log(tmp_path / "access.log", line(1)), tmp_path / "state"
    run(path, "--state", state, "--privacy", level, "--quiet")
    log(path, line(2))
    assert told(path, "--state", state)["totals"]["clients"] == 1  # as "report" and "propose" do, which know no --privacy for a state
    assert not any("203.0.113.7" in pl.read_parquet(part)["ip"].to_list() for part in state.glob("part-*.parquet"))
    run(path, "--state", tmp_path / "full", "--quiet")
    log(path, line(3))
    done = CliRunner().invoke(analyze, [str(path), "--state", str(tmp_path / "full"), "--privacy", level])
    assert f"for --privacy {level} name another --state directory" in str(done.exception)
    assert told("--state", tmp_path / "full", "--privacy", level)["totals"]["rows"] == 2  # only what is shown


def test_who_looks_at_a_state_does_not_change_it(tmp_path: Path) -> None:
    path, state = log(tmp_path / "access.log", line(1)), tmp_path / "state"
    run(path, "--state", state, "--quiet")
    before = {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in state.iterdir()}
    assert told("--state", state)["totals"]["rows"] == 1
    assert {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in state.iterdir()} == before


def test_logs_and_formats_out_of_an_nginx_conf(tmp_path: Path) -> None:
    log(tmp_path / "site.log", "203.0.113.7|26/Nov/2026:10:00:01 +0000|GET / HTTP/1.1|200|12|-|curl/8\n")
    log(tmp_path / "site.log.1", "203.0.113.8|26/Nov/2026:09:00:01 +0000|GET / HTTP/1.1|200|12|-|curl/8\n")
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        "http { log_format bars '$remote_addr|$time_local|$request|$status|$body_bytes_sent|$http_referer|$http_user_agent';\n"
        f"access_log {tmp_path}/site.log bars; }}\n"
    )
    assert told("--nginx-conf", conf)["totals"]["rows"] == 2
    assert told(tmp_path / "site.log", "--nginx-conf", conf)["totals"]["rows"] == 1


def test_what_the_guard_did(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    told_of = {"client": "203.0.113.7", "agent": "GPTBot", "method": "GET", "path": "/", "rule": "ai-training", "action": "block"}
    event: dict[str, Any] = {
        **told_of,
        "time": "2026-11-22T10:00:00.123Z",
        "shadow": False,
        "status": 403,
        "tags": [],
        "retry_after": None,
        "robots": None,
        "fingerprint": "94c1",
        "reason": "",
    }
    log(path, *(json.dumps(event) + "\n" for _ in range(3)))
    assert told(path)["actions"] == [{"rule": "ai-training", "action": "block", "hits": 3}]


def test_an_interrupted_run_never_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = log(tmp_path / "access.log", line(1)), tmp_path / "state"
    run(path, "--state", state, "--quiet")
    before = {p.name: p.read_bytes() for p in state.iterdir()}
    log(path, line(2))

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reading, "run", interrupted)
        run(path, "--state", state, "--rejects", tmp_path / "rejects", code=1)
    assert {p.name: p.read_bytes() for p in state.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["access.log", "state"]
    assert told(path, "--state", state)["totals"]["rows"] == 2


def test_two_runs_on_one_state_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = log(tmp_path / "access.log", line(1)), tmp_path / "state"
    seen: list[BaseException | None] = []
    real = pipeline.run

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(reading, "run", real)
        seen.append(CliRunner().invoke(analyze, [str(path), "--state", str(state)]).exception)
        return real(*args, **kwargs)

    monkeypatch.setattr(reading, "run", meanwhile)
    run(path, "--state", state, "--quiet")
    assert "another run is at work" in str(seen[0])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere.log"], "nowhere.log"),
        (["access.log", "--robots", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["access.log", "--clients", "nowhere/clients.parquet"], "nowhere/clients.parquet: its directory does not exist"),
        (["access.log", "--rejects", "nowhere/rejects"], "nowhere/rejects: its directory does not exist"),
        (["access.log", "--asn", "access.log"], "access.log"),
        (["access.log", "--state", "state", "--cluster", "dask://127.0.0.1:1"], "leave --state"),
        (["access.log", "--format", "what"], "what"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    log(tmp_path / "access.log", line(1))
    done = CliRunner().invoke(analyze, args)
    assert done.exit_code == 1
    assert type(done.exception).__module__ == "crawlguard.errors"  # becomes a message, see ``crawlguard.commands.group.run``
    assert says in str(done.exception)


def test_called_wrongly() -> None:
    assert "name access logs" in run(code=2).output


def test_progress_is_for_terminals_and_long_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 0.5, 2.0, 2.1, 4.0])
    monkeypatch.setattr("crawlguard_analyzer.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with bytes_line([100_000_000, 100_000_000], quiet=False) as tell:
        for done in (10, 100_000_000, 105_000_000, 150_000_000):
            tell(done)
    said = capsys.readouterr().err.replace("\x1b[K", "").split("\r")
    assert said[1:] == ["reading: 50% of 200 MB, 50 MB/s, 0:02 left", "reading: 75% of 200 MB, 38 MB/s, 0:01 left", ""]
    clock = iter([0.0, 3.0])
    with shards_line(quiet=False) as done_of:
        done_of(1, 3)
    assert "1 of 3 shards, 0:06 left" in capsys.readouterr().err
    clock = iter([0.0, 3.0])
    with bytes_line([None, 5], quiet=False) as tell:
        tell(30_000_000)
    assert "reading: 30 MB, 10 MB/s" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with bytes_line([1], quiet=False) as tell:
        tell(1)
    assert capsys.readouterr().err == ""


def test_the_state_names_what_was_counted(tmp_path: Path) -> None:
    path = log(tmp_path / "access.log", line(1), "garbage\n")
    for _ in range(2):
        run(path, "--state", tmp_path / "state", "--quiet")
    counts = json.loads((tmp_path / "state" / MANIFEST).read_bytes())["counts"]
    assert counts["rows"] == 1
    assert sum(counts["unparsed"].values()) == 1


def test_a_directory_may_hold_other_things_than_logs(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log(tmp_path / "logs" / "access.log", line(1))
    log(tmp_path / "logs" / "notes.txt", "buy milk\n", "and bread\n")
    for found in (told(tmp_path / "logs"), told(tmp_path / "logs", "--state", tmp_path / "state")):
        assert found["totals"]["rows"] == 1
        assert any("notes.txt: left out" in note for note in found["notes"])


@pytest.mark.parametrize("command", [analyze, report, propose], ids=lambda command: command.name)
def test_a_state_that_is_not_there_is_named_and_not_made(command: click.Command, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--state", str(tmp_path / "typo")])
    assert isinstance(done.exception, DataError)
    assert f"{tmp_path / 'typo'}: no state there" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--clients", "--rejects"])
def test_a_place_that_is_not_there_is_told_before_the_logs_are_read(option: str, tmp_path: Path) -> None:
    done = run(tmp_path / "no.log", option, tmp_path / "none" / "file", code=1)
    assert "its directory does not exist" in str(done.exception)


def test_a_log_of_blank_lines_and_other_files_of_a_directory(tmp_path: Path) -> None:
    blank = log(tmp_path / "blank.log", "\n", "\n")
    assert "nothing but blank lines" in str(run(blank, code=1).exception)
    log(tmp_path / "notes.log", "to do: buy milk\n")
    log(tmp_path / "access.log", line(0))
    found = told(tmp_path)
    assert found["totals"]["rows"] == 1
    assert f"{tmp_path / 'notes.log'}: left out: the format of its lines is not known" in found["notes"]
