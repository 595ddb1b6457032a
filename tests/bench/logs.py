"""Big access logs of a made-up site, the same for the same seed, and how fast and small the analyzer is on them.

``python -m tests.bench.logs write FILE MEGABYTES`` writes one, ``... count FILE`` reads and rolls one up and does no more. Lines are nginx's combined format with what real logs have: a few clients that ask
for much and very many that ask for little and for an hour only, pages with their assets, TLS on the wrong port, NULs, latin-1, escapes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import polars as pl

from .table import Row

START = 1_790_000_000
"""The first request's second: September 2026."""
LINES_PER_DAY = 700_000
ADDRESSES, PATHS, AGENTS = 300_000, 200_000, 4_000
BATCH = 400_000
DIRT = (
    r'198.51.100.9 - - [{}] "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03" 400 157 "-" "-"',
    r'198.51.100.10 - - [{}] "GET /caf\xE9?q=\x22x\x22 HTTP/1.1" 404 157 "-" "Agent \x22quoted\x22 \x5C"',
    '198.51.100.11 - - [{}] "GET /caf\xe9 HTTP/1.1" 200 99 "-" "latin-1 \xfc\xe4"',
    '198.51.100.12 - - [{}] "GET /nul\0 HTTP/1.1" 400 0 "-" "\0"',
    '198.51.100.13 - - [{}] "" 400 0 "-" "-"',
    "198.51.100.14 - - [{}] \"GET / HT",
    "",
    '198.51.100.15 - user name [{}] "GET /private HTTP/1.1" 401 5 "-" "curl/8.9.1"',
)  # fmt: skip
DIRT_EVERY = 900
"""One line of dirt in so many."""

_COMBINED = '{} - - [{}] "{} {} HTTP/{}" {} {} "{}" "{}"'


def _draw(number: pl.Expr, seed: int, below: int, power: float = 1.0) -> pl.Expr:
    """A number below `below` for each line, the smaller ones the more often the greater the power."""
    return ((number.hash(seed=seed) / 2.0**64) ** power * below).floor().cast(pl.Int64).clip(0, below - 1)


def _choice(number: pl.Expr, seed: int, **shares: int) -> pl.Expr:
    names = [name.lstrip("_") for name, share in shares.items() for _ in range(share)]
    return pl.lit(pl.Series(names)).gather(_draw(number, seed, len(names)))


def _addresses() -> pl.Series:
    n = pl.int_range(ADDRESSES, dtype=pl.Int64)
    bits = n.hash(seed=11)
    octets = [(bits // 256**place % 256).cast(pl.String) for place in range(4)]
    v4 = pl.concat_str([(bits // 256**4 % 200 + 11).cast(pl.String), *octets[1:]], separator=".")
    v6 = pl.format("2a0{}:{}:{}::{}", bits % 10, bits // 16 % 9999, bits // 2**20 % 9999, n)
    return pl.select(pl.when(bits % 8 == 0).then(v6).otherwise(v4)).to_series()


def _paths() -> pl.Series:
    n = pl.int_range(PATHS, dtype=pl.Int64)
    words = ["shop", "news", "catalogue", "products", "blog", "static", "media", "archive", "user", "wiki"]
    word = [_choice(n, seed, **dict.fromkeys(words, 1)) for seed in (21, 22)]
    end = _choice(n, 23, _html=2, _slash=2, _none=2, css=1, js=2, png=3, jpg=4, webp=2, woff2=1, svg=1)
    named = pl.when(end == "html").then(pl.lit(".html")).when(end == "slash").then(pl.lit("/")).when(end == "none").then(pl.lit(""))
    tail = named.otherwise(pl.format(".{}", end))
    return pl.select(pl.format("/{}/{}/item-{}{}", *word, n, tail)).to_series()


def _agents() -> pl.Series:
    n = pl.int_range(AGENTS, dtype=pl.Int64)
    systems = [
        "Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7", "Linux; Android 10; K",
        "iPhone; CPU iPhone OS 18_6 like Mac OS X",
    ]  # fmt: skip
    system = pl.lit(pl.Series(systems)).gather(_draw(n, 31, len(systems)))
    chrome = pl.format("Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.{}.{} Safari/537.36", system,
                       150 - n % 60, 7000 + n % 9, n % 97)  # fmt: skip
    firefox = pl.format("Mozilla/5.0 ({}; rv:{}.0) Gecko/20100101 Firefox/{}.0.{}", system, 150 - n % 50, 150 - n % 50, n)
    names = pl.Series(["GPTBot", "ClaudeBot", "bingbot", "Googlebot", "AhrefsBot", "meta-externalagent", "Bytespider"])
    bot = pl.format("Mozilla/5.0 (compatible; {}/1.{}; +https://example.com/bot)", pl.lit(names).gather(_draw(n, 32, len(names))), n)
    kind = _draw(n, 33, 10)
    return pl.select(pl.when(kind < 7).then(chrome).when(kind < 9).then(firefox).otherwise(bot)).to_series()


def _batch(first: int, count: int, pools: tuple[pl.Series, pl.Series, pl.Series]) -> pl.Series:
    addresses, paths, agents = pools
    number = pl.int_range(first, first + count, dtype=pl.Int64)
    time = START + number * 86_400 // LINES_PER_DAY
    drawn = _draw(number, 1, ADDRESSES, 3.0)
    hour = time // 3600 % 240
    client = pl.when(drawn < ADDRESSES // 20).then(drawn).otherwise((drawn - drawn % 240 + hour).clip(0, ADDRESSES - 1))
    lines = pl.select(client=client, number=number, time=pl.from_epoch(time + 7200).dt.strftime("%d/%b/%Y:%H:%M:%S +0200"))
    number, client = pl.col("number"), pl.col("client")
    path = pl.lit(paths).gather(_draw(number, 2, PATHS, 3.0))
    query = pl.when(_draw(number, 3, 10) == 0).then(pl.format("?page={}&sort=price", _draw(number, 4, 100_000))).otherwise(pl.lit(""))
    agent = pl.lit(agents).gather(_draw(client + pl.when(_draw(number, 5, 50) == 0).then(number).otherwise(0), 6, AGENTS, 2.0))
    referrer = pl.when(_draw(number, 7, 20) < 11).then(
        pl.format("https://shop.example.org{}", pl.lit(paths).gather(_draw(number, 8, PATHS, 4.0)))
    )
    method = _choice(number, 9, GET=92, POST=5, HEAD=2, OPTIONS=1)
    version = pl.when(client % 3 == 0).then(pl.lit("1.1")).otherwise(pl.lit("2.0"))
    status = _choice(number, 10, _200=80, _304=6, _301=4, _404=5, _403=2, _302=1, _500=1, _206=1)
    size = _draw(number, 12, 200_000, 3.0)
    return lines.select(
        pl.format(_COMBINED, pl.lit(addresses).gather(client), "time", method, pl.concat_str(path, query), version, status, size,
                  referrer.fill_null("-"), agent).alias("line")
    )["line"]  # fmt: skip


def write(target: Path, size: int) -> int:
    """Write a log of about `size` bytes; how many lines it has."""
    pools = _addresses(), _paths(), _agents()
    written = lines = 0
    with target.open("wb") as file:
        while written < size:
            text = _batch(lines, BATCH, pools).to_list()
            for place in range(0, BATCH, DIRT_EVERY):
                stamp = text[place].partition("[")[2].partition("]")[0]
                text[place] = DIRT[place // DIRT_EVERY % len(DIRT)].format(stamp)
            data = "\n".join([*text, ""]).encode("latin-1")
            file.write(data)
            written += len(data)
            lines += BATCH
    return lines


class Run(NamedTuple):
    """One process: seconds on the clock, MiB at its peak."""

    seconds: float
    peak: float


WATCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
"""Starts a process and says its exit code and its peak in KiB. It is small: until the new program begins, a process counts with what its parent has in memory."""


def run(command: list[str], compiled: Path | None = None) -> Run:
    """A real process, waited for. ``compiled``: a directory for Python's byte code, which every installed package has. Raises RuntimeError when
    it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not compiled or name != "PYTHONDONTWRITEBYTECODE"}
    if compiled:
        environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    program = shutil.which(command[0]) or command[0]
    watched = [sys.executable, "-S", "-c", WATCHER, program, *command[1:]]
    started = time.perf_counter()
    told = subprocess.run(watched, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, check=True, text=True).stdout
    seconds = time.perf_counter() - started
    code, peak = map(int, told.split()[-2:])
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return Run(seconds, peak / 1024)


def _middle(runs: list[Run]) -> Run:
    return Run(median(one.seconds for one in runs), max(one.peak for one in runs))


def _analyze(log: Path) -> list[str]:
    program = Path(sys.executable).with_name("crawlguard")
    return [str(program), "analyze", str(log), "--clients", str(log.with_suffix(".parquet")), "--quiet"]


def _compressed(log: Path) -> Path:
    from isal import igzip_threaded

    target = log.with_suffix(".log.gz")
    with log.open("rb") as plain, cast(Any, igzip_threaded).open(target, "wb", compresslevel=1, threads=2) as file:
        shutil.copyfileobj(plain, file, 1 << 20)
    return target


def access_logs(megabytes: int = 1070, rounds: int = 3) -> Iterator[Row]:
    """``crawlguard analyze`` beside gawk, GoAccess, and itself on .gz and on four times as much; medians of processes that take turns."""
    with tempfile.TemporaryDirectory(prefix="crawlguard-bench-") as directory:
        log, compiled = Path(directory) / "access.log", Path(directory) / "compiled"
        lines = write(log, megabytes * 1_000_000)
        what = f"analyze, {log.stat().st_size / 1e9:.2f} GB of nginx combined, {lines / 1e6:.1f} M lines"
        gz = _compressed(log)
        gawk = ["gawk", "{c[$1]++} END {for (k in c) n++; print n}", str(log)]
        sides = {"plain": _analyze(log), "gz": _analyze(gz), "count": [sys.executable, "-m", __spec__.name, "count", str(log)]}
        if shutil.which("gawk"):
            sides |= {"gawk": gawk, "gawk, LC_ALL=C": ["env", "LC_ALL=C", *gawk]}
        taken: dict[str, list[Run]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, command in sides.items():
                taken[name].append(run(command, compiled))
        found = {name: _middle(runs) for name, runs in taken.items()}
        one = found["plain"]
        count = f"{one.seconds:.1f} s, of which reading and rollup {found['count'].seconds:.1f} s"
        if "gawk" in found:
            note = f"{count}; gawk {found['gawk'].seconds:.1f} s, with LC_ALL=C {found['gawk, LC_ALL=C'].seconds:.1f} s"
            yield Row(f"{what}: against gawk '{{c[$1]++}}'", one.seconds / found["gawk"].seconds, "x", 3, 1.5, note)
        else:
            yield Row(f"{what}: against gawk", 0.0, "x", note=f"gawk is not installed; {count}")
        if shutil.which("goaccess"):
            other = run(["goaccess", str(log), "--log-format=COMBINED", "--no-progress", "-o", str(Path(directory) / "report.json")])
            yield Row("the same: against GoAccess", one.seconds / other.seconds, "x", 0.1, 0.05, f"GoAccess {other.seconds:.0f} s")
        else:
            yield Row("the same: against GoAccess", 0.0, "x", note="goaccess is not installed")
        yield Row("the same: peak memory", one.peak, "MiB", 1024, 614)
        yield Row("the same: .gz against plain", found["gz"].seconds / one.seconds, "x", 1.5)
        gz.unlink()
        log.unlink()
        lines_of_four = write(log, 4 * megabytes * 1_000_000)
        four = run(_analyze(log), compiled)
        slower = four.seconds / lines_of_four / (one.seconds / lines)
        yield Row("four times as much: time per line", slower, "x", 1.1, note=f"{four.seconds:.1f} s")
        yield Row("four times as much: peak memory", four.peak / one.peak, "x", 1.2, note=f"{four.peak:.0f} MiB")


def count(log: str) -> None:
    """Read a log and roll it up, as ``crawlguard analyze`` does before it judges."""
    from crawlguard_analyzer.formats import named
    from crawlguard_analyzer.pipeline import run as counted
    from crawlguard_analyzer.rollup import Clients
    from crawlguard_analyzer.sources import open_sources

    (source,) = open_sources([log])
    found = counted(source.chunks(), named("combined"), [Clients()])
    print(f"{found.lines} lines, {found.rows} requests, {found.rollups[0].height} rows of clients and days")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        print(write(Path(sys.argv[2]), int(float(sys.argv[3]) * 1e6)), "lines")
    else:
        count(sys.argv[2])
