"""The guard of the sites under load, with its time measured. LOAD_POLICY names its policy (else the bundled one), LOAD_DIRECTORY where it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns

from crawlguard import Decision, Guard
from crawlguard.request import RequestView

DIRECTORY = Path(os.environ["LOAD_DIRECTORY"])
FILE = os.urandom(256 << 10)
"""What the sites give for a download."""


class Metered(Guard):
    """A guard that adds up the CPU time (ns) of its decisions, and of what it notes of responses. The first decisions open tables."""

    spent, decisions = 0, -50

    def decide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        began = thread_time_ns()
        decision = super().decide(view, locate)
        self._spend(began)
        self.decisions += 1
        return decision

    def responded(self, view: RequestView, status: int, size: int) -> None:
        began = thread_time_ns()
        super().responded(view, status, size)
        self._spend(began)

    def _spend(self, began: int) -> None:
        if self.decisions >= 0:
            self.spent += thread_time_ns() - began

    def write(self) -> None:
        """Write down what was measured: when the worker ends."""
        meter = {"spent": self.spent, "decisions": self.decisions}
        (DIRECTORY / f"meter-{os.getpid()}.json").write_text(json.dumps(meter), "utf-8")


def metered() -> Metered:
    """The guard of a worker. The locust clients play the reverse proxy: each names its client's address in X-Forwarded-For."""
    return Metered(os.environ.get("LOAD_POLICY"), trusted_proxies=["127.0.0.1"], log=DIRECTORY / "decisions.log")
