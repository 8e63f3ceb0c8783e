"""ClientHello and ServerHello as bytes (RFC 8446 section 4.1, RFC 5246 section 7.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs

from aiomos import _tlsfingerprint as fingerprint

_T = TypeVar("_T")

SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, VERSIONS = 0, 10, 11, 13, 16, 43

#: Names of protocol versions.
VERSION_NAMES = {
    **{0x0304: "TLSv1.3", 0x0303: "TLSv1.2", 0x0302: "TLSv1.1", 0x0301: "TLSv1"},
    0x0300: "SSLv3",
}
#: The random of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3).
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

_NONE: tuple[int, ...] = ()
_NO_NAMES: tuple[bytes, ...] = ()


class Malformed(ValueError):
    """A length points outside of what holds it, or something is there twice."""


class Bytes:
    """Reads a structure from the front; every length is checked where it is used."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if len(self.data) - self.at < n:
            raise Malformed("it ends before its last field")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, size: int) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> Bytes:
        """What stands behind a length of so many bytes."""
        return Bytes(self.take(self.number(size)))

    def numbers(self, size: int) -> tuple[int, ...]:
        """All that is left, as numbers."""
        found = []
        while not self.is_empty:
            found.append(self.number(size))
        return tuple(found)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data) - self.at)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self.at == len(self.data)


@attrs.frozen(kw_only=True)
class Hello:
    """What both hellos have.

    Attributes:
        offset: 64-bit stream offset of the record in which it begins.
        legacy_version: its version field; 0x0303 for all from TLS 1.2 on.
        random: 32 bytes.
        session_id: 0 to 32 bytes.
        extensions: (type, content) in the order they were sent, GREASE included.
    """

    offset: int
    legacy_version: int
    random: bytes
    session_id: bytes
    extensions: tuple[tuple[int, bytes], ...]

    def extension(self, kind: int) -> bytes | None:
        """Content of the first extension of a type; None: it is not there."""
        return next((content for k, content in self.extensions if k == kind), None)

    def _read(self, kind: int, read: Callable[[Bytes], _T], otherwise: _T) -> _T:
        content = self.extension(kind)
        return otherwise if not content else read(Bytes(content))

    @property
    def extension_types(self) -> tuple[int, ...]:
        """Types of the extensions, in the order they were sent."""
        return tuple(kind for kind, _ in self.extensions)


@attrs.frozen(kw_only=True)
class ClientHello(Hello):
    """What a client offers.

    Attributes:
        cipher_suites: numbers, in the order of its preference, GREASE included.
        compression_methods: numbers.
        server_name: host name that it asks for (RFC 6066), as sent; None: none, or encrypted.
        alpn: application protocols (RFC 7301), ``"h2"`` for example; bytes outside ASCII are
            escaped.
        supported_versions: numbers; the version field alone where there is no such extension.
        supported_groups, ec_point_formats, signature_algorithms: numbers, GREASE included.
    """

    cipher_suites: tuple[int, ...]
    compression_methods: tuple[int, ...]
    server_name: str | None = attrs.field(init=False)
    alpn: tuple[str, ...] = attrs.field(init=False)
    supported_versions: tuple[int, ...] = attrs.field(init=False)
    supported_groups: tuple[int, ...] = attrs.field(init=False)
    ec_point_formats: tuple[int, ...] = attrs.field(init=False)
    signature_algorithms: tuple[int, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__  # frozen, but not yet whole
        put(self, "server_name", self._read(SERVER_NAME, _host_name, None))
        put(self, "alpn", tuple(map(_text, self._protocols())))
        versions = self._read(VERSIONS, lambda b: b.vector(1).numbers(2), _NONE)
        put(self, "supported_versions", versions or (self.legacy_version,))
        put(self, "supported_groups", self._read(GROUPS, _two_byte_list, _NONE))
        formats = self._read(POINT_FORMATS, lambda b: b.vector(1).numbers(1), _NONE)
        put(self, "ec_point_formats", formats)
        put(self, "signature_algorithms", self._read(SIGNATURES, _two_byte_list, _NONE))

    def _protocols(self) -> tuple[bytes, ...]:
        return self._read(ALPN, _protocol_list, _NO_NAMES)

    @property
    def version(self) -> int:
        """The highest version that it offers, GREASE left out."""
        return max(fingerprint.ungreased(self.supported_versions), default=self.legacy_version)

    @property
    def version_name(self) -> str:
        """Name of :attr:`version`, ``"TLSv1.3"`` for example."""
        return VERSION_NAMES.get(self.version, f"0x{self.version:04x}")

    @property
    def ja3_text(self) -> str:
        """What :attr:`ja3` is the MD5 of."""
        return fingerprint.ja3_text(
            self.legacy_version,
            self.cipher_suites,
            self.extension_types,
            self.supported_groups,
            self.ec_point_formats,
        )

    @property
    def ja3(self) -> str:
        """JA3 fingerprint, 32 hexadecimal digits."""
        return fingerprint.md5(self.ja3_text)

    @property
    def ja4(self) -> str:
        """JA4 fingerprint, ``t13d1516h2_8daaf6152771_e5627efa2ab1`` for example."""
        return self._ja4(raw=False)

    @property
    def ja4_raw(self) -> str:
        """JA4 with its lists in the place of their hashes (JA4_r)."""
        return self._ja4(raw=True)

    def _ja4(self, *, raw: bool) -> str:
        return fingerprint.ja4(
            self.version,
            SERVER_NAME in self.extension_types,
            self.cipher_suites,
            self.extension_types,
            next(iter(self._protocols()), b""),
            self.signature_algorithms,
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class ServerHello(Hello):
    """What a server chose.

    Attributes:
        cipher_suite: number.
        compression_method: number.
        version: number of the version chosen.
        alpn: application protocol chosen, as far as it is sent in the clear (not in TLS 1.3).
    """

    cipher_suite: int
    compression_method: int
    version: int = attrs.field(init=False)
    alpn: str | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        put(self, "version", self._read(VERSIONS, lambda b: b.number(2), self.legacy_version))
        put(self, "alpn", next(map(_text, self._read(ALPN, _protocol_list, _NO_NAMES)), None))

    @property
    def is_retry_request(self) -> bool:
        """Whether it asks for another ClientHello (HelloRetryRequest)."""
        return self.random == RETRY_RANDOM

    @property
    def version_name(self) -> str:
        """Name of :attr:`version`, ``"TLSv1.3"`` for example."""
        return VERSION_NAMES.get(self.version, f"0x{self.version:04x}")

    @property
    def ja3s_text(self) -> str:
        """What :attr:`ja3s` is the MD5 of."""
        return fingerprint.ja3s_text(self.legacy_version, self.cipher_suite, self.extension_types)

    @property
    def ja3s(self) -> str:
        """JA3S fingerprint, 32 hexadecimal digits."""
        return fingerprint.md5(self.ja3s_text)


def client_hello(body: bytes, offset: int) -> ClientHello:
    """A ClientHello from what stands behind the handshake header.

    Raises:
        Malformed: it is none.
    """
    b = Bytes(body)
    return ClientHello(
        offset=offset,
        legacy_version=b.number(2),
        random=b.take(32),
        session_id=b.vector(1).rest(),
        cipher_suites=b.vector(2).numbers(2),
        compression_methods=b.vector(1).numbers(1),
        extensions=_extensions(b),
    )


def server_hello(body: bytes, offset: int) -> ServerHello:
    """A ServerHello from what stands behind the handshake header.

    Raises:
        Malformed: it is none.
    """
    b = Bytes(body)
    return ServerHello(
        offset=offset,
        legacy_version=b.number(2),
        random=b.take(32),
        session_id=b.vector(1).rest(),
        cipher_suite=b.number(2),
        compression_method=b.number(1),
        extensions=_extensions(b),
    )


def _extensions(b: Bytes) -> tuple[tuple[int, bytes], ...]:
    """Everything up to the end; old hellos have none, and no length either."""
    if b.is_empty:
        return ()
    block = b.vector(2)
    if not b.is_empty:
        raise Malformed("bytes behind its extensions")
    found = []
    while not block.is_empty:
        found.append((block.number(2), block.vector(2).rest()))
    return tuple(found)


def _host_name(b: Bytes) -> str | None:
    """The first entry of type host_name."""
    names = b.vector(2)
    while not names.is_empty:
        kind, name = names.number(1), names.vector(2).rest()
        if kind == 0:
            return _text(name)
    return None


def _protocol_list(b: Bytes) -> tuple[bytes, ...]:
    names, found = b.vector(2), []
    while not names.is_empty:
        found.append(names.vector(1).rest())
    return tuple(found)


def _two_byte_list(b: Bytes) -> tuple[int, ...]:
    return b.vector(2).numbers(2)


def _text(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
