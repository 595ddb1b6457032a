"""A little object store on loopback, as far as polars asks one: S3's PUT, GET with ranges, HEAD and ListObjectsV2, without checking signatures.

Google's store is asked by the same calls (its XML API).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class ObjectStore:
    """``objects``: content by bucket and key (``bucket/key``). ``asked``: method and path of each request. ``options``: what polars needs to find it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                store._get(self)

            def do_HEAD(self) -> None:
                store._get(self)

            def do_PUT(self) -> None:
                store.objects[_key(self)] = self.rfile.read(int(self.headers["Content-Length"]))
                _answer(self, 200, b"")

            def log_message(self, *args: object) -> None:
                store.asked.append((self.command, self.path))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def options(self) -> dict[str, str]:
        return {
            "aws_endpoint_url": self.url,
            "aws_allow_http": "true",
            "aws_access_key_id": "nobody",
            "aws_secret_access_key": "none",
            "aws_region": "local",
        }

    def environment(self, directory: Path) -> dict[str, str]:
        """The same as environment variables, also for gs://."""
        account = directory / "account.json"
        account.write_text(
            json.dumps({"gcs_base_url": self.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})
        )
        return {**{name.upper(): value for name, value in self.options.items()}, "GOOGLE_SERVICE_ACCOUNT": str(account)}

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        asked = parse_qs(urlsplit(request.path).query)
        if "list-type" in asked:
            return _answer(request, 200, self._listed(_key(request).strip("/"), asked.get("prefix", [""])[0]).encode())
        content = self.objects.get(_key(request))
        if content is None:
            return _answer(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        part = request.headers.get("Range", "").removeprefix("bytes=")
        if not part:
            return _answer(request, 200, content)
        first, last = part.split("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(int(last) + 1, len(content)) if first and last else len(content)
        return _answer(request, 206, content[start:stop], f"bytes {start}-{stop - 1}/{len(content)}")

    def _listed(self, bucket: str, prefix: str) -> str:
        keys = [name.removeprefix(f"{bucket}/") for name in sorted(self.objects) if name.startswith(f"{bucket}/{prefix}")]
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[f'{bucket}/{key}'])}</Size>"
            '<LastModified>2026-11-26T00:00:00.000Z</LastModified><ETag>"e"</ETag></Contents>'
            for key in keys
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>{len(keys)}</KeyCount>{found}</ListBucketResult>"


def _key(request: BaseHTTPRequestHandler) -> str:
    return unquote(urlsplit(request.path).path).lstrip("/")


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes, content_range: str = "") -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("ETag", '"e"')
    request.send_header("Last-Modified", "Thu, 26 Nov 2026 00:00:00 GMT")
    if content_range:
        request.send_header("Content-Range", content_range)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    store = ObjectStore()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
        thread.join()
