"""Logs in object stores and on web servers, read by polars: lazily, in batches, with credentials and settings from the environment.

polars gives text, so what was no UTF-8 arrives as U+FFFD; a row would show it like that anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from crawlguard.errors import DataError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl", "https", "http", "hf")
_URL = re.compile(rf"({'|'.join(SCHEMES)})://[^\s]+")
_CURE = "see whether it is there and the credentials are in the environment"
_WHOLE = "Range request not supported"
"""What polars says of a web server that knows no range requests (RFC 9110, 14)."""
BATCH = 20_000
"""Lines that polars hands over at once, some megabytes."""


def is_remote(name: str) -> bool:
    """Whether this names something that polars fetches."""
    return _URL.fullmatch(name) is not None


def is_many(name: str) -> bool:
    """Whether it names more than one object."""
    return name.endswith("/") or (not name.startswith("http") and any(sign in name for sign in "*?["))


def blocks(url: str, skip: int = 0, most: int | None = None) -> Iterator[bytes]:
    """The lines of it, each with its line end, from the ``skip``-th on. Raises DataError, with what the store said."""
    found = f"{url}*" if url.endswith("/") and not url.startswith("http") else url  # polars would have one extension in a directory
    with _told(url):
        scan = pl.scan_csv(
            found, has_header=False, separator="\n", quote_char=None, schema={"line": pl.String}, encoding="utf8-lossy",
            storage_options={"max_retries": 3},
        )  # fmt: skip
        for batch in scan.slice(skip, most).collect_batches(chunk_size=BATCH, maintain_order=True, lazy=True):
            yield "\n".join([*batch["line"].fill_null("").to_list(), ""]).encode()


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        words = " ".join(str(error).split("<", 1)[0].split())[:300]  # less the page that some servers send with an error
        cure = f"its server sends no parts of files; read it by a pipe: curl '{url}' | crawlguard ... -" if _WHOLE in words else _CURE
        raise DataError(f"{url}: cannot be read ({words}); {cure}") from None
