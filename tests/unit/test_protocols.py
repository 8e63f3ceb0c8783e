"""Protocol readers as parts of the package: imported when asked for, each with its extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

READERS = ("dns", "http", "ssh", "tls")
#: Reader -> the package that its extra brings.
PARSERS = {"dns": "dns", "http": "httptools"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_of_aiomos_imports_no_reader_and_no_parser() -> None:
    names = [f"aiomos.{n}" for n in READERS] + list(PARSERS.values())
    assert python(f"import sys, aiomos; print([n for n in {names} if n in sys.modules])") == "[]"


@pytest.mark.parametrize("name", READERS)
def test_reader_is_there_as_an_attribute_with_all_its_public_names(name: str) -> None:
    code = f"import aiomos; r = aiomos.{name}; print(all(getattr(r, n).__doc__ for n in r.__all__))"
    assert python(code) == "True"


def test_name_that_is_no_reader_is_no_attribute() -> None:
    code = "import aiomos\ntry: aiomos.gopher\nexcept AttributeError as e: print(e)"
    assert python(code) == "module 'aiomos' has no attribute 'gopher'"


@pytest.mark.parametrize(("name", "parser"), PARSERS.items())
def test_reader_without_its_parser_names_the_extra_in_one_line(name: str, parser: str) -> None:
    code = (
        f"import sys; sys.modules[{parser!r}] = None\n"
        f"import aiomos\ntry: aiomos.{name}\nexcept ImportError as e: print(e)"
    )
    said = python(code)
    assert said.startswith(f"aiomos.{name} needs {parser}")
    assert said.endswith(f"pip install 'aiomos[{name}]'")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["ssh", "tls"])
def test_reader_without_a_parser_needs_none(name: str) -> None:
    code = "import sys\n" + "".join(f"sys.modules[{p!r}] = None\n" for p in PARSERS.values())
    assert python(code + f"import aiomos; print(aiomos.{name}.__name__)") == f"aiomos.{name}"


def test_protocol_error_survives_pickling() -> None:
    import pickle

    import aiomos
    from aiomos.tls import Alert

    error = pickle.loads(pickle.dumps(aiomos.ProtocolError("http", 7, "odd")))
    assert (error.protocol, error.offset, error.reason) == ("http", 7, "odd")
    assert str(error) == "http: odd (message at offset 7)"
    alert = pickle.loads(pickle.dumps(Alert(3, 2, 40)))
    assert (alert.offset, alert.level, alert.description) == (3, 2, 40)


def test_protocol_error_of_a_handler_is_reported_as_any_other_error() -> None:
    import aiomos

    assert not issubclass(aiomos.ProtocolError, aiomos.FlowError)
