"""The command line: collects a log, and leaves it for a look."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import Story, who


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect a log into the directory that ``--keep`` names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.story", description="Send real visitors to a site behind nginx, and keep its log."
    )
    parser.add_argument("--keep", type=Path, required=True, metavar="DIR", help="where access.log and who.json go")
    options = parser.parse_args(arguments)
    options.keep.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crawlguard-story-") as made, Story(Path(made)) as story:
        log = story.unguarded().read_bytes()
    (options.keep / "access.log").write_bytes(log)
    (options.keep / "who.json").write_text(json.dumps(who(), indent=1))
    print(f"{options.keep}: {len(log.splitlines()):,} lines in {time.monotonic() - began:.0f} s")
    return 0


raise SystemExit(main())
