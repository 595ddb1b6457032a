"""The loggers ``crawlguard`` and ``crawlguard.decisions``. ``logging`` is loaded with the first word: most commands end before they say one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), attribute)


own = cast("Logger", _Later("crawlguard"))
decisions = cast("Logger", _Later("crawlguard.decisions"))
