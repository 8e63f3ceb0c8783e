"""Fingerprints of TLS hellos: JA3 and JA3S (Salesforce, 2017), JA4 (FoxIO, 2023; both BSD).

Functions of numbers as they stand in a hello, in its order. JA4S and the others of JA4+ are under
a licence that forbids some uses, and are not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

#: Extensions that JA4 counts but does not hash: server_name and ALPN.
_UNHASHED = (0x0000, 0x0010)
_VERSIONS = {
    **{0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"},
    **{0xFEFF: "d1", 0xFEFD: "d2", 0xFEFC: "d3"},
}
_NOTHING = "0" * 12


def is_grease(value: int) -> bool:
    """Whether a number is one of those that mean nothing (RFC 8701)."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def ungreased(values: Iterable[int]) -> list[int]:
    """The numbers that mean something."""
    return [value for value in values if not is_grease(value)]


def ja3_text(
    version: int,
    ciphers: Sequence[int],
    extensions: Sequence[int],
    groups: Sequence[int],
    point_formats: Sequence[int],
) -> str:
    """What JA3 is the MD5 of."""
    lists = (ungreased(ciphers), ungreased(extensions), ungreased(groups), point_formats)
    return ",".join([str(version), *("-".join(map(str, values)) for values in lists)])


def ja3s_text(version: int, cipher: int, extensions: Sequence[int]) -> str:
    """What JA3S is the MD5 of."""
    return f"{version},{cipher},{'-'.join(map(str, extensions))}"


def md5(text: str) -> str:
    """A fingerprint, not a signature."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def ja4(
    version: int,
    has_name: bool,
    ciphers: Sequence[int],
    extensions: Sequence[int],
    alpn: bytes,
    signatures: Sequence[int],
    *,
    raw: bool = False,
) -> str:
    """JA4 of a hello over TCP; ``raw``: JA4_r, with the lists in the place of their hashes.

    ``version`` is the highest that is offered, ``alpn`` the first protocol (b"": none).
    """
    ciphers, extensions = ungreased(ciphers), ungreased(extensions)
    first = "".join(
        (
            "t",
            _VERSIONS.get(version, "00"),
            "d" if has_name else "i",
            f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}",
            _ends_of(alpn),
        )
    )
    second = _listed(sorted(ciphers))
    third = _listed(sorted(e for e in extensions if e not in _UNHASHED))
    if third and signatures:
        third += "_" + _listed(ungreased(signatures))
    if raw:
        return "_".join((first, second, third))
    return "_".join((first, _hashed(second), _hashed(third)))


def _ends_of(alpn: bytes) -> str:
    """First and last character; of its hexadecimal form where one is no letter or digit."""
    if not alpn:
        return "00"
    ends = alpn[:1] + alpn[-1:]
    if ends.isalnum():
        return ends.decode("ascii")
    digits = alpn.hex()
    return digits[0] + digits[-1]


def _listed(values: Iterable[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _NOTHING
