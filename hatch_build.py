"""Puts the compiled catalogue into the wheel, so that an installed crawlguard never parses it from YAML."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CatalogueHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles ``rules/`` while a wheel is built; an editable install reads the YAML itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from crawlguard.catalogue import compile_catalogue

        self._made = tempfile.TemporaryDirectory()
        compile_catalogue(Path(self._made.name))
        for path in Path(self._made.name).iterdir():
            build_data["force_include"][str(path)] = f"crawlguard/_rules/{path.name}"
