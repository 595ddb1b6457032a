"""Memory that Python has freed goes back to the system, where the C library can do that; and nothing happens where it cannot."""

from __future__ import annotations

import platform
import subprocess
import sys

from crawlguard_analyzer.trim import _glibc, give_back

FREED = """
from pathlib import Path
from threading import Thread
from crawlguard_analyzer.trim import give_back, share

def resident():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")).split()[1])

def work(last):
    last.append([bytes(100_000) for _ in range(1000)][-1])  # it lies above all others and stays

share()
last = []
for thread in [Thread(target=work, args=(last,)) for _ in range(2)]:
    thread.start()
    thread.join()
before = resident()
give_back()
print(before - resident())
"""


def test_what_threads_have_freed_goes_back() -> None:
    given = int(subprocess.run([sys.executable, "-c", FREED], capture_output=True, check=True).stdout)
    if platform.libc_ver()[0] == "glibc":  # others have nothing of the kind, and run through all the same
        assert given > 50_000, "KiB of the 100,000 at least that one of the threads had"


def test_another_library_is_left_alone() -> None:
    _glibc("no_such_function", 0)
    give_back()
