"""A threaded WSGI server of the standard library, for Windows, where gunicorn does not run:

python -m crawlguard.demo.threads PORT
"""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # the flood opens many connections at once


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """No access log: the decision log tells what the demo wants to know."""

    def address_string(self) -> str:
        return str(self.client_address[0])  # without asking the DNS for a name


def main(port: int) -> None:
    """Serve the Flask site on a loopback port until the process is ended."""
    from .apps import flask_site

    with _Server(("127.0.0.1", port), _Quiet) as server:
        server.set_app(flask_site())
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
