"""Every exception of aiomos, drawn once.

Three families: the *environment* (a file, a filter, a device: raised while setting up),
what a *flow* tells its handler (traffic is data: the engine never raises for it), and
*ourselves*.

::

    AiomosError
     ├── ConfigError (ValueError)          an argument, an option or a declaration is wrong
     │    ├── FilterError                  does not compile, or asks what a flow cannot tell
     │    └── AppError                     cannot be imported; a handler of a wrong kind or use
     ├── SourceError (OSError)             a capture or an interface that cannot be opened or read
     ├── FlowError                         what became of the flow that a handler works on
     │    ├── GapError                     bytes are missing here; reading goes on behind them
     │    ├── FlowReset (ConnectionResetError)
     │    ├── FlowTimeout (TimeoutError)
     │    └── FlowEvicted
     ├── ProtocolError (ValueError)        bytes are not what a protocol reader was asked for
     ├── VerdictError                      a verdict where none is allowed
     └── InternalError                     a bug in aiomos: please report it

asyncio.IncompleteReadError and asyncio.LimitOverrunError are raised where asyncio does.
"""


class AiomosError(Exception):
    """Base of all exceptions that aiomos defines."""


class ConfigError(AiomosError, ValueError):
    """An argument, an option or a declaration is wrong."""


class FilterError(ConfigError):
    """A filter expression that does not compile or that no flow can answer.

    ``expression`` is its text, ``column`` where it went wrong (from 1; None: as a whole),
    ``reason`` what is wrong in a few words. The first line of the message says it all.
    """

    expression: str
    column: int | None
    reason: str


class AppError(ConfigError):
    """An app that cannot be imported, or a handler of a wrong kind."""


class SourceError(AiomosError, OSError):
    """A capture or an interface that cannot be opened, read or written."""


class FlowError(AiomosError):
    """What became of the flow that a handler works on."""


class GapError(FlowError):
    """Bytes are missing at this place of the stream; the next read goes on behind them.

    ``offset`` is the 64-bit stream offset of the first missing byte, ``length`` their
    number, ``cause`` one of the names in :class:`aiomos.Gap`.
    """

    def __init__(self, offset: int, length: int, cause: str) -> None:
        super().__init__(f"{length} bytes missing at offset {offset} ({cause})")
        self.offset = offset
        self.length = length
        self.cause = cause

    def __reduce__(self) -> tuple[type["GapError"], tuple[int, int, str]]:
        return type(self), (self.offset, self.length, self.cause)


class FlowReset(FlowError, ConnectionResetError):
    """The connection was reset by one of its ends."""


class FlowTimeout(FlowError, TimeoutError):
    """The flow expired: no packet came for its idle time."""


class FlowEvicted(FlowError):
    """The engine gave the flow up to stay within its memory budget."""


class ProtocolError(AiomosError, ValueError):
    """The bytes of a stream, or a datagram, are not what a protocol reader was asked for.

    ``protocol`` is "http", "tls", "dns" or "ssh"; ``offset`` the 64-bit stream offset at which
    the message begins that is wrong (of a datagram 0), ``reason`` what is wrong with it in a few
    words.
    """

    def __init__(self, protocol: str, offset: int, reason: str) -> None:
        super().__init__(f"{protocol}: {reason} (message at offset {offset})")
        self.protocol = protocol
        self.offset = offset
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.protocol, self.offset, self.reason)


class VerdictError(AiomosError):
    """A verdict where none is allowed, or one that contradicts another."""


class InternalError(AiomosError):
    """A bug in aiomos. Please report it with the text of this message."""
