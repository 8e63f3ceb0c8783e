"""One frame, for handlers that ask for frames."""

from __future__ import annotations

from typing import Any

from aiomos._engine.packet import PacketBase
from aiomos._verdicts import PacketVerdicts


class Packet(PacketVerdicts, PacketBase):
    """A frame with its parsed header fields.

    A plain-function handler borrows it: after it returns, only what was looked at is left.
    An ``async def`` handler gets a copy of its own.
    """

    __slots__ = ()

    @property
    def time(self) -> float:
        """Capture time, seconds since the epoch."""
        return self.time_ns / 1e9

    def scapy(self) -> Any:
        """This frame as a scapy packet.

        Raises:
            ImportError: scapy is not installed (``pip install aiomos[scapy]``).
        """
        from scapy.config import conf
        from scapy.layers import inet, inet6  # noqa: F401  # registers what link types mean

        cls = conf.l2types.num2layer.get(self.link_type)
        if cls is None:
            from scapy.packet import Raw

            cls = Raw
        return cls(bytes(self))

    def __repr__(self) -> str:
        if not self.source:
            return f"<Packet {self.kind} {len(self)} bytes>"
        return (
            f"<Packet {self.kind} {self.source}:{self.sport} > "
            f"{self.destination}:{self.dport} {len(self)} bytes>"
        )
