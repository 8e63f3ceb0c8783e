"""Verdicts upon traffic, which a tap cannot give: they fail at the call, and say what can be done.

A tap sees packets that have already gone where they were going. So a handler that believes to have
dropped one would be wrong without noticing: it is told at once. Verdicts are for handlers of inline
ports, of which this version has none.
"""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

from aiomos._engine.errors import VerdictError

Who: TypeAlias = Literal["client", "server", "both"]
Address: TypeAlias = tuple[str, int]


def refuse(verb: str, instead: str) -> NoReturn:
    """Say why not, and what to call instead."""
    raise VerdictError(
        f"{verb}() is a verdict on a tap, which sees packets that have passed already; {instead}"
    )


_OF_FLOW = "flow.bypass() ends this handler's interest, flow.context can note a decision"
_OF_SIDE = "peek() looks ahead and consumes nothing, timeout= bounds how long"
_OF_CHUNK = "write what should stand there somewhere else, such as another stream"
_OF_PACKET = "aiomos.Writer writes packets to a capture, -w those that passed the filter"


class FlowVerdicts:
    """Of a :class:`Flow`."""

    __slots__ = ()

    def drop(self) -> None:
        """Let no packet of the flow pass any more.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("flow.drop", _OF_FLOW)

    def reset(self, who: Who = "both") -> None:
        """Drop the flow, and reset the connection at one end or both.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("flow.reset", _OF_FLOW)

    def nat(self, *, src: Address | None = None, dst: Address | None = None) -> None:
        """Translate an address and port, in both directions.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("flow.nat", _OF_FLOW)

    def mirror(self, port: str) -> None:
        """Send copies of the flow's packets to another port.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("flow.mirror", _OF_FLOW)


class SideVerdicts:
    """Of an :class:`Endpoint`."""

    __slots__ = ()

    def hold(self, *, limit: int = 14_000, timeout: float = 0.2) -> None:
        """Keep what this end sends from leaving until the handler has decided.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("endpoint.hold", _OF_SIDE)


class ChunkVerdicts:
    """Of a :class:`Chunk`."""

    __slots__ = ()

    def replace(self, data: bytes) -> None:
        """Send other bytes in their place, of any length.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("chunk.replace", _OF_CHUNK)

    def drop(self) -> None:
        """Take these bytes out of the stream.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("chunk.drop", _OF_CHUNK)


class PacketVerdicts:
    """Of a :class:`Packet`."""

    __slots__ = ()

    def drop(self) -> None:
        """Let this packet not pass.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("packet.drop", _OF_PACKET)

    def send(self) -> None:
        """Send this packet out.

        Raises:
            VerdictError: the handler is on a tap, as all are in this version.
        """
        refuse("packet.send", _OF_PACKET)
