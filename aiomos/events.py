"""What aiomos tells: events, gaps, datagrams, reasons. Frozen and slotted; times are capture time.

Written before any code that raises them, so that names and fields are decided in one place.

An event names an end by its side, "client" or "server", and holds neither flow nor endpoint: one
that is kept keeps nothing else alive. `getattr(flow, event.side)` is the endpoint.
"""

from __future__ import annotations

import enum

import attrs

from aiomos._verdicts import ChunkVerdicts


class CloseReason(enum.StrEnum):
    """Why a flow ended. Exactly one a flow."""

    #: Both ends sent a FIN and acknowledged the other's.
    FIN = "FIN"
    #: One end sent a valid RST (RFC 5961).
    RESET = "RESET"
    #: No packet came for the flow's idle time.
    TIMEOUT = "TIMEOUT"
    #: Another connection began on the same addresses and ports.
    REUSED = "REUSED"
    #: Given up to stay within the memory budget.
    EVICTED = "EVICTED"
    #: The capture ended while the flow was open.
    CAPTURE_END = "CAPTURE_END"
    #: The program was told to stop while the flow was open.
    SHUTDOWN = "SHUTDOWN"
    #: A handler dropped the flow.
    HANDLER_DROP = "HANDLER_DROP"
    #: A handler reset the flow.
    HANDLER_RESET = "HANDLER_RESET"


class State(enum.StrEnum):
    """TCP state of one end (RFC 9293 section 3.3.2); equal to its name in ``endpoint.state``."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN_WAIT_1"
    FIN_WAIT_2 = "FIN_WAIT_2"
    CLOSE_WAIT = "CLOSE_WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST_ACK"
    TIME_WAIT = "TIME_WAIT"


@attrs.frozen
class Datagram:
    """One UDP datagram.

    Attributes:
        data: its payload, as far as captured.
        time: capture time, seconds since the epoch.
        sender: ``"client"`` or ``"server"``.
    """

    data: bytes
    time: float
    sender: str


@attrs.frozen
class Chunk(ChunkVerdicts):
    """Bytes of a stream that were received together: what ``chunks()`` gives.

    Attributes:
        data: the bytes.
        offset: 64-bit stream offset of the first.
        time: capture time at which the receiver had them, seconds since the epoch.
    """

    data: bytes
    offset: int
    time: float

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data


@attrs.frozen
class Message:
    """What one end said until the other spoke: a turn, as ``flow.messages()`` gives it.

    Attributes:
        side: who sent it, ``"client"`` or ``"server"``.
        data: the bytes.
        offset: 64-bit stream offset of the first.
        time: capture time at which the first was received, seconds since the epoch.
        last_time: the same of the last one.
        more: whether the turn may go on: it was cut at a gap, a limit or a timeout.
    """

    side: str
    data: bytes
    offset: int
    time: float
    last_time: float
    more: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data


# ---- events ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Event:
    """What all events have. ``@app.on(Event)`` asks for every kind.

    Attributes:
        time: capture time of the packet, seconds since the epoch; without a packet, engine time.
        side: ``"client"`` or ``"server"``: the end that it is about; for bytes, gaps and FINs
            the end that sent them, for states and windows the end whose they are. ``""``: no end.
        hook: whose emulated stack tells it: ``"sender"`` (looks at a packet first) or
            ``"receiver"``; ``"timer"`` where no packet is at hand.
    """

    time: float = 0.0
    side: str = ""
    hook: str = ""


@attrs.frozen
class PacketSeen(Event):
    """A packet of a flow goes through the stack of its sender, then that of its receiver.

    Raised twice a packet: first of all at the sender's hook, last at the receiver's; only the
    flow's ConnectionEnd may stand behind that.

    Attributes:
        verdict: what this stack made of it: ``accepted``, ``repeated`` (brought nothing new) or
            ``refused`` (failed a check: nothing of it counts).
    """

    verdict: str


@attrs.frozen
class ConnectionStart(Event):
    """One end has begun: its first SYN or SYN-ACK; picked up, its first packet. Once a side."""


@attrs.frozen
class Established(Event):
    """Both SYNs were acknowledged, or the flow was picked up in its middle. Once a flow."""


@attrs.frozen
class NewData(Event):
    """Bytes are next in order, and the receiver's stack has accepted them.

    Attributes:
        offset: 64-bit stream offset of the first.
        length: number of bytes.
        data: the bytes; None where the capture has cut them.
    """

    offset: int
    length: int
    data: bytes | None = None


@attrs.frozen
class Retransmission(Event):
    """A range that was sent before is sent again; one event for each repeated range.

    Attributes:
        offset: 64-bit stream offset of the first repeated byte.
        length: number of bytes; 0 for a SYN or FIN.
        differs: whether the bytes are others than before; None when those are gone.
    """

    offset: int
    length: int
    differs: bool | None


@attrs.frozen
class OutOfOrder(Event):
    """Bytes came before others that stand in front of them.

    Attributes:
        offset: 64-bit stream offset of the first.
        length: number of bytes.
    """

    offset: int
    length: int


@attrs.frozen
class Overlap(Event):
    """Two copies of a range differ, and not both were delivered. Besides its Retransmission.

    Attributes:
        offset: 64-bit stream offset of the first byte of the range.
        old: the bytes that were there.
        new: those that came now.
        winner: ``"old"`` or ``"new"``: what readers get, by the overlap policy.
    """

    offset: int
    old: bytes
    new: bytes
    winner: str


@attrs.frozen
class Gap(Event):
    """Bytes of a stream that were never seen.

    An event, and what readers give with ``on_gap="yield"``. Two gaps of the same bytes and
    cause are equal, whoever tells them.

    Attributes:
        offset: 64-bit stream offset of the first missing byte.
        length: number of missing bytes.
        cause: ``lost`` (never seen, nobody acknowledged it), ``acked_unseen`` (the receiver
            has it, the capture has not), ``out_of_order_limit`` (too much came behind it),
            ``memory`` (budget used up), ``snap_length`` (the capture cut the packet),
            ``slow_reader`` (the handler did not read), ``capture_drop``, ``midstream``,
            ``urgent``.
    """

    offset: int
    length: int
    cause: str
    time: float = attrs.field(default=0.0, kw_only=True, eq=False)
    side: str = attrs.field(default="", kw_only=True, eq=False)
    hook: str = attrs.field(default="", kw_only=True, eq=False)


@attrs.frozen
class StateChange(Event):
    """The emulated stack of one end went from one state to another.

    Attributes:
        old: the state that it left.
        new: the state that it is in.
    """

    old: State
    new: State


@attrs.frozen
class ZeroWindow(Event):
    """An end closed its window: it takes no more bytes for now."""


@attrs.frozen
class WindowUpdate(Event):
    """An end changed its window, with no data and no new acknowledgement.

    Attributes:
        window: bytes that it takes now, scaled.
        old: what it was.
    """

    window: int
    old: int


@attrs.frozen
class FinSeen(Event):
    """An end said that it will send no more. Once a side; once more if it then says it at
    another place, before the first was reached.

    Attributes:
        offset: 64-bit stream offset at which its stream ends by this word.
    """

    offset: int


@attrs.frozen
class ResetSeen(Event):
    """An end sent a RST.

    Attributes:
        valid: whether the receiver's stack obeys it (RFC 5961 section 3.2).
    """

    valid: bool


@attrs.frozen
class ConnectionEnd(Event):
    """The flow is over. Exactly once a flow, and its last event.

    Attributes:
        reason: why.
    """

    reason: CloseReason


@attrs.frozen
class Orphan(Event):
    """A packet that belongs to no flow, of any protocol. The flow given with it is None.

    Attributes:
        reason: ``no_flow`` (TCP that opens none), ``closed`` (its flow is over), ``protocol``
            (IP, neither TCP nor UDP), ``not_ip``, ``malformed``, ``table_full``, ``fragment``.
    """

    reason: str


@attrs.frozen
class Anomaly(Event):
    """Something that no well-behaved network or host does. Below TCP the flow may be None.

    Attributes:
        kind: one of :data:`aiomos._engine.names.ANOMALIES`, ``bad_checksum`` for example, or,
            of a malformed frame, one of :data:`aiomos._engine.names.MALFORMED`.
        detail: a number that goes with it: of fragments the offset, of flags the flags.
    """

    kind: str
    detail: int = 0


@attrs.frozen
class Idle(Event):
    """No packet of the flow came for the engine's ``idle`` seconds. Once until the next packet.

    Attributes:
        seconds: since the last packet, on the engine's clock.
    """

    seconds: float


@attrs.frozen
class IcmpError(Event):
    """An ICMP or ICMPv6 error that quotes a packet of the flow. ``side`` sent that packet.

    Attributes:
        type: ICMP type; 3 for example is destination unreachable (RFC 792).
        code: ICMP code.
        info: second word of its header: the MTU of a packet that is too big, a pointer.
    """

    type: int
    code: int
    info: int


@attrs.frozen
class TimerFired(Event):
    """A timer made with ``flow.after`` is due.

    Attributes:
        value: what was given to ``flow.after``.
    """

    value: object = None


@attrs.frozen
class EventsLost(Event):
    """So many events did not fit into the bounded queue of a coroutine that takes them.

    Stands where they would have stood. Plain functions never miss an event.

    Attributes:
        count: how many.
    """

    count: int
