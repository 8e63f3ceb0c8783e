"""Examples in docstrings run, on the capture that comes with the project (``capture``)."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import aiomos

CAPTURE = Path(__file__).parents[1] / "captures" / "http_demo.pcap"
MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(aiomos.__path__, "aiomos.")
    if "._engine" not in found.name and not found.name.endswith("__main__")
)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name), globs={"capture": CAPTURE})
        if test.examples
    ]


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_in_docstrings_do_what_they_say(example):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


@pytest.mark.parametrize(
    "name", ["tcp", "udp", "packet", "on", "every", "lifespan", "middleware", "mount"]
)
def test_each_declaration_has_an_example(name):
    assert ">>>" in getattr(aiomos.App, name).__doc__
