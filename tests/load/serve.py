"""uvicorn with two workers for the load test:   python -m tests.load.serve PORT

As ``uvicorn --workers 2`` does it, but for one socket option: the socket that uvicorn binds for its workers leaves Nagle's algorithm
on, and every second request of a connection then waits 40 ms for the client's delayed ACK (uvicorn issue 3149). Times measured
with that in them say nothing about the guard.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

_bind = uvicorn.Config.bind_socket


def _bind_without_nagle(self: uvicorn.Config) -> socket.socket:
    listener = _bind(self)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
    return listener


if __name__ == "__main__":
    uvicorn.Config.bind_socket = _bind_without_nagle  # type: ignore[method-assign]
    # The guard walks X-Forwarded-For itself: without proxy_headers=False uvicorn would have done so before it.
    uvicorn.run("tests.load.site:app", port=int(sys.argv[1]), workers=2, proxy_headers=False, access_log=False, log_level="warning")
