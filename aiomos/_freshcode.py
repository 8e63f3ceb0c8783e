"""Modules of one folder from their sources alone, whatever byte code lies beside them.

Byte code is believed by a source's size and the second of its last change: an edit within that
second, which leaves the size as it was, goes unseen. For who edits and reloads that is the new code
not running.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType


def is_beside(source: Path, folder: Path) -> bool:
    """Whether a file is of the folder or below it, and of no package installed there."""
    installed = {"site-packages", "dist-packages"} & set(source.parts)
    return source.is_relative_to(folder) and not installed


class FromSource(SourceFileLoader):
    """Compiles, always; the byte code that it leaves is that of the source it compiled."""

    def get_data(self, path: str) -> bytes:
        if path.endswith(tuple(BYTECODE_SUFFIXES)):
            raise FileNotFoundError(path)
        return super().get_data(path)


class _Finder:
    """Finds the modules of some folders, for FromSource to load."""

    def __init__(self) -> None:
        self.folders: set[Path] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        source = spec.loader.path
        if not any(is_beside(Path(source).resolve(), folder) for folder in self.folders):
            return None
        spec.loader = FromSource(name, source)
        return spec


_finder = _Finder()


def compile_always(folder: Path) -> None:
    """From here on the folder's modules are compiled when they are imported."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.folders.add(folder)
