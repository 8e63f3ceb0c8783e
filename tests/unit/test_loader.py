"""Finding the app that a command line names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import aiomos
from aiomos._loader import load_again, load_app

ONE = "import aiomos\napp = aiomos.App()\n"


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    """Modules that a test imports are forgotten; the working folder is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(tmp_path, text, name="loaded.py"):
    (tmp_path / name).write_text(text)
    return name


def test_file_without_a_name_gives_its_app(tmp_path):
    write(tmp_path, ONE)
    assert isinstance(load_app("loaded.py"), aiomos.App)
    assert isinstance(load_app(str(tmp_path / "loaded.py")), aiomos.App)


def test_module_is_found_in_the_working_folder(tmp_path):
    write(tmp_path, ONE)
    assert load_app("loaded:app") is load_app("loaded")


def test_only_app_is_found_whatever_its_name(tmp_path):
    write(tmp_path, "import aiomos\nmine = aiomos.App()\n")
    assert isinstance(load_app("loaded.py"), aiomos.App)


def test_coroutine_function_handler_is_an_app(tmp_path):
    write(tmp_path, "async def handler(flow): pass\n")
    assert len(load_app("loaded.py").flow_rules) == 1


def test_name_may_have_dots(tmp_path):
    write(tmp_path, "import aiomos\nclass Space:\n    inner = aiomos.App()\n")
    assert isinstance(load_app("loaded.py:Space.inner"), aiomos.App)


def test_file_may_import_its_neighbour(tmp_path):
    write(tmp_path, "value = 1\n", "neighbour.py")
    write(tmp_path, "import neighbour\n" + ONE)
    assert isinstance(load_app("loaded.py"), aiomos.App)


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("x = 1\n", "loaded.py", "has no app"),
        (ONE, "loaded.py:other", "has no 'other'"),
        (ONE + "other = aiomos.App()\ndel app\nthird = aiomos.App()\n", "loaded.py", "2 apps"),
        ("x = 1\n", "loaded.py:x", "neither"),
        ("def handler(flow): pass\n", "loaded.py", "neither"),
        ("1 +\n", "loaded.py", r"invalid syntax \(line 1\)"),
        ("\n\nx = y\n", "loaded.py", r"NameError: .* \(line 3 of loaded.py\)"),
        ("raise SystemExit(3)\n", "loaded.py", "SystemExit: 3"),
        ("", "absent.py", "no such file"),
        ("", "no_such_module_at_all", "no_such_module_at_all"),
        ("", "", "cannot import"),
    ],
)
def test_what_is_no_app_is_told_in_one_line_that_names_it(tmp_path, text, spec, said):
    write(tmp_path, text)
    with pytest.raises(aiomos.AppError, match=said) as caught:
        load_app(spec)
    assert "\n" not in str(caught.value)
    assert spec.partition(":")[0] in str(caught.value)


# ---- again -----------------------------------------------------------------------------------


def test_app_loaded_again_is_that_of_its_present_sources(tmp_path):
    write(tmp_path, "value = 1\n", "neighbour.py")
    write(tmp_path, "import neighbour\n" + ONE + "value = neighbour.value\n")
    first = load_app("loaded.py")
    old = sys.modules["loaded"]
    write(tmp_path, "value = 'changed'\n", "neighbour.py")
    second = load_again("loaded.py")
    assert second is not first
    assert (old.value, sys.modules["loaded"].value) == (1, "changed")


def write_unnoticed(tmp_path, text, name="loaded.py"):
    """As an edit within the second of the last one: neither size nor time tell of it."""
    path = tmp_path / name
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("spec", ["loaded.py", "loaded"])
@pytest.mark.parametrize("edited", ["loaded", "neighbour", "late"])
def test_edit_that_neither_size_nor_time_tell_of_is_loaded(tmp_path, edited, spec):
    for name in ("neighbour", "late"):
        write(tmp_path, "value = 1\n", f"{name}.py")
    text = "import neighbour\ndef late():\n    import late\n    return late.value\nvalue = 1\n"
    write(tmp_path, text + ONE)
    load_app(spec)
    assert sys.modules["loaded"].late() == 1
    text = (tmp_path / f"{edited}.py").read_text()
    write_unnoticed(tmp_path, text.replace("value = 1", "value = 2"), f"{edited}.py")
    load_again(spec)
    loaded = sys.modules["loaded"]
    found = {"loaded": loaded.value, "neighbour": loaded.neighbour.value, "late": loaded.late()}
    assert found == {name: 2 if name == edited else 1 for name in found}


def test_byte_code_left_by_a_reload_is_that_of_the_new_source(tmp_path):
    """A worker that is started again loads what the others run."""
    write(tmp_path, "value = 1\n" + ONE)
    load_app("loaded.py")
    write_unnoticed(tmp_path, "value = 2\n" + ONE)
    load_again("loaded.py")
    told = "import loaded; print(loaded.value)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr


@pytest.mark.parametrize("broken", ["1 +\n", "raise SystemExit(3)\n", "x = 1\n"])
def test_app_that_cannot_be_loaded_again_leaves_modules_as_they_were(tmp_path, broken):
    write(tmp_path, "value = 1\n", "neighbour.py")
    write(tmp_path, "import neighbour\n" + ONE)
    load_app("loaded.py")
    before = dict(sys.modules)
    write(tmp_path, "import neighbour\n" + broken)
    with pytest.raises(aiomos.AppError):
        load_again("loaded.py")
    assert {name: sys.modules[name] for name in before} == before
    write(tmp_path, ONE + "again = True\n")
    load_again("loaded.py")
    assert sys.modules["loaded"].again
