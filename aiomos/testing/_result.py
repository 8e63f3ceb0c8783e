"""What a run came to: flows, events, verdicts, failures, counters."""

from __future__ import annotations

import attrs

from aiomos._flow import FlowKey
from aiomos._stats import FlowStats
from aiomos._summary import Summary
from aiomos.events import CloseReason, Event


@attrs.frozen
class Verdict:
    """A verb that a handler used.

    Attributes:
        verb: its name: ``"accept"``, ``"bypass"``, ``"stop"``.
        handler: the handler's name.
        flow_id: of its flow.
        side: ``"client"`` or ``"server"`` for a verb on one side, else ``""``.
        time: capture time, seconds since the epoch.
        client_offset: stream offset up to which the handler had read of the client; None for a
            verb on the other side.
        server_offset: the same of the server.
    """

    verb: str
    handler: str
    flow_id: int
    side: str = ""
    time: float = 0.0
    client_offset: int | None = None
    server_offset: int | None = None

    def __str__(self) -> str:
        side = f" {self.side}" if self.side else ""
        offsets = {"client": self.client_offset, "server": self.server_offset}
        at = ", ".join(f"{name} {n}" for name, n in offsets.items() if n is not None)
        return f"{self.verb}{side} by {self.handler} at {at}"


@attrs.frozen
class Failure:
    """A function of the app that raised.

    Attributes:
        handler: its name.
        error: what it raised.
        flow_id: the flow; None where there is none.
    """

    handler: str
    error: BaseException
    flow_id: int | None = None


@attrs.frozen
class FlowReport:
    """One flow as it ended.

    Attributes:
        id: ``flow.id``; flows are numbered in the order of their first packets.
        key: addresses, ports and protocol.
        close_reason: why it ended.
        midstream: whether it was picked up after its handshake.
        stats: :class:`aiomos.FlowStats` at its end.
        handlers: names of the handlers that took it.
        events: its events in order.
        verdicts: what its handlers decided, in order.
        failures: its handlers that raised.
    """

    id: int
    key: FlowKey
    close_reason: CloseReason
    midstream: bool
    stats: FlowStats
    handlers: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def verbs(self) -> tuple[str, ...]:
        """Names of the verbs that handlers used, in order."""
        return tuple(verdict.verb for verdict in self.verdicts)

    def of(self, *wanted: type[Event]) -> list[Event]:
        """Its events of these classes."""
        return [event for event in self.events if isinstance(event, wanted)]

    def assert_verdict(
        self, verb: str, *, handler: str | None = None, side: str | None = None
    ) -> Verdict:
        """The last such verdict on this flow.

        Args:
            verb: ``"accept"``, ``"bypass"``, ``"stop"``.
            handler: the end of the handler's name; None: any.
            side: ``"client"``, ``"server"``; None: any.

        Raises:
            AssertionError: no handler used that verb; the message has those that were used.
        """
        __tracebackhide__ = True
        for said in reversed(self.verdicts):
            if said.verb != verb or side not in (None, said.side):
                continue
            if handler is None or said.handler.endswith(handler):
                return said
        raise AssertionError(self._missing(verb, handler, side))

    def _missing(self, verb: str, handler: str | None, side: str | None) -> str:
        by = f" by {handler}" if handler else ""
        of = f" {side}" if side else ""
        said = "; ".join(map(str, self.verdicts)) or "no verdict"
        return f"no {verb}{of}{by} on flow {self.id} {self.key}, but: {said}"


@attrs.frozen
class Result:
    """What a run came to.

    Attributes:
        summary: counters, as ``aiomos run`` prints them.
        flows: all flows that ended, in the order of their first packets.
        events: every event (or those asked for) with the id of its flow (None: of none), in order.
        verdicts: what handlers decided, in order.
        failures: functions of the app that raised, in order.
    """

    summary: Summary
    flows: tuple[FlowReport, ...] = ()
    events: tuple[tuple[int | None, Event], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[Failure, ...] = ()

    def flow(self, **fields: object) -> FlowReport:
        """The one flow there is, or the one whose key has these fields.

        ``result.flow()``, ``result.flow(client_port=40001)``

        Raises:
            AssertionError: there is none, or there are several.
        """
        __tracebackhide__ = True
        found = [
            flow
            for flow in self.flows
            if all(getattr(flow.key, name) == value for name, value in fields.items())
        ]
        if len(found) != 1:
            keys = [flow.key for flow in self.flows]
            raise AssertionError(f"{len(found)} flows with {fields or 'any key'} among {keys}")
        return found[0]

    def of(self, *wanted: type[Event]) -> list[Event]:
        """Events of these classes, of all flows."""
        return [event for _, event in self.events if isinstance(event, wanted)]

    def raise_failures(self) -> None:
        """Raise what a handler raised: itself if it is the only one, else all in a group."""
        raise_all(self.failures)


def raise_all(failures: tuple[Failure, ...] | list[Failure]) -> None:
    """One error as it is, several as a group, none not at all."""
    __tracebackhide__ = True
    errors = [failure.error for failure in failures]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} handlers failed", errors)
