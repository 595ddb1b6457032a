"""What a Django response costs whoever asked for it: told to the guard at once where its length is known, else when it has been sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ..guard import Guard
from ..request import RequestView

OWED = "_crawlguard_owed"
"""The request's attribute for the view whose response is to be charged."""


def charge(guard: Guard, view: RequestView, response: Any) -> None:
    """Charge a response. A stream of unknown length is counted as it goes by; a file that the server sends itself, by its Content-Length."""
    announced = response.headers.get("Content-Length", "")
    if view.method == "HEAD":
        guard.responded(view, response.status_code, 0)
    elif not response.streaming:
        guard.responded(view, response.status_code, len(response.content))
    elif announced.isdigit() or getattr(response, "file_to_stream", None) is not None:
        guard.responded(view, response.status_code, int(announced) if announced.isdigit() else 0)
    elif response.is_async:
        response.streaming_content = _acounted(guard, view, response.status_code, response.streaming_content)
    else:
        response.streaming_content = _counted(guard, view, response.status_code, response.streaming_content)


def _counted(guard: Guard, view: RequestView, status: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    try:
        for chunk in chunks:
            size += len(chunk)
            yield chunk
    finally:
        guard.responded(view, status, size)


async def _acounted(guard: Guard, view: RequestView, status: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            yield chunk
    finally:
        guard.responded(view, status, size)
