"""The head of an HTTP/1 message: start line and header fields, parsed by httptools (llhttp)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from aiomos._optional import missing

try:
    import httptools
except ModuleNotFoundError as error:
    raise missing("http", error) from None

#: The empty line behind the header fields (RFC 9112 section 2.1; a lone LF by section 2.2).
EMPTY_LINE = re.compile(rb"\n\r?\n")

_TOKEN = (
    rb"GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE"
    rb"|LOCK|UNLOCK|REPORT|SEARCH|PURGE|MERGE|CHECKOUT|M-SEARCH|NOTIFY|SUBSCRIBE|UNSUBSCRIBE"
)
#: What a message begins with, for finding the next one behind bytes that were not understood.
REQUEST_LINE = re.compile(rb"(?:" + _TOKEN + rb") [^ \t\r\n]{1,8000} HTTP/1\.[01]\r?\n")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [^\r\n]{0,8000})?\r?\n")


_LONE_LF = re.compile(rb"(?<!\r)\n")
_SPACE_BEFORE_COLON = re.compile(rb"^([!#-9;-~]+)[ \t]+:", re.MULTILINE)


def mended_request(head: bytes) -> bytes:
    """A head as llhttp takes it, from one as servers do (RFC 9112 section 2.2)."""
    return _LONE_LF.sub(b"\r\n", head)


def mended_response(head: bytes) -> bytes:
    """The same as clients take it: besides, with spaces behind a field's name (section 5.1)."""
    return _SPACE_BEFORE_COLON.sub(rb"\1:", mended_request(head))


class Headers:
    """Header fields in the order they were sent; names are looked up without regard to case.

    Shaped like :class:`email.message.Message`: ``headers["Host"]``, ``get``, ``get_all``,
    ``items``; a name may be there several times. Decoded as Latin-1 (RFC 9110 section 5.5).
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)

    def get(self, name: str, default: str = "") -> str:
        """The value of the first field of that name."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of that name."""
        name = name.lower()
        return [value for key, value in self._fields if key.lower() == name]

    def items(self) -> tuple[tuple[str, str], ...]:
        """All fields as (name, value)."""
        return self._fields

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name)
        return self.get(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other._fields == self._fields

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        return f"Headers({list(self._fields)!r})"


def tokens(value: str) -> list[str]:
    """The members of a comma-separated list, in lower case (RFC 9110 section 5.6.1)."""
    return [member.strip().lower() for member in value.split(",") if member.strip()]


class HeadParser:
    """One head, fed as it comes. Holds what llhttp tells."""

    def __init__(self, kind: type[httptools.HttpRequestParser | httptools.HttpResponseParser]):
        self.target = b""
        self.reason = b""
        self.fields: list[tuple[str, str]] = []
        self.complete = False
        self.parser = kind(self)
        # Folded and odd field values, as real ends take them. Lengths that contradict each other
        # stay errors.
        self.parser.set_dangerous_leniencies(lenient_headers=True)

    # -- called by httptools --

    def on_url(self, data: bytes) -> None:
        """Part of the request target."""
        self.target += data

    def on_status(self, data: bytes) -> None:
        """Part of the reason phrase."""
        self.reason += data

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self.fields.append((name.decode("latin-1"), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """The empty line was seen."""
        self.complete = True

    # -- called by the reader --

    def feed(self, data: bytes) -> str:
        """Takes more of the head; what is wrong with it, or "" so far."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the head is whole; what follows is the reader's to judge
        except httptools.HttpParserError as error:
            return str(error) or "not HTTP/1"
        return ""
