"""The decision log and the counters. Never configures logging; never raises into a request; never writes half a line.

One JSON object per line, ASCII only, so that no header or path can start a line of its own:

    {"time": "2026-11-22T10:00:00.123Z", "client": "203.0.113.7", "agent": "GPTBot", "tags": [], "rule": "ai-training",
     "action": "block", "shadow": false, "method": "GET", "path": "/", "status": 403, "fingerprint": "9f...",
     "retry_after": null, "reason": "...", "robots": null}

``robots`` is "disobeyed" where an agent that says it honours robots.txt, and has fetched it, asks for what it is asked to leave alone.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from .client_ip import format_ip
from .decision import Decision
from .log import decisions, own
from .paths import private_dir
from .policy.model import Log
from .policy.ruleset import Client, UaFacts
from .request import RequestView
from .signals.headers import fingerprint
from .signals.rate import SUBNET_V4, SUBNET_V6

INFO = 20
"""``logging.INFO``"""
MAX_PATH = 1024
REOPEN_EVERY = 1.0
"""Seconds between looks at whether the log file has been rotated away."""


class Once:
    """Says the same thing at most once a minute, so that a broken disk does not fill another one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, every: float = 60.0) -> None:
        self._clock, self._every = clock, every
        self._last: dict[str, float] = {}

    def warn(self, topic: str, message: str, *, exc_info: bool = False) -> None:
        """Log ``message`` unless ``topic`` was logged less than a minute ago."""
        now = self._clock()
        if now - self._last.get(topic, float("-inf")) >= self._every:
            self._last[topic] = now
            own.warning(message, exc_info=exc_info)


class Counters:
    """How often each (rule, action, shadow) decided; plain allows and errors by themselves."""

    def __init__(self) -> None:
        self.allowed = 0
        self.errors = 0
        self.log_errors = 0
        self.disobeyed: Counter[str] = Counter()  # by agent; the catalogue bounds it
        self._lock = threading.Lock()
        self._by_rule: Counter[tuple[str, str, bool]] = Counter()

    def add(self, decision: Decision) -> None:
        """Count a decision that is not a plain allow, with its shadow decisions."""
        with self._lock:
            for one in decision.shadow:
                self._by_rule[one.rule or "", str(one.action), True] += 1
            self._by_rule[decision.rule or "", str(decision.action), False] += 1

    def snapshot(self) -> dict[str, object]:
        """Plain data: allowed, errors, log_errors, rules as a list of {rule, action, shadow, count}, and disobeyed by agent."""
        with self._lock:
            rows = sorted(self._by_rule.items())
        rules = [{"rule": r or None, "action": a, "shadow": s, "count": n} for (r, a, s), n in rows]
        told = {"allowed": self.allowed, "errors": self.errors, "log_errors": self.log_errors}
        return {**told, "rules": rules, "disobeyed": dict(sorted(self.disobeyed.items()))}


class Privacy:
    """What an address looks like outside this process: whole, as its /24 or /48, or as a keyed hash.

    The key is CRAWLGUARD_SECRET, else a random one kept beside the cache, so that one address has one name on this host.
    """

    def __init__(self, addresses: str = "full") -> None:
        self.addresses = addresses
        self._key = _secret() if addresses == "keyed" else b""

    def show(self, packed: bytes | None) -> str | None:
        """The address for a log or an export, None for an unknown client."""
        if packed is None or self.addresses == "full":
            return None if packed is None else format_ip(packed)
        if self.addresses == "subnet":
            prefix = packed[: SUBNET_V4 if len(packed) == 4 else SUBNET_V6]
            return f"{format_ip(prefix + bytes(len(packed) - len(prefix)))}/{len(prefix) * 8}"
        return "k-" + blake2b(packed, key=self._key, digest_size=8).hexdigest()


def _secret() -> bytes:
    named = os.environ.get("CRAWLGUARD_SECRET", "")
    if named:
        return blake2b(named.encode(), digest_size=32).digest()
    directory = private_dir("cache")
    fresh = os.urandom(32)
    if directory is None:
        return fresh
    path, partial = directory / "address-key", directory / f"address-key.{fresh[:4].hex()}"
    try:
        if not path.exists() or path.stat().st_size != 32:  # never written to its end
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(fresh)
            try:
                os.link(partial, path)
            except FileExistsError:  # another worker was first, or left it half written
                if path.stat().st_size != 32:
                    os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        return path.read_bytes()
    except OSError:
        return fresh


class EventLog:
    """Writes the lines: to nothing, to the logger ``crawlguard.decisions``, or to a file."""

    def __init__(self, spec: Log, privacy: Privacy, counters: Counters, once: Once, wall: Callable[[], float] = time.time) -> None:
        self.privacy, self.counters, self.once, self.wall = privacy, counters, once, wall
        self.sample = spec.sample
        self._write: Callable[[str], None] | None = None
        if spec.to == "logging":
            self._write = decisions.info
            if not decisions.isEnabledFor(INFO):
                own.warning("log: logging is set, but the logger crawlguard.decisions lets nothing through; set its level to INFO")
        elif spec.to != "off":
            self._write = _File(Path(spec.to)).write
        self.active = self._write is not None

    def wants_allow(self) -> bool:
        """Whether this plain allow belongs to the sampled share."""
        from random import random

        return self.sample > 0 and random() < self.sample  # noqa: S311 - a sample, not a secret

    def record(self, decision: Decision, view: RequestView, ua: UaFacts, client: Client, *, disobeyed: bool = False) -> None:
        """Log a decision and its shadow decisions, a line each. Failures are counted, and said once a minute."""
        if self._write is None:
            return
        try:
            shared = {**self._shared(view, ua, client), "robots": "disobeyed" if disobeyed else None}
            for one in decision.shadow:
                self._write(_line(shared, one, True))
            if decision.rule or decision.tags or disobeyed or not decision.shadow:
                self._write(_line(shared, decision, False))
        except Exception as error:  # a full disk must not cost a request
            self.counters.log_errors += 1
            self.once.warn("log", f"the decision log cannot be written: {error}; decisions go on without it")

    def _shared(self, view: RequestView, ua: UaFacts, client: Client) -> dict[str, object]:
        now = self.wall()
        return {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z",
            "client": self.privacy.show(client.packed),
            "agent": ua.agent.name if ua.agent else None,
            "method": view.method[:32],
            "path": view.path[:MAX_PATH],
            "fingerprint": fingerprint(view),
        }


def _line(shared: dict[str, object], decision: Decision, shadow: bool) -> str:
    row = {
        **shared,
        "tags": list(decision.tags),
        "rule": decision.rule,
        "action": str(decision.action),
        "shadow": shadow,
        "status": decision.status if not decision.allowed else None,
        "retry_after": decision.retry_after,
        "reason": decision.reason,
    }
    return json.dumps(row, ensure_ascii=True, separators=(",", ":"))


class _File:
    """A log file that follows rotation: when its name points elsewhere, the next line goes there.

    Each line is one write to a descriptor in append mode, so lines of several workers never mix.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fd = -1
        self._inode = (0, 0)
        self._looked = float("-inf")
        self._torn = False

    def __del__(self) -> None:  # a policy has been replaced, and its log with it
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, line: str) -> None:
        data = line.encode("ascii") + b"\n"
        with self._lock:
            self._follow()
            if self._torn:  # a full disk cut the last line short: nothing may be glued to it
                data = b"\n" + data
            written = os.write(self._fd, data)
            self._torn = written != len(data)
            if self._torn:
                raise OSError("the disk is full")

    def _follow(self) -> None:
        now = time.monotonic()
        if self._fd >= 0 and now - self._looked < REOPEN_EVERY:
            return
        self._looked = now
        try:
            found = os.stat(self._path)
            current = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            current = (0, 0)
        if self._fd >= 0 and current == self._inode:
            return
        fresh = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0), 0o640
        )
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fresh
        found = os.fstat(fresh)
        self._inode = (found.st_dev, found.st_ino)
