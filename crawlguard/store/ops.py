"""What is sent to a server that many hosts count on: operations on one key each."""

from __future__ import annotations

Op = tuple[str, tuple[int, ...]]
"""A key, with its hash tag in braces (a Cluster keeps what shares a tag together), and the numbers that the script reads for it."""
