"""Who may know whom: DESIGN.md section 1, read from the sources and held here.

The table below is the rule. A module imports from lower layers and from its own, never from a
higher one and never in a circle. A new module fails the test until it has its place here.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aiomos"
SHIM = ROOT / "dpdk_shim"

#: From the lowest to the highest. In `BRIDGE` Python objects and asyncio begin.
ENGINE_LAYERS: dict[str, str] = {
    "leaves": "seq overlap be checksum walk limits intrinsics newobject shim bpf dpdk flowprobe errors names"
    " options dpdkconfig dpdkfacts",
    "storage": "links tunnels udptunnels wire usual tcpopt pool stream flow flowstats timers flowkey clock"
    " filtertext filterproof rss",
    "tables": "flowscope extra flowtable assembler targets defrag copies sums filters events workers",
    "protocol": "state stats life icmp strays shed fragments admit repeats delivery receive urgent"
    " signatures checks closing offers direction handshake tcp udp share flowfilters",
    "core": "core",
    "bridge": "source writer rings interface _dpdk ledger handover distributor probe taskface taskqueue task reading deadline packet statsview handler facts endpoint flowview"
    " faults packethooks overlimit feed eventmake eventqueue eventrun subscription eventbridge roster pump",
    "test hooks": "_testframes _teststorage _teststreams _testcore _resume _check _fuzzheaders _fuzzframes _fuzz",
}
#: What users read.
PYTHON_LAYERS: dict[str, str] = {
    "vocabulary": "_verdicts events _options _tunnel _kinds _functions",
    "objects": "_stats _community_id _separators _reader _endpoint _eventstream _messages _scope"
    " _flow _packet _summary _progress rss",
    "protocol readers": "_optional _streaming _httphead _httpbody _httpmessage _httppair http"
    " _tlsfingerprint _tlshello tls dns ssh",
    "declarations": "_rules _app _mount _inflight _replay_loop",
    "runner": "_collector _reports _stalls _live _generations _drivers _pumprules _runner _ownloop _freshcode _loader flows",
    "processes": "_launch _linkwatch _control _metrics _remains _output _reloading _sources _statsocket _statsview _worker _dpdkplace _distributor _dpdkports _tallies _openfiles _workerprocess _supervisor _deployment",
    "machine": "_machine_files _netlink _ethtool _machine_cpu _machine_memory _machine_pci"
    " _machine_dpdk _machine_rights _machine_net _machine",
    "judgement": "_findings _doctor_rights _doctor_host _doctor_tap _doctor_xdp _doctor_pci"
    " _doctor_dpdk _doctor_workers doctor devices _doctor_show",
    "public names": "__init__",
    "command line": "_command _clioptions cli __main__",
    "testing": "testing.frames testing._ends testing._impair testing._result testing._script"
    " testing._tcp testing._udp testing._traffic testing._observed testing._run testing._stepped"
    " testing._leaks testing.__init__ testing.plugin",
}
BRIDGE = "bridge"
FOR_TESTS = ("aiomos.testing", "aiomos._engine._test")

#: What would bring a loop, a clock, a socket or a thread below the bridge.
NOT_BELOW_THE_BRIDGE = {
    *("asyncio", "uvloop", "selectors", "socket", "threading", "time", "signal"),
    *("concurrent", "multiprocessing", "subprocess"),
}

#: One .pxd names the symbols of a foreign library, by its header.
HEADER_OWNERS = {"shim.h": "shim.pxd", "pcap/pcap.h": "bpf.pxd", "dpdk.h": "dpdk.pxd"}
#: Headers that anybody may name: the C library's, the compiler's and CPython's.
COMMON_HEADERS = {"Python.h", "stdint.h", "stdio.h", "stdlib.h", "string.h", "sys/mman.h"} | {
    "immintrin.h"
}

#: Which extension modules may link a library; what is in no list here, none may.
LIBRARY_USERS = {"libpcap": {"filters", "flowfilters"}, "librte_": {"_dpdk"}}
COMMON_LIBRARIES = ("libc.", "ld-linux", "libm.", "libpthread.", "libz.", "libgcc_s.")

Graph = Mapping[str, set[str]]


# ---- the rule ----------------------------------------------------------------------------------


def ranks() -> dict[str, int]:
    """Every module of the table with the height of its layer."""
    engine = [[f"aiomos._engine.{n}" for n in names.split()] for names in ENGINE_LAYERS.values()]
    python = [[f"aiomos.{n}" for n in names.split()] for names in PYTHON_LAYERS.values()]
    layers = [["aiomos._engine"], *engine, *python]
    return {
        name.removesuffix(".__init__"): height
        for height, names in enumerate(layers)
        for name in names
    }


def turned_back(graph: Graph, rank: Mapping[str, int]) -> list[str]:
    """Every import that the table does not allow, in words; [] when all is well."""
    unplaced = sorted(graph.keys() - rank.keys())
    if unplaced:
        return [f"{name} has no layer" for name in unplaced]
    upwards = [
        f"{name} imports {other}, which is above it"
        for name in sorted(graph)
        for other in sorted(graph[name] & rank.keys())
        if rank[other] > rank[name]
    ]
    strangers = [
        f"{name} imports {other}, which has no layer"
        for name in sorted(graph)
        for other in sorted(graph[name] - rank.keys())
        if other.split(".")[0] == "aiomos"
    ]
    return upwards + strangers + circles(graph)


def circles(graph: Graph) -> list[str]:
    """The first circle of imports, if there is one."""
    try:
        TopologicalSorter({n: graph[n] & graph.keys() for n in graph}).prepare()
    except CycleError as error:
        return ["imports in a circle: " + " <- ".join(error.args[1])]
    return []


def below_the_bridge() -> set[str]:
    """Modules of the engine that must not know of loops, clocks and sockets."""
    lower = itertools.takewhile(lambda layer: layer != BRIDGE, ENGINE_LAYERS)
    return {f"aiomos._engine.{n}" for layer in lower for n in ENGINE_LAYERS[layer].split()}


# ---- reading the sources -----------------------------------------------------------------------

_TEXTS = re.compile(r'("""|\'\'\')(?:.|\n)*?\1')
_COMMENTS = re.compile(r"#.*")
_FROM = re.compile(
    r"^[ \t]*from[ \t]+([.\w]+)[ \t]+c?import[ \t]*(?:\(([^)]*)\)|([^\n;]+))", re.MULTILINE
)
_PLAIN = re.compile(r"^[ \t]*c?import[ \t]+([^\n;]+)", re.MULTILINE)
_EXTERN = re.compile(r"cdef\s+extern\s+from\s+[\"']<?([^\"'>]+)>?[\"']")
_INCLUDE = re.compile(r"^\s*#\s*include\s*[<\"]([^>\"]+)[>\"]", re.MULTILINE)


def module_name(path: Path, root: Path = ROOT) -> str:
    """aiomos/_engine/wire.pyx -> aiomos._engine.wire."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def cython_imports(text: str, package: str) -> set[str]:
    """What a .pyx or .pxd imports or cimports, at any depth, absolute; with names taken from it."""
    text = _COMMENTS.sub("", _TEXTS.sub("", text))
    found: set[str] = set()
    for match in _FROM.finditer(text):
        base = absolute(match[1], package)
        found |= {base, *(f"{base}.{name}" for name in taken(match[2] or match[3]))}
    for match in _PLAIN.finditer(text):
        found.update(taken(match[1]))
    return found


def taken(names: str) -> list[str]:
    """The names in ``a, b as c``."""
    return [name.split()[0] for name in names.replace("\\", " ").split(",") if name.strip()]


def absolute(name: str, package: str) -> str:
    """``.wire`` in aiomos._engine -> aiomos._engine.wire."""
    dots = len(name) - len(name.lstrip("."))
    if dots == 0:
        return name
    parents = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join([*parents, *filter(None, [name.lstrip(".")])])


def python_imports(text: str, package: str) -> set[str]:
    """The same for Python."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def imports_of(path: Path) -> set[str]:
    """Everything that a file imports."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    read = python_imports if path.suffix == ".py" else cython_imports
    return read(path.read_text(), package)


def for_types_only(path: Path, module: str) -> bool:
    """Whether a Python file imports a module for its annotations, and not when it runs."""
    if path.suffix != ".py":
        return False
    tree = ast.parse(path.read_text())
    blocks = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    tree.body = [node for node in tree.body if node not in blocks]
    return module not in python_imports(ast.unparse(tree), "aiomos")


def sources() -> list[Path]:
    """The package's own sources; stubs say nothing about who needs whom."""
    return sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyx", ".pxd"))


def everything_imported() -> dict[str, set[str]]:
    """Module -> all that it imports, a .pyx and its .pxd taken together."""
    graph: dict[str, set[str]] = {}
    for path in sources():
        graph.setdefault(module_name(path), set()).update(imports_of(path))
    return graph


def own_graph(imported: Graph) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports.

    ``from aiomos._engine import names`` needs names, not what else is in that package.
    """
    modules = imported.keys()
    graph: dict[str, set[str]] = {}
    for name, others in imported.items():
        needs = {o for o in others if o in modules and o != name}
        packages = {o.rpartition(".")[0] for o in needs}
        graph[name] = {o for o in needs if o not in packages}
    return graph


# ---- tests of the sources ----------------------------------------------------------------------


def test_no_import_turns_back() -> None:
    assert turned_back(own_graph(everything_imported()), ranks()) == []


def test_engine_imports_of_aiomos_stay_inside_the_engine() -> None:
    outside = [
        f"{name} imports {other}"
        for name, others in everything_imported().items()
        if name.startswith("aiomos._engine")
        for other in others
        if other.split(".")[0] == "aiomos" and not other.startswith("aiomos._engine")
    ]
    assert outside == []


def test_below_the_bridge_nothing_knows_of_loops_clocks_and_sockets() -> None:
    imported = everything_imported()
    below = below_the_bridge()
    assert below <= imported.keys()
    assert worldly(imported, below) == []


def worldly(imported: Graph, modules: Iterable[str]) -> list[str]:
    """Imports of what a pure function of frames and times does not need."""
    return [
        f"{name} imports {other}"
        for name in sorted(modules)
        for other in sorted(imported[name])
        if other.split(".")[0] in NOT_BELOW_THE_BRIDGE
    ]


def test_nothing_imports_what_is_for_tests() -> None:
    assert users_of_test_code(everything_imported()) == []


def users_of_test_code(imported: Graph) -> list[str]:
    """Modules, other than the testing kit's own, that import the kit or the test hooks."""
    return [
        f"{name} imports {other}"
        for name in sorted(imported)
        if not name.startswith(FOR_TESTS)
        for other in sorted(imported[name])
        if other.startswith(FOR_TESTS)
    ]


def test_each_foreign_library_is_named_by_one_pxd() -> None:
    misplaced = [
        f"{path.name} names {header}"
        for path in sources()
        if path.suffix != ".py"
        for header in misplaced_headers(path.name, path.read_text())
    ]
    assert misplaced == []


def misplaced_headers(file_name: str, text: str) -> list[str]:
    """Headers, also of verbatim C blocks, that this file must leave to another."""
    named = _EXTERN.findall(text) + _INCLUDE.findall(text)
    return [
        header
        for header in named
        if header not in COMMON_HEADERS and HEADER_OWNERS.get(header) != file_name
    ]


@pytest.mark.parametrize("owner", sorted(HEADER_OWNERS.values()))
def test_the_pxd_of_a_library_has_no_pyx(owner: str) -> None:
    path = PACKAGE / "_engine" / owner
    assert path.exists()
    assert not path.with_suffix(".pyx").exists(), "it only names symbols"


def test_the_shim_knows_neither_python_nor_tcp() -> None:
    files = sorted(SHIM.glob("*.[ch]"))
    assert files
    assert [f"{p.name}: {word}" for p in files for word in unknown_words(p.read_text())] == []


_C_COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def unknown_words(text: str) -> list[str]:
    """Words that the shim must do without, outside comments."""
    code = _C_COMMENTS.sub(" ", text)
    return re.findall(r"Python\.h|\bPy[A-Z_]\w*|(?i:\btcp\w*)", code)


# ---- tests of what was built -------------------------------------------------------------------


def extension_modules() -> dict[str, Path]:
    """The built modules of the engine, by name."""
    found: dict[str, Path] = {}
    for source in sorted((PACKAGE / "_engine").glob("*.pyx")):
        spec = importlib.util.find_spec(f"aiomos._engine.{source.stem}")
        if spec is not None and spec.origin is not None:
            found[source.stem] = Path(spec.origin)
    return found


def libraries_of(path: Path) -> list[str]:
    """The shared libraries that a module asks the dynamic linker for."""
    done = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout)


def linked_too_much(module: str, libraries: Iterable[str]) -> list[str]:
    """Libraries that this module may not link."""
    users = {lib: set(modules) for lib, modules in LIBRARY_USERS.items()}
    return [
        library
        for library in libraries
        if not library.startswith(COMMON_LIBRARIES)
        and not any(library.startswith(lib) and module in users[lib] for lib in users)
    ]


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) is not installed")
def test_extension_modules_link_only_their_own_libraries() -> None:
    modules = extension_modules()
    linked = {name: libraries_of(path) for name, path in modules.items()}
    optional = {"_dpdk"} - linked.keys()
    assert len(linked) + len(optional) == len(list((PACKAGE / "_engine").glob("*.pyx")))
    assert {n: over for n, libs in linked.items() if (over := linked_too_much(n, libs))} == {}
    assert any(lib.startswith("libpcap") for lib in linked["filters"]), "readelf says nothing"
    assert not linked.get("_dpdk") or any(lib.startswith("librte_") for lib in linked["_dpdk"])


def test_module_that_links_dpdk_is_imported_by_none() -> None:
    """It is loaded on demand, by its name: a machine without DPDK misses nothing else."""
    importing = [p for p in sources() if "aiomos._engine._dpdk" in imports_of(p)]
    assert [p.name for p in importing if not for_types_only(p, "aiomos._engine._dpdk")] == []


def test_dpdk_headers_are_included_behind_the_shims_own() -> None:
    """Its compiler flags stay with the few files that need them."""
    including = {p.name for p in SHIM.glob("*.[ch]") if "#include <rte_" in p.read_text()}
    apart = {p.name for p in SHIM.glob("dpdk_*")} | {"source_dpdk.c", "source_fan.c"}
    assert including <= apart
    assert "dpdk_private.h" in including


# ---- the checks can fail -----------------------------------------------------------------------

RANK = {"aiomos.low": 0, "aiomos.middle": 1, "aiomos.beside": 1, "aiomos.high": 2}


def test_downward_and_sideways_imports_are_allowed() -> None:
    graph = {
        "aiomos.low": set[str](),
        "aiomos.middle": {"aiomos.low", "aiomos.beside"},
        "aiomos.beside": {"aiomos.low"},
        "aiomos.high": {"aiomos.low"},
    }
    assert turned_back(graph, RANK) == []


def test_upward_import_is_found() -> None:
    graph = {"aiomos.low": {"aiomos.high"}, "aiomos.high": set[str]()}
    assert turned_back(graph, RANK) == ["aiomos.low imports aiomos.high, which is above it"]


def test_circle_within_a_layer_is_found() -> None:
    graph = {"aiomos.middle": {"aiomos.beside"}, "aiomos.beside": {"aiomos.middle"}}
    [complaint] = turned_back(graph, RANK)
    assert complaint.startswith("imports in a circle")


def test_module_without_a_layer_is_found() -> None:
    assert turned_back({"aiomos.new": set()}, RANK) == ["aiomos.new has no layer"]


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from aiomos._engine.wire cimport Packet, packet_dst", "aiomos._engine.wire"),
        ("from aiomos._engine cimport bpf", "aiomos._engine.bpf"),
        ("from .shim cimport (aio_frame,\n    aio_seg)", "aiomos._engine.shim"),
        ("from . cimport shim as s", "aiomos._engine.shim"),
        ("cimport aiomos._engine.pool as pool", "aiomos._engine.pool"),
        ("cdef int f():\n    import asyncio.tasks, os", "asyncio.tasks"),
        ("from ..events import Gap  # why", "aiomos.events"),
    ],
)
def test_import_in_cython_is_seen(line: str, module: str) -> None:
    assert module in cython_imports(line, "aiomos._engine")


@pytest.mark.parametrize(
    "line", ['"""\nfrom aiomos.events import Gap\n"""', "# import asyncio", "imports = 1"]
)
def test_text_that_looks_like_an_import_is_not_one(line: str) -> None:
    assert cython_imports(line, "aiomos._engine") == set()


def test_import_in_python_is_seen_in_functions_too() -> None:
    text = "def f():\n    from .testing import craft\n    import socket"
    assert {"aiomos.testing.craft", "socket"} <= python_imports(text, "aiomos")


def test_use_of_the_testing_kit_is_found() -> None:
    imported = {"aiomos.cli": {"aiomos.testing.craft"}, "aiomos.testing": {"aiomos.testing.craft"}}
    assert users_of_test_code(imported) == ["aiomos.cli imports aiomos.testing.craft"]


def test_clock_below_the_bridge_is_found() -> None:
    assert worldly({"aiomos.low": {"time", "os"}}, ["aiomos.low"]) == ["aiomos.low imports time"]


@pytest.mark.parametrize(
    ("file_name", "text", "header"),
    [
        ("wire.pyx", 'cdef extern from "shim.h" nogil:', "shim.h"),
        ("bpf.pxd", 'cdef extern from "rte_mbuf.h":', "rte_mbuf.h"),
        ("endpoint.pyx", 'cdef extern from *:\n    """\n    #include <pcap/pcap.h>', "pcap/pcap.h"),
    ],
)
def test_foreign_header_elsewhere_is_found(file_name: str, text: str, header: str) -> None:
    assert misplaced_headers(file_name, text) == [header]


def test_word_in_code_of_the_shim_is_found_and_in_a_comment_is_not() -> None:
    assert unknown_words("/* as tcpdump does, TCP */ // Python.h") == []
    assert unknown_words("#include <Python.h>\nint tcp_flags;") == ["Python.h", "tcp_flags"]


def test_foreign_library_in_a_module_is_found() -> None:
    asked = ["libc.so.6", "libpcap.so.0.8", "librte_eal.so.23"]
    assert linked_too_much("filters", asked) == ["librte_eal.so.23"]
    assert linked_too_much("core", asked) == ["libpcap.so.0.8", "librte_eal.so.23"]
