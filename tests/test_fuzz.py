"""A bounded run of each fuzz target, and what fuzzing and thinking have found so far, as plain cases."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEEDS = [HERE / "data" / "policies" / kind for kind in ("good", "bad")]

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no build for this Python")


@needs_atheris
@pytest.mark.parametrize(("target", "runs"), [("fuzz_policy", 4000), ("fuzz_request", 20_000)])
def test_a_bounded_run_finds_nothing(target: str, runs: int, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"  # libFuzzer writes into the first directory only
    corpus.mkdir()
    seeds = [str(path) for path in SEEDS if target == "fuzz_policy" and path.is_dir()]
    options = [
        f"-runs={runs}",
        "-max_len=2000",
        "-timeout=20",
        "-max_total_time=120",
        "-print_final_stats=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz" / f"{target}.py"), *options, str(corpus), *seeds],
        env={**os.environ, "CRAWLGUARD_STATE_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    executed = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert int(executed.rpartition(":")[2]) >= min(runs, 1000)


READ = """
import sys
from crawlguard.loader import parse_policy
policy, problems = parse_policy(sys.stdin.buffer.read())
print(policy is not None, *sorted({p.id for p in problems if p.severity == "error"}))
"""
CASES = {
    "deep flow": b"[" * 100_000,
    "deep mappings": b"{a: " * 50_000,
    "deep block": b"- " * 100_000,
    "NUL in a glob": rb'{version: 1, include: ["x\0/*.yaml"]}',
    "NUL in a file": rb'{version: 1, networks: {a: {file: "x\0"}}, rules: [{id: a, then: block}]}',
    "NUL in an include": rb'{version: 1, include: ["x\0"]}',
    "a list in itself": b"{version: 1, rules: &a [*a]}",
    "a mapping in itself": b"version: 1\nrules: &a {x: *a}",
    "a key in itself": b"&a {*a : 1}",
    "aliases of aliases": b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 10)) for n in range(98, 108)),
    "a brace in a glob": b"{version: 1, include: ['[a-']}",
    "a directory": b"{version: 1, include: ['.']}",
    "not UTF-8": b"version: \xff",
    "a lone surrogate": rb'{version: 1, mode: "\ud800"}',
    "two documents": b"version: 1\n---\nversion: 1\n",
    "a tag": b"!!python/object/apply:os.system [true]",
    "a merge key": b"{version: 1, <<: {mode: shadow}}",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_an_error_with_an_id(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ], input=CASES[name], cwd=tmp_path, capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    loaded, *ids = done.stdout.decode().split()
    assert loaded == "False"
    assert ids
    assert all(one.startswith("CG") for one in ids)


@pytest.mark.parametrize("setting", ["store: {path: NAME}", "log: NAME", "data: {asn: NAME, country: NAME}"])
def test_no_name_of_a_file_breaks_the_guard(setting: str, tmp_path: Path) -> None:
    script = READ + "\nfrom crawlguard import Guard, RequestView\nif policy: print(Guard(policy).decide(RequestView()).action)"
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"version: 1\n" + setting.replace("NAME", r'"x\0"').encode(), cwd=tmp_path,
        capture_output=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.split()[-1].decode().startswith(("allow", "CG"))
