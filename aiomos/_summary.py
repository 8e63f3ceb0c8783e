"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aiomos._engine import names

#: Why a packet was cut short.
CUT = "there was no memory to copy it whole"


@attrs.frozen
class Summary:
    """Counters at the end of a run.

    Attributes:
        received: frames taken from the source that passed ``-f``, each by its own worker.
        filtered: frames that did not pass ``-f``.
        processed: frames that went through the engine.
        dropped: frames lost before the engine (device, kernel, rings, pools).
        cut: of ``received``: frames whose end is missing, as there was no memory for a copy.
        counters: everything the engine counted, by name.
        handlers_started: handlers begun.
        handler_errors: handlers that raised.
        cut_off: the capture ended inside a record; what came before it was processed.
        message: what the source said at its end, "" if nothing.
        turn_limit: turns of the loop that were cut short (a handler that never waits).
        io_expired: operations that held capture time for longer than the patience.
        stalls: times that a handler kept the core for longer than ``stall=``.
    """

    received: int = 0
    filtered: int = 0
    processed: int = 0
    dropped: int = 0
    cut: int = 0
    counters: Mapping[str, int] = attrs.field(factory=dict)
    handlers_started: int = 0
    handler_errors: int = 0
    cut_off: bool = False
    failed: bool = False
    message: str = ""
    turn_limit: int = 0
    io_expired: int = 0
    stalls: int = 0

    @property
    def malformed(self) -> int:
        """Frames with headers that cannot be right."""
        return sum(self.counters.get(name, 0) for name in names.MALFORMED)

    @property
    def fragments_lost(self) -> int:
        """Datagrams of which fragments came, but that were never put together."""
        return sum(self.counters.get(name, 0) for name in names.DEFRAG_LOST)

    def lines(self) -> list[str]:
        """For people, in tcpdump's manner; what is zero and unusual is left out."""
        lines = [
            f"{self.received} packets received by filter",
            f"{self.processed} packets processed",
            f"{self.dropped} packets dropped",
        ]
        lines.append(f"{self.counters.get('flows', 0)} flows, {self.handlers_started} handled")
        return lines + self._unusual()

    def _unusual(self) -> list[str]:
        count = self.counters.get
        said = {
            f"packets cut short: {CUT}": self.cut,
            "packets malformed": self.malformed,
            "packets with a wrong checksum": count("bad_checksum", 0),
            "packets that came twice": count("duplicates", 0),
            "packets handed over between workers": count("wrong_core", 0),
            "fragmented datagrams given up": self.fragments_lost,
            "gaps in streams": count("gaps", 0),
            "bytes lost because a handler did not read them (limit=)": count(
                "slow_reader_bytes", 0
            ),
            "sides never read, stopped at their limit": count("unread_side", 0),
            "handlers failed": self.handler_errors,
            "flows refused: table full": count("table_full", 0),
            "handshakes refused: max_embryonic": count("embryonic_full", 0),
            "flows refused: memory short": count("memory_full", 0),
            "flows given up for others": count("evicted_embryonic", 0) + count("evicted_idle", 0),
            "bytes given up, memory short": count("shed_fragment_bytes", 0)
            + count("shed_early_bytes", 0)
            + count("shed_reader_bytes", 0),
            "events lost: coroutines did not take them (EventsLost)": count("events_lost", 0),
            "time stamps that jumped": count("clock_jumps", 0),
            "turns cut short: a handler never waits": self.turn_limit,
            "operations outlasted --io-patience": self.io_expired,
            "times that a handler blocked the core": self.stalls,
        }
        lines = [f"{n} {what}" for what, n in said.items() if n]
        if self.malformed:
            kinds = [f"{k} {count(k, 0)}" for k in names.MALFORMED if count(k, 0)]
            lines.append(f"malformed: {', '.join(kinds)}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())
