"""What aiomos tells: gaps, datagrams, reasons. Frozen and slotted; times are capture time.

Written before any code that raises them, so that names and fields are decided in one place.
"""

from __future__ import annotations

import enum

import attrs


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


@attrs.frozen
class Gap:
    """Bytes of a stream that were never seen.

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
