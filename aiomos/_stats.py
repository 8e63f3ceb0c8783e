"""Statistics of a flow and of its two ends: frozen pictures of the moment they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from aiomos._engine.endpoint import EndpointBase
    from aiomos._engine.flowview import FlowBase


@attrs.frozen(kw_only=True)
class EndpointStats:
    """What one end of a flow sent. Fields that are None were not asked for, or not seen.

    The basic ones (``packets``, ``received``, ``retransmissions``, ``gaps``, ``isn``, ``mss``)
    are always there. The others are counted where ``App(statistics=True)`` or the engine
    option ``statistics`` asks for them. UDP has bytes and packets only.
    """

    #: Packets of this end, those that its peer would not accept included.
    packets: int
    #: Payload bytes that its peer has received in order, those in gaps included.
    received: int
    #: Segments that repeated bytes, a SYN or a FIN.
    retransmissions: int
    #: Holes that were given up.
    gaps: int
    #: Initial sequence number (RFC 9293 section 3.4.1); None: not TCP, or nothing seen.
    isn: int | None = None
    #: Maximum segment size that it announced, in bytes (RFC 9293 section 3.7.1).
    mss: int | None = None
    #: Bytes of its frames as they were on the wire, link header included.
    wire_bytes: int | None = None
    #: Payload bytes by the headers, every copy counted.
    payload_bytes: int | None = None
    #: Payload bytes received, each once, gaps left out.
    unique_bytes: int | None = None
    #: Payload bytes that had been seen before.
    retransmitted_bytes: int | None = None
    #: Segments that came while bytes in front of them were missing.
    out_of_order: int | None = None
    #: Payload bytes of these, each once.
    out_of_order_bytes: int | None = None
    #: Payload bytes in gaps.
    gap_bytes: int | None = None
    #: Seconds from its peer's SYN (or SYN-ACK) to its answer, both as seen here; None too where
    #: that SYN was repeated: it is not known which of them was answered.
    handshake_rtt: float | None = None
    #: Round trips from here to this end and back, by the timestamps that it echoed (RFC 7323
    #: section 4); delays of its acknowledgements are in them. How many there were.
    rtt_samples: int | None = None
    #: The shortest of them, in seconds.
    rtt_min: float | None = None
    #: Their mean, in seconds.
    rtt_mean: float | None = None
    #: The longest of them, in seconds.
    rtt_max: float | None = None
    #: The last of them, in seconds.
    rtt_last: float | None = None
    #: Smallest window that it offered, in bytes; unscaled where a SYN was not seen.
    window_min: int | None = None
    #: Largest window that it offered, in bytes.
    window_max: int | None = None
    #: How often it closed its window.
    zero_windows: int | None = None
    #: Shift of its windows as its SYN offered it (RFC 7323 section 2.2); None: not offered.
    window_scale: int | None = None
    #: Whether its SYN permitted selective acknowledgements (RFC 2018).
    sack_permitted: bool | None = None
    #: Whether its SYN offered timestamps (RFC 7323 section 3).
    timestamps: bool | None = None

    @property
    def rtt(self) -> float | None:
        """The best guess of the round trip from here to this end: the shortest that was seen."""
        seen = [time for time in (self.handshake_rtt, self.rtt_min) if time is not None]
        return min(seen, default=None)


@attrs.frozen(kw_only=True)
class FlowStats:
    """Statistics of a flow and of its two ends."""

    client: EndpointStats
    server: EndpointStats
    #: Seconds from the first packet to the last one so far.
    duration: float
    #: Packets of both ends.
    packets: int
    #: Whether the extended fields are counted.
    extended: bool

    @property
    def rtt(self) -> float | None:
        """Round trip between the ends, in seconds: from here to the one plus to the other."""
        if self.client.rtt is None or self.server.rtt is None:
            return None
        return self.client.rtt + self.server.rtt


def endpoint_stats(end: EndpointBase) -> EndpointStats:
    """Those of an end, now."""
    extended = end._extended
    known = end.is_tcp and (end.syn_seen or end.packets > 0)
    found = EndpointStats(
        packets=end.packets,
        received=end.received,
        retransmissions=end.retransmissions,
        gaps=end.gaps,
        isn=end.isn if known else None,
        mss=end.mss or None,
    )
    if extended is None:
        return found
    unique = end.received - extended["gap_bytes"]
    return attrs.evolve(found, unique_bytes=unique, **extended)


def flow_stats(flow: FlowBase) -> FlowStats:
    """Those of a flow, now."""
    client, server = endpoint_stats(flow.client), endpoint_stats(flow.server)
    return FlowStats(
        client=client,
        server=server,
        duration=flow.duration,
        packets=client.packets + server.packets,
        extended=client.wire_bytes is not None,
    )
