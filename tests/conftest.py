"""What all tests share: a state directory of their own, and the data that lies beside the repository."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Corpora and databases for tests; SOURCES.md there says where each comes from."""

# Set before anything of crawlguard is asked for a directory, and inherited by every server that a test starts.
os.environ["CRAWLGUARD_STATE_DIR"] = tempfile.mkdtemp(prefix="crawlguard-tests-")
os.environ["CRAWLGUARD_DATA_DIR"] = os.path.join(
    os.environ["CRAWLGUARD_STATE_DIR"], "data"
)  # what this host has fetched is no part of a test
