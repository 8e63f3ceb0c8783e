"""What the project promises about itself: public names, stubs, documents, the list of changes."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import aiomos
from aiomos import cli

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aiomos"
ENGINE = PACKAGE / "_engine"
#: Folders in which somebody works: each says who owns what in it.
FOLDERS = (
    *("aiomos", "aiomos/_engine", "dpdk_shim"),
    *("tests", "benchmarks", "examples", "docs", "scripts"),
)


#: What is imported when somebody asks for it.
LATER = {"open_interface"}


def test_public_names_are_listed_in_order_and_are_all_that_is_public() -> None:
    assert aiomos.__all__ == sorted(aiomos.__all__)
    public = {n for n, value in vars(aiomos).items() if n[0] != "_" and not is_module(value)}
    assert public | LATER == set(aiomos.__all__)


def is_module(value: object) -> bool:
    return isinstance(value, ModuleType)


@pytest.mark.parametrize("name", aiomos.__all__)
def test_public_name_is_documented(name: str) -> None:
    thing = getattr(aiomos, name)
    assert own_doc(thing), f"aiomos.{name} has no docstring"
    undocumented = [n for n in public_methods(thing) if not inspect.getdoc(getattr(thing, n))]
    assert undocumented == []


def own_doc(thing: object) -> str | None:
    """The docstring that stands there, not that of a base class."""
    return vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__


def public_methods(thing: object) -> list[str]:
    """Methods and properties of a class, inherited from within aiomos or its own."""
    if not isinstance(thing, type):
        return []
    ours = [c for c in thing.__mro__ if c.__module__.startswith("aiomos")]
    names = {n for c in ours for n in vars(c) if not n.startswith("_")}
    return sorted(n for n in names if is_behaviour(inspect.getattr_static(thing, n)))


def is_behaviour(member: object) -> bool:
    return inspect.isroutine(member) and not inspect.ismemberdescriptor(member)


# ---- stubs -------------------------------------------------------------------------------------


def cython_modules_in_use() -> list[str]:
    """Cython modules that the Python side imports, so that users and mypy meet them."""
    names: set[str] = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiomos._eng"):
                names.add(str(node.module).rpartition(".")[2])
    return sorted(name for name in names if (ENGINE / f"{name}.pyx").exists())


@pytest.mark.parametrize("name", cython_modules_in_use())
def test_cython_module_that_python_imports_has_a_stub(name: str) -> None:
    assert (ENGINE / f"{name}.pyi").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in ENGINE.glob("*.pyi")))
def test_stub_names_nothing_that_is_not_there(name: str) -> None:
    module = importlib.import_module(f"aiomos._engine.{name}")
    stub = ast.parse((ENGINE / f"{name}.pyi").read_text())
    assert [n for n in declared(stub) if not reachable(module, n)] == []


def declared(stub: ast.Module) -> Iterator[str]:
    """Public functions, classes and methods of a stub, dotted."""
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node.name
            if isinstance(node, ast.ClassDef) and not is_typing_only(node):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield f"{node.name}.{member.name}"


def is_typing_only(node: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def reachable(module: ModuleType, dotted: str) -> bool:
    try:
        functools.reduce(getattr, dotted.split("."), module)
    except AttributeError:
        class_name = dotted.split(".")[0]
        return class_name in protocols_of(module)
    return True


def protocols_of(module: ModuleType) -> set[str]:
    """Classes that exist only for type checkers."""
    assert module.__name__.startswith("aiomos._engine.")
    stub = ast.parse((ENGINE / f"{module.__name__.rpartition('.')[2]}.pyi").read_text())
    return {n.name for n in stub.body if isinstance(n, ast.ClassDef) and is_typing_only(n)}


@pytest.mark.parametrize("folder", [PACKAGE, ENGINE], ids=lambda p: p.name)
def test_build_installs_every_source_that_python_needs(folder: Path) -> None:
    names = [p.name for p in folder.iterdir() if p.suffix in (".py", ".typed")]
    modules = [p.stem for p in folder.iterdir() if p.suffix in (".pyx", ".pyi")]
    build = re.sub(r"#.*", "", (folder / "meson.build").read_text())
    listed = re.findall(r"'([^']*)'", build)
    assert sorted({*names, *modules} - set(listed)) == []


# ---- version and list of changes ---------------------------------------------------------------


def project_version() -> str:
    found = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())
    assert found is not None
    return found[1]


def test_version_is_the_same_everywhere() -> None:
    assert aiomos.__version__ == project_version()


def test_version_has_an_entry_in_the_list_of_changes() -> None:
    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project_version() in entries


# ---- documents ---------------------------------------------------------------------------------


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    return [path for path in tracked_files() if path.suffix == ".md"]


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Files that belong to the project: what git knows, or else all but hidden and built ones."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode == 0:
            names = filter(None, done.stdout.decode().split("\0"))
            return tuple(p for p in map(ROOT.joinpath, names) if p.is_file())
    left_out = re.compile(r"^\.(?!ci|clang|editor|git|pre)|^build|_cache$|^__pycache__$|^_build$")
    return tuple(
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(left_out.search(part) for part in path.relative_to(ROOT).parts)
    )


def code_of(text: str) -> list[str]:
    """Lines of fenced blocks, and inline code, of a document."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", rest)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def mistakes_in(line: str) -> list[str]:
    """Commands and options in a line of shell that do not exist."""
    wrong = [f"make {t}" for t in re.findall(r"\bmake ([a-z]+)", line) if t not in make_targets()]
    found = re.match(r"(?:\$ )?aiomos ([a-z]+)(.*)", line.partition(" #")[0])
    if found is None:
        return wrong
    command = cli.main.commands.get(found[1])
    if command is None:
        return [*wrong, f"aiomos {found[1]}"]
    return wrong + [o for o in options_in(found[2]) if o not in known_options(command)]


def options_in(arguments: str) -> list[str]:
    unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", "", arguments)
    return re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", unquoted)


def known_options(command: click.Command) -> set[str]:
    return {"--help", "-h", *(o for p in command.params for o in p.opts)}


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_a_document_exist(path: Path) -> None:
    lines = code_of(path.read_text())
    assert [wrong for line in lines for wrong in mistakes_in(line)] == []


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_a_document_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text())
    assert [t for t in targets if not (path.parent / t).exists()] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("make test", []),
        ("PYTHON=python3.12 make nothing", ["make nothing"]),
        ("aiomos run app.py -r f.pcap -f 'tcp and --odd'", []),
        ("aiomos dance", ["aiomos dance"]),
        ("aiomos run app.py --unheard-of", ["--unheard-of"]),
    ],
)
def test_mistake_in_a_command_is_found(line: str, wrong: list[str]) -> None:
    assert mistakes_in(line) == wrong


def python_blocks() -> list[tuple[str, str]]:
    """(where, source) of every Python example in a document, but the cells of the notebook.

    Those go on from one another; e2e/test_notebook.py runs them.
    """
    return [
        (f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}", match[1])
        for path in documents()
        if path.name != "notebook.md" and (text := path.read_text())
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize(("where", "source"), python_blocks())
def test_python_example_in_a_document_declares_a_valid_app(where: str, source: str) -> None:
    code = compile(source, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        return  # it runs something: that it compiles is all we ask
    exec(code, {"__name__": "example", "aiomos": aiomos, "asyncio": asyncio, "app": aiomos.App()})


def test_first_example_of_the_readme_logs_requests(tmp_path: Path, captures: Path) -> None:
    example = tmp_path / "app.py"
    example.write_text(next(source for where, source in python_blocks() if "README" in where))
    command = [sys.executable, "-m", "aiomos.cli", "run", str(example)]
    done = subprocess.run(
        [*command, "-r", captures / "http_demo.pcap"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines
    assert all(line.endswith(" HTTP/1.1") for line in lines)


def test_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_says_who_owns_what_in_it(folder: str) -> None:
    assert (ROOT / folder / "dev_notes.md").exists()


#: Where a path of one machine begins; in pieces, or this file would hold one.
MACHINE_FOLDERS = "|".join(("work", "root", "home/[a-z]", "Users"))
MACHINE_PATH = re.compile(rf"(?<![\w.])/(?:{MACHINE_FOLDERS})/")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if (match := MACHINE_PATH.search(path.read_bytes().decode("utf-8", "ignore")))
        and b"\0" not in path.read_bytes()
    ]
    assert found == []


def test_supported_versions_of_python_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {lowest}" in project["classifiers"]
