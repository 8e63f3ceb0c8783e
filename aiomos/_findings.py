"""What a look at the machine comes to: findings, each with a state, a sentence, and its remedy."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs


class State(enum.StrEnum):
    """How one thing stands."""

    OK = "ok"
    NOTE = "note"  # works, and one should know something of it
    MISSING = "missing"  # is not there, and something would run, or run better, with it


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    topic: str  # a few words; with the interface or device it is about
    state: State
    text: str  # one sentence
    commands: tuple[str, ...] = ()  # for root; what mends it, in order
    prevents: bool = False  # without it this way of running is not possible

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**attrs.asdict(self), "state": self.state.value, "commands": list(self.commands)}


@attrs.frozen
class Way:
    """One way of running, and what was found about it."""

    name: str  # what --require calls it
    title: str
    findings: tuple[Finding, ...]

    @property
    def possible(self) -> bool:
        """Whether nothing prevents it."""
        return not any(f.prevents for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        findings = [f.as_dict() for f in self.findings]
        return {
            "name": self.name,
            "title": self.title,
            "possible": self.possible,
            "findings": findings,
        }


def ok(topic: str, text: str) -> Finding:
    """All is well."""
    return Finding(topic, State.OK, text)


def note(topic: str, text: str, *commands: str) -> Finding:
    """To be known; with commands, if one wants it otherwise."""
    return Finding(topic, State.NOTE, text, commands)


def missing(topic: str, text: str, *commands: str, prevents: bool = False) -> Finding:
    """Not there."""
    return Finding(topic, State.MISSING, text, commands, prevents)


def size_of(size: int) -> str:
    """A size for people: ``2 MiB``, ``1 GiB``, ``64 KiB``."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << bits:
            return f"{size / (1 << bits):.4g} {unit}"
    return f"{size} B"


def listed(names: Iterable[str], of: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = tuple(names) or ("none",)
    return f"{', '.join(first)} {of} {last}" if first else last
