"""Names for people against the enumerations of events.pxd, and the classes of aiomos/events.py."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

import aiomos
from aiomos import events
from aiomos._engine import facts, names

PXD = (Path(aiomos.__file__).parent / "_engine" / "events.pxd").read_text()


def numbered(prefix: str) -> list[str]:
    """Names of an enumeration in lower case, in order; each must have the next number."""
    found = re.findall(rf"^    {prefix}_(?!STATUS)(\w+) = (\d+)", PXD, re.MULTILINE)
    assert [int(n) for _, n in found] == list(range(len(found)))
    return [name.lower() for name, _ in found]


@pytest.mark.parametrize(
    ("prefix", "listed"),
    [
        ("ORPHAN", names.ORPHANS),
        ("VERDICT", names.VERDICTS),
        ("HOOK", names.HOOKS),
    ],
)
def test_names_follow_the_enumeration(prefix: str, listed: tuple[str, ...]) -> None:
    assert list(listed) == numbered(prefix)


def test_every_anomaly_has_a_name() -> None:
    kinds = numbered("ANOMALY")
    assert f"ANOMALIES = {len(kinds)}\n" in PXD
    assert len({*names.ANOMALIES, *names.MALFORMED}) == len(kinds) + len(names.MALFORMED)
    assert [k[-4:] for k in kinds[-6:]] == [n[-4:] for n in names.ANOMALIES[len(kinds) - 6 :]]
    assert f"ANOMALY_STATUS = {names.ANOMALY_STATUS} " in PXD


def test_every_kind_of_event_has_its_class_in_order() -> None:
    kinds = numbered("EVENT")
    assert len(names.EVENTS) == len(kinds)
    made = {
        n for n, c in vars(events).items() if isinstance(c, type) and issubclass(c, events.Event)
    }
    assert made == {*names.EVENTS, "Event", "TimerFired", "EventsLost"}
    for kind, name in zip(kinds, names.EVENTS, strict=True):
        words = re.findall(r"[A-Z][a-z]+", name)
        assert kind.split("_")[0] in "".join(words).lower()


def test_states_are_those_of_endpoints() -> None:
    assert tuple(events.State) == facts.STATES


@pytest.mark.parametrize("name", [*names.EVENTS, "TimerFired", "EventsLost"])
def test_event_class_is_frozen_slotted_and_says_when_it_is_raised(name: str) -> None:
    cls = getattr(aiomos, name)
    made = cls(*[None] * sum(not f.kw_only for f in attrs.fields(cls)), side="client")
    assert not hasattr(made, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.side = "server"
    assert vars(cls)["__doc__"].split()[0] not in ("What", "Event")


def test_gaps_of_readers_and_of_events_are_equal() -> None:
    assert aiomos.Gap(1, 2, "lost") == aiomos.Gap(1, 2, "lost", time=5.0, side="client")
    assert aiomos.Gap(1, 2, "lost") != aiomos.Gap(1, 2, "memory")
