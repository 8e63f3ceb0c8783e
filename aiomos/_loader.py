"""Finds the app that a command line names: ``module:app``, ``path/to/file.py:name``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from aiomos._app import App, as_app
from aiomos._engine.errors import AiomosError, AppError
from aiomos._freshcode import FromSource, compile_always, is_beside


def load_app(spec: str) -> App:
    """The app that ``MODULE_OR_FILE[:NAME]`` names.

    Without NAME: the variable ``app``, else the only App in the module, else a coroutine
    function ``handler``.

    Raises:
        AppError: it cannot be found or imported, or is no app; one line.
    """
    return _load(spec, again=False)


def _load(spec: str, again: bool) -> App:
    place, _, name = spec.partition(":")
    module = _import(place, again)
    found = _named(module, place, name) if name else _obvious(module, place)
    try:
        return as_app(found)
    except AppError as error:
        raise AppError(f"{place}: {error}") from None


def load_again(spec: str) -> App:
    """The same app from its present sources: its module and those beside it are read afresh.

    They are compiled, too, now and when they are imported later. What was imported before stays
    with those who use it. Where this raises, modules are as they were.

    Raises:
        AppError: as load_app().
    """
    before = dict(sys.modules)
    folder = _folder(spec.partition(":")[0])
    for name in _beside(folder):
        del sys.modules[name]
    importlib.invalidate_caches()
    compile_always(folder)
    try:
        return _load(spec, again=True)
    except BaseException:
        sys.modules.update(before)
        raise


def _folder(place: str) -> Path:
    """The app's own."""
    path = Path(place)
    return path.resolve().parent if path.is_file() else Path.cwd()


def _beside(folder: Path) -> list[str]:
    """Modules that were read from there, or from below it."""
    found = []
    for name, module in sys.modules.items():
        source = Path(getattr(module, "__file__", None) or "/")
        if name != "__main__" and is_beside(source, folder) and not _is_own(name):
            found.append(name)
    return found


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == __name__.partition(".")[0]


def _import(place: str, again: bool) -> ModuleType:
    path = Path(place)
    is_file = path.suffix == ".py" or path.is_file()
    if is_file and not path.is_file():
        raise AppError(f"cannot import {place}: no such file")
    try:
        return _import_file(path, again) if is_file else _import_module(place)
    except AiomosError as error:
        raise AppError(f"cannot import {place}: {error}") from error
    except (Exception, SystemExit) as error:
        raise AppError(f"cannot import {place}: {_why(error)}") from error


def _import_file(path: Path, again: bool) -> ModuleType:
    loader = FromSource(path.stem, str(path)) if again else None
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _why(error: BaseException) -> str:
    """The exception and the line of the user's code that raised it."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} (line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    own = Path(__file__).name
    if frames and Path(frames[-1].filename).name == own:
        where = ""
    return f"{type(error).__name__}: {error}{where}"


def _named(module: ModuleType, place: str, name: str) -> object:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise AppError(f"{place} has no {name!r}")
        found = getattr(found, part)
    return found


def _obvious(module: ModuleType, place: str) -> object:
    if isinstance(getattr(module, "app", None), App):
        return module.app
    apps = [value for value in vars(module).values() if isinstance(value, App)]
    if len(apps) == 1:
        return apps[0]
    if hasattr(module, "handler"):
        return module.handler
    if apps:
        raise AppError(f"{place} has {len(apps)} apps: say which, as {place}:NAME")
    raise AppError(f"{place} has no app: define 'app = aiomos.App()' or name one as {place}:NAME")
