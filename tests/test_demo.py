"""The demo, as ``crawlguard demo`` runs it: in a process of its own, with real servers and real clients."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from crawlguard.demo.sites import Site
from crawlguard.demo.visitors import REFUSED, SERVED, SLOWED, Visit

pytestmark = pytest.mark.alone

COMMAND = "from crawlguard.cli import main; import sys; sys.argv = ['crawlguard', 'demo', *sys.argv[1:]]; "
WITHIN = 60
SITES = ("FastAPI", "Flask")
CRAWLERS = ("GPTBot", "ClaudeBot", "Bytespider", "CCBot")
FLOOD, PERSON = "Chrome, 60 addresses of one /24", "Firefox, during that flood"


def command(*arguments: str, before: str = "") -> list[str]:
    """The demo's command line; ``before`` is Python that runs first, to change what the demo finds."""
    return [sys.executable, "-c", f"{COMMAND}{before}\nmain()", *arguments]


def environment(tmp_path: Path, *, programs: bool = False, **more: str) -> dict[str, str]:
    """This process's environment, with a temporary directory to look at, and curl and browsers only if asked for."""
    return {**os.environ, "TMPDIR": str(tmp_path), **({} if programs else {"PATH": str(tmp_path)}), **more}


def left_over(tmp_path: Path) -> list[str]:
    """What a demo whose temporary directory this was has left: files, and processes that were told of it."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            mine = b"CRAWLGUARD_DEMO_POLICY=" + os.fsencode(tmp_path) in path.read_bytes()
        except OSError:  # it has just ended, or is somebody else's
            continue
        if mine:
            processes.append(path.parent.name)
    return [*processes, *(path.name for path in tmp_path.glob("crawlguard-demo-*"))]


def demo(tmp_path: Path, *arguments: str, before: str = "", programs: bool = False) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        command("--json", *arguments, before=before),
        env=environment(tmp_path, programs=programs),
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert not left_over(tmp_path)
    return done.returncode, json.loads(done.stdout)


def by_client(told: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["client"], row["site"]): row for row in told["clients"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """A demo as most will see it, with the programs that are installed: its exit code and what it says."""
    return demo(tmp_path_factory.mktemp("whole"), programs=True)


def test_everything_is_as_it_must_be(whole: tuple[int, dict[str, Any]]) -> None:
    code, told = whole
    assert (code, told["ok"], told["version"], told["problems"]) == (0, True, 1, [])
    assert told["seconds"] < WITHIN
    assert [(s["name"], s["server"], s["workers"]) for s in told["sites"]] == [("FastAPI", "uvicorn", 2), ("Flask", "gunicorn", 2)]
    rows = by_client(told)
    for site in SITES:
        for crawler in CRAWLERS:
            row = rows[crawler, site]
            assert row["requests"] > 1
            assert (row["served"], row["statuses"], [r["rule"] for r in row["rules"]]) == (0, {"403": row["requests"]}, ["ai-training"])
        flood = rows[FLOOD, site]
        assert (flood["requests"], list(flood["statuses"]), [r["rule"] for r in flood["rules"]]) == (180, ["429"], ["swarm-of-one-subnet"])
        assert 60 <= flood["served"] < 90, "the burst of 60 and what was refilled meanwhile, over both workers"
        assert rows[PERSON, site]["requests"] == 5
        for row in told["clients"]:
            assert row["errors"] == 0
            assert row["refused"] == 0 or row["client"] in (*CRAWLERS, FLOOD)
    curl = shutil.which("curl")
    assert rows["GPTBot", "Flask"]["program"] == ("curl" if curl else "httpx")
    browsers = {"Chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "lynx": ("lynx",), "w3m": ("w3m",)}
    for name, programs in browsers.items():
        there = any(map(shutil.which, programs))
        assert ((name, "FastAPI") in rows) is there
        assert (name in told["absent"]) is not there
        if there:
            assert rows[name, "FastAPI"]["served"] >= (2 if name == "Chromium" else 1), "Chromium fetches the style sheet too"


def test_the_summary_counts_what_the_clients_met(whole: tuple[int, dict[str, Any]]) -> None:
    _, told = whole
    met: Counter[tuple[str, str, bool]] = Counter()
    for row in told["clients"]:
        met.update({(r["rule"], r["action"], r["shadow"]): r["count"] for r in row["rules"]})
    log = {(r["rule"], r["action"], r["shadow"]): r["count"] for r in told["log"]}
    assert {key: count for key, count in log.items() if key[0]} == met
    assert met["ai-training", "block", False] == sum(row["refused"] for row in told["clients"] if row["must"] == REFUSED)
    assert any(shadow for _, _, shadow in met), "a client that is only watched takes part"
    shadowed = {row["client"] for row in told["clients"] for rule in row["rules"] if rule["shadow"]}
    assert all(row["refused"] == 0 for row in told["clients"] if row["client"] in shadowed)


def test_where_loopback_has_one_address_a_header_tells_clients_apart(tmp_path: Path) -> None:
    code, told = demo(tmp_path, before="import crawlguard.demo.sites as sites; sites.loopback_is_wide = lambda: False")
    assert (code, told["problems"]) == (0, [])
    assert "trusted proxy" in told["notes"][0]
    assert by_client(told)[FLOOD, "FastAPI"]["served"] < 90
    assert {row["program"] for row in told["clients"]} == {"httpx"}
    assert told["absent"] == ["Chromium", "lynx", "w3m"]


def on_terminal(arguments: list[str], env: dict[str, str]) -> tuple[int, str]:
    """A command's exit code and what it shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while some := terminal.read(65_536):
                shown += some
        except OSError:  # Linux: EIO when the other side is closed
            pass
    return process.wait(WITHIN), shown.decode().replace("\r\n", "\n")


def test_what_is_not_as_it_must_be_is_told(tmp_path: Path) -> None:
    wrong = "import dataclasses, crawlguard.demo.clients as c; v = c.VISITORS; c.VISITORS = tuple(dataclasses.replace(x, must='refused') for x in v if x.name == 'Feedly')"
    code, shown = on_terminal(command(before=wrong), environment(tmp_path))
    assert code == 1
    assert "\x1b[31m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"^  Feedly \(httpx\) +FastAPI +1 +1 +- +no rule matched  WRONG: must be refused$", plain, re.MULTILINE)
    assert "Not as it must be" in plain
    assert "Feedly at the Flask site was served 1 times and must be refused" in plain
    assert not left_over(tmp_path)


def test_the_table_is_aligned_and_no_color_is_honoured(tmp_path: Path) -> None:
    code, shown = on_terminal(command(), environment(tmp_path, NO_COLOR="1"))
    assert code == 0
    assert "\x1b" not in shown
    table = shown[shown.index("  client ") : shown.index("What the decision logs say")].splitlines()
    rows = [line for line in table if " FastAPI " in line or " Flask " in line]
    assert len(rows) >= 24
    column = table[0].index("rule that decided")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in rows)
    assert "All as it must be: 4 crawlers refused" in shown
    assert "crawlguard init" in shown


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def read_object(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that a process prints while it goes on."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    told: dict[str, Any] = json.loads(text)
    return told


def test_serve_leaves_the_sites_up_until_ctrl_c(tmp_path: Path) -> None:
    process = start(tmp_path, "--serve", "--json")
    told = read_object(process)
    assert process.poll() is None
    for site in told["sites"]:
        port = int(site["url"].rpartition(":")[2])
        for agent, status in (("CCBot/2.0", 403), ("Lynx/2.9.0", 200)):
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/", headers={"User-Agent": agent})
            assert connection.getresponse().status == status
            connection.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WITHIN)
    assert process.returncode == 0
    assert not left_over(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_takes_its_processes_with_it(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--json")
    deadline = time.monotonic() + WITHIN
    while len(left_over(tmp_path)) < 4 and time.monotonic() < deadline:  # both servers, a worker at least, the directory
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
    process.send_signal(number)
    process.communicate(timeout=WITHIN)
    assert process.returncode == 130
    assert not left_over(tmp_path)


def test_missing_packages_are_named_with_the_cure(tmp_path: Path) -> None:
    before = "sys.modules['gunicorn'] = sys.modules['fastapi'] = None"
    code, told = demo(tmp_path, before=before)
    assert code == 2
    assert told == {
        "version": 1,
        "ok": False,
        "problems": ["the demo needs fastapi, gunicorn: pip install fastapi flask gunicorn httpx uvicorn"],
    }
    done = subprocess.run(command(before=before), env=environment(tmp_path), capture_output=True, text=True, timeout=WITHIN, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"crawlguard: {told['problems'][0]}\n"


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = f"import crawlguard.demo as d; sys.exit(d.run(as_json=True, port={taken.getsockname()[1]}))"
        code, told = demo(tmp_path, before=run)
    assert (code, told["ok"]) == (1, False)
    assert "the FastAPI site (uvicorn) ended; it said:" in told["problems"][0]
    assert "ddress already in use" in told["problems"][0]


def test_the_server_for_windows_serves_the_guarded_flask_site(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\ninclude: [builtin:default]\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "crawlguard.demo.threads", str(port)], env=environment(tmp_path, CRAWLGUARD_DEMO_POLICY=str(policy))
    )
    try:
        answers = {}
        for agent in ("GPTBot/1.2", "Lynx/2.9.0"):
            deadline = time.monotonic() + WITHIN
            while agent not in answers and time.monotonic() < deadline and process.poll() is None:
                connection = HTTPConnection("127.0.0.1", port, timeout=10)
                try:
                    connection.request("GET", "/feed.xml", headers={"User-Agent": agent})
                    answers[agent] = connection.getresponse().status
                except ConnectionRefusedError:
                    with pytest.raises(subprocess.TimeoutExpired):
                        process.wait(0.05)
                finally:
                    connection.close()
        assert answers == {"GPTBot/1.2": 403, "Lynx/2.9.0": 200}
    finally:
        process.terminate()
        process.wait(WITHIN)


@pytest.mark.parametrize(
    ("must", "statuses", "problem"),
    [
        (REFUSED, [403, 403], None),
        (REFUSED, [200, 403, 403], "was served 1 times and must be refused"),
        (REFUSED, [], "sent no request at all"),
        (REFUSED, [403, 500], "got 1 server errors or broken connections"),
        (SERVED, [200, 304], None),
        (SERVED, [200, 429], "was refused 1 times and must be served"),
        (SERVED, [200, 0], "got 1 server errors or broken connections"),
        (SLOWED, [200, 429, 429], None),
        (SLOWED, [200, 429], "was slowed down only 1 times in 2"),
        (SLOWED, [200, 200], "was slowed down only 0 times in 2"),
    ],
)  # fmt: skip
def test_what_a_client_met_is_judged(must: str, statuses: list[int], problem: str | None) -> None:
    visit = Visit(client="one", program="curl", site=Site("FastAPI", "uvicorn", 2, 80, Path("p"), Path("l")), must=must)
    for status in statuses:
        visit.count(status)
    visit.rules["a-rule", "block", False] += 1
    assert visit.problems() == ([] if problem is None else [problem])


def test_a_refusal_without_a_rule_in_the_log_is_a_problem() -> None:
    visit = Visit(client="one", program="curl", site=Site("FastAPI", "uvicorn", 2, 80, Path("p"), Path("l")), must=REFUSED)
    visit.count(403)
    visit.rules["only-watching", "block", True] += 1
    assert visit.problems() == ["was refused, and the decision log does not say by which rule"]
