"""An engine that notes what the app makes of the traffic."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from aiomos._app import App
from aiomos._endpoint import Endpoint
from aiomos._engine.handler import Handler
from aiomos._engine.source import Source
from aiomos._flow import Flow
from aiomos._kinds import hooks_of, kinds_of
from aiomos._mount import Declarations
from aiomos._rules import EventRule, FlowRule
from aiomos._runner import Engine, Path
from aiomos._summary import Summary
from aiomos.events import ConnectionEnd, Event
from aiomos.testing._result import Failure, FlowReport, Result, Verdict

#: Names of verdict verbs, of flows and of their ends; those that this version has are noted.
FLOW_VERBS = ("accept", "bypass", "drop", "reset", "nat", "mirror", "inject", "send")
SIDE_VERBS = ("stop", "hold")


class Notes:
    """What was noted of one run, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[int | None, Event]] = []
        self.verdicts: list[Verdict] = []
        self.failures: list[Failure] = []
        self.handlers: dict[int, list[str]] = defaultdict(list)
        self.ends: list[FlowReport] = []

    def event(self, flow: Flow | None, event: Event, packet: object) -> None:
        """A function for ``App.on``; it keeps no flow."""
        self.events.append((None if flow is None else flow.id, event))
        if flow is not None and isinstance(event, ConnectionEnd):
            self.ends.append(
                FlowReport(flow.id, flow.key, event.reason, flow.midstream, flow.stats)
            )

    def result(self, summary: Summary) -> Result:
        """All of it, sorted by flow."""
        events, verdicts, failures = defaultdict(list), defaultdict(list), defaultdict(list)
        for flow_id, event in self.events:
            events[flow_id].append(event)
        for verdict in self.verdicts:
            verdicts[verdict.flow_id].append(verdict)
        for failure in self.failures:
            failures[failure.flow_id].append(failure)
        flows = (
            attrs.evolve(
                flow,
                handlers=tuple(self.handlers[flow.id]),
                events=tuple(events[flow.id]),
                verdicts=tuple(verdicts[flow.id]),
                failures=tuple(failures[flow.id]),
            )
            for flow in sorted(self.ends, key=lambda flow: flow.id)
        )
        return Result(
            summary, tuple(flows), tuple(self.events), tuple(self.verdicts), tuple(self.failures)
        )


class ObservedEngine(Engine):
    """:class:`aiomos.Engine`, with notes; of events, those of the classes ``events``."""

    def __init__(
        self, source: Source | Path, *, events: Iterable[type[Event]], **options: Any
    ) -> None:
        super().__init__(source, **options)
        self.notes = Notes()
        self._kinds = kinds_of((*events, ConnectionEnd), "testing: events=")
        self._flow_class = _observed_flow(self._decided)
        self._endpoint_class = _observed_endpoint(self._decided)

    def result(self) -> Result:
        """What it came to so far."""
        return self.notes.result(self.summary())

    def _decided(self, verdict: Verdict) -> None:
        self.notes.verdicts.append(attrs.evolve(verdict, time=self.core.now))

    def _handler(self, app: App, rule: FlowRule) -> Handler:
        """The app's own, told of each flow that it takes."""

        @functools.wraps(rule.function)
        def begin(flow: Flow) -> Any:
            self.notes.handlers[flow.id].append(rule.name)
            for side in ("client", "server"):
                getattr(flow, side).whose = (side, rule.name, flow.id)
            return rule.function(flow)

        return super()._handler(app, attrs.evolve(rule, function=begin))

    def _event_rules(self, wanted: Declarations) -> list[EventRule]:
        hooks = hooks_of(None, "testing")
        ours = EventRule(self.notes.event, self._kinds, hooks, None, False)
        return [ours, *super()._event_rules(wanted)]

    def _report(self, flow: Flow | None, error: BaseException, name: str) -> None:
        self.notes.failures.append(Failure(name, error, None if flow is None else flow.id))
        super()._report(flow, error, name)


Decided = Callable[[Verdict], None]


def _observed_flow(decided: Decided) -> type[Flow]:
    """A class of flows whose verbs are noted, once they returned."""

    def noted(name: str) -> Callable[..., Any]:
        verb = getattr(Flow, name)

        @functools.wraps(verb)
        def use(self: Flow, *args: Any, **kwargs: Any) -> Any:
            offsets = self.client.offset, self.server.offset
            result = verb(self, *args, **kwargs)
            handler = "" if self.handler is None else self.handler.name
            decided(Verdict(name, handler, self.id, "", 0.0, *offsets))
            return result

        return use

    verbs = {name: noted(name) for name in FLOW_VERBS if hasattr(Flow, name)}
    return type("Flow", (Flow,), {"__slots__": (), "__module__": Flow.__module__, **verbs})


def _observed_endpoint(decided: Decided) -> type[Endpoint]:
    """The same of ends, which are told whose they are when a handler begins."""

    def noted(name: str) -> Callable[..., Any]:
        verb = getattr(Endpoint, name)

        @functools.wraps(verb)
        def use(self: Any, *args: Any, **kwargs: Any) -> Any:
            offset = self.offset
            result = verb(self, *args, **kwargs)
            side, handler, flow_id = self.whose
            offsets = {f"{side}_offset": offset}
            decided(Verdict(name, handler, flow_id, side, 0.0, **offsets))
            return result

        return use

    verbs = {name: noted(name) for name in SIDE_VERBS if hasattr(Endpoint, name)}
    members = {"__slots__": ("whose",), "__module__": Endpoint.__module__, **verbs}
    return type("Endpoint", (Endpoint,), members)
