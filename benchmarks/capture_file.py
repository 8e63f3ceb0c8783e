"""Classic pcap files, microseconds, Ethernet: writing them, and cutting off their beginning."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_MAGIC, _SNAPLEN, _ETHERNET = 0xA1B2C3D4, 65535, 1
_BATCH = 8192


class Writer:
    """Writes frames in order; time is given in microseconds since 1970."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(_HEADER.pack(_MAGIC, 2, 4, 0, 0, _SNAPLEN, _ETHERNET))
        self._parts: list[bytes] = []
        self.packets = 0

    def write(self, frame: bytes, now: int) -> None:
        """Add one frame, captured whole."""
        size = len(frame)
        self._parts.append(_RECORD.pack(now // 1_000_000, now % 1_000_000, size, size))
        self._parts.append(frame)
        self.packets += 1
        if len(self._parts) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._file.write(b"".join(self._parts))
        self._parts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()
        self._file.close()


def records(path: Path) -> Iterator[bytes]:
    """The records of a capture written by `Writer`: header and frame in one piece each."""
    with path.open("rb", buffering=1 << 20) as file:
        file.read(_HEADER.size)
        while header := file.read(_RECORD.size):
            yield header + file.read(_RECORD.unpack(header)[2])


def cut(source: Path, target: Path, packets: int) -> int:
    """Copy the first ``packets`` packets; return how many bytes of TCP payload they carry."""
    payload = 0
    with source.open("rb") as file, target.open("wb") as out:
        out.write(file.read(_HEADER.size))
        for record, _ in zip(records(source), range(packets), strict=False):
            out.write(record)
            payload += tcp_payload_bytes(record[_RECORD.size :])
    return payload


def tcp_payload_bytes(frame: bytes) -> int:
    """Bytes of payload in an Ethernet, IPv4 (no options), TCP frame."""
    ip_length: int = struct.unpack_from(">H", frame, 16)[0]
    return ip_length - 20 - (frame[46] >> 4) * 4
