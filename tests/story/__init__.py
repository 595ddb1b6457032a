"""The whole story on one machine: a site behind nginx, real visitors of every kind, and what the analyzer makes of the log.

``python -m tests.story --keep DIR`` leaves ``access.log`` and ``who.json`` (address -> who it really was) in DIR.

Every visitor comes from a loopback address of its own; 127.0.0.0/8 has 65,536 networks of /24 for them. The programs are the real ones.
People's browsers click links as people do, but do not stop to read: the log spans seconds, where a site's spans weeks. It is left as
nginx wrote it.
"""

from __future__ import annotations

from pathlib import Path

from .server import free_port, nginx
from .site import build
from .visitors import ALL, visit


def collect(directory: Path) -> Path:
    """Build the site, let everybody visit it, and name the access log."""
    build(directory / "site")
    (directory / "visitors").mkdir()
    port = free_port()
    with nginx(directory / "nginx", directory / "site", port) as log:
        visit(port, directory / "visitors")
    return log


def who() -> dict[str, dict[str, str]]:
    """Each address, and who really comes from there: ``name`` and ``class`` (in the words of the analyzer)."""
    return {address: {"name": visitor.name, "class": visitor.kind} for visitor in ALL for address in visitor.addresses}
