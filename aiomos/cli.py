"""The command line: ``aiomos run`` and ``aiomos flows``.

Flags are tcpdump's where it has one, ``-f`` is tshark's, apps are named as in uvicorn.
Results go to standard output, everything else to standard error. Exit status: 0, 1 when
something failed while running, 2 when it could not begin.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from aiomos._engine.errors import AiomosError, ConfigError, SourceError
from aiomos._engine.names import DECODERS
from aiomos._options import CHOICES, Overlap
from aiomos._summary import Summary

_FORMATS = ("table", "jsonl", "csv")


class _OneLine(logging.Formatter):
    """Warnings as one line; errors with the traceback of the user's code."""

    def __init__(self) -> None:
        super().__init__("aiomos: %(message)s")


class _Output(io.FileIO):
    """Standard output. When its reader has gone, the run ends in order and quietly, as filters
    do: raising in the handler that happens to print would make that handler's failure of it."""

    gone = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            if not self.gone and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                signal.raise_signal(signal.SIGINT)  # while a run is on, this stops it
            self.gone = True
            return len(data)


def _watch_output() -> None:
    """Puts ours in the place of Python's; not where somebody put something else there."""
    out = sys.stdout
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return
    raw = _Output(out.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), out.encoding, out.errors, line_buffering=out.line_buffering
    )


def _output_gone() -> bool:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Output) and raw.gone


def _fail(message: object, status: int = 2) -> NoReturn:
    click.echo(f"aiomos: {message}", err=True)
    raise SystemExit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiomos", prog_name="aiomos")
def main() -> None:
    """Middleboxes as easy to write as asyncio servers."""
    _watch_output()
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.getLogger("aiomos").addHandler(handler)


def _names(choices: Sequence[str], value: str | None) -> tuple[str, ...]:
    """The names of a list with commas between them.

    Raises:
        BadParameter: one is no choice.
    """
    found = tuple(name for name in (value or "").split(",") if name)
    for name in found:
        if name not in choices:
            raise click.BadParameter(f"{name!r} is none of {', '.join(choices)}")
    return found


def _decoders(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """What is left to decode."""
    off = _names(DECODERS, value)
    return tuple(name for name in DECODERS if name not in off)


def _key_parts(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    return _names(("vlan", "tunnel"), value)


def _stall(context: click.Context, option: click.Parameter, value: str) -> float | None:
    """Seconds; None for 0 and ``off``."""
    try:
        seconds = 0.0 if value == "off" else float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise click.BadParameter(f"{value!r} is neither a number of seconds from 0 up nor 'off'")
    return seconds or None


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that replays captures."""
    options = (
        click.option("-f", "filter", metavar="EXPR", help="BPF filter for the whole run."),
        click.option("-c", "count", metavar="N", type=click.IntRange(1),
                     help="Stop after N packets."),
        click.option("--strict", is_flag=True, help="Exit with 1 when a capture is cut off."),
        click.option("--no-decode", "decode", metavar="NAME,...", callback=_decoders,
                     help="Leave encapsulations closed: vxlan, gre, vlan, ..."),
        click.option("--key", metavar="vlan,tunnel", callback=_key_parts,
                     help="Tell equal addresses in different networks apart."),
        click.option("--linger", metavar="SECONDS", type=click.FloatRange(0), default=1.0,
                     show_default=True, help="Capture time that handlers get at the end."),
        click.option("--io-patience", metavar="SECONDS", type=click.FloatRange(0), default=5.0,
                     show_default=True, help="How long one I/O operation may hold capture time."),
        click.option("--tasks", type=click.Choice(["engine", "asyncio"]), default="engine",
                     show_default=True, help="Who steps the handlers."),
        click.option("--set", "settings", metavar="NAME=VALUE", multiple=True,
                     help="Engine option: a timeout, a bound or its policy (docs: limits)."),
        click.option("--checksums", type=click.Choice(["auto", "on", "off"]), default="auto",
                     show_default=True, help="Refuse wrong checksums; auto: live only."),
        click.option("--dedup", is_flag=True, help="Count packets that a mirror shows twice once."),
        click.option("--burst", type=click.IntRange(1, 64), default=64, hidden=True),
        click.option("-q", "--quiet", is_flag=True, help="No summary and no progress bar."),
    )  # fmt: skip
    for option in reversed(options):  # the last one applied is shown first
        command = option(command)
    return command


@main.command()
@click.argument("app", metavar="MODULE_OR_FILE[:NAME]")
@click.argument("more", nargs=-1, metavar="[FILE]...")
@click.option(
    "-r", "files", multiple=True, metavar="FILE", help="Capture to replay; - is standard input."
)
@click.option("-w", "write", metavar="FILE", help="Write the packets that passed -f.")
@click.option(
    "-s",
    "snap_length",
    metavar="BYTES",
    type=click.IntRange(0),
    default=0,
    help="Cut packets written by -w.",
)
@click.option(
    "--stall",
    metavar="SECONDS",
    callback=_stall,
    default="0.1",
    show_default=True,
    help="Name a handler that blocks the core for so long; off: never.",
)
@_shared
def run(
    app: str, more: tuple[str, ...], files: tuple[str, ...], write: str | None, snap_length: int,
    **options: Any,
) -> None:  # fmt: skip
    """Replay captures through an app.

    MODULE_OR_FILE[:NAME] is an app as for uvicorn: module:app, or a path to a Python file.
    Several captures are merged by time.
    """
    from aiomos._loader import load_app

    paths = [*files, *more]
    if not paths:
        _fail("no capture given: name one with -r FILE")
    with _errors_in_one_line():
        loaded = load_app(app)
        _replay(loaded, paths, write, snap_length, **options)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--digest", metavar="NAME", help="Add digests of the bytes of both sides: sha256, ..."
)
@click.option("--format", "format", type=click.Choice(_FORMATS), default="table", show_default=True)
@click.option(
    "-o", "out", metavar="OUT", default="-", help="Write there instead of standard output."
)
@click.option("--udp", is_flag=True, help="List UDP flows too.")
@click.option("--stats", is_flag=True, help="Add bytes, round trips and windows of both sides.")
@click.option(
    "--policy",
    type=click.Choice(tuple(CHOICES["overlap"])),
    help="Which of differing copies of a byte counts, until it is acknowledged.",
)
@_shared
def flows(
    files: tuple[str, ...], digest: str | None, format: str, out: str, udp: bool, stats: bool,
    policy: Overlap | None, **options: Any,
) -> None:  # fmt: skip
    """List the connections of captures, in order of their first packets."""
    from aiomos.flows import OPTIONS, make_app, writer_of

    with _errors_in_one_line(), _output(out) as stream:
        app = make_app(
            writer_of(format, stream), digest=digest, udp=udp, stats=stats, policy=policy
        )
        _replay(app, list(files), None, 0, **OPTIONS, **options)


def _replay(
    app: Any, paths: list[str], write: str | None, snap_length: int, *, filter: str | None,
    count: int | None, strict: bool, quiet: bool, settings: tuple[str, ...],
    key: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Runs, reports, and sets the exit status."""
    from aiomos._engine.options import parse_options
    from aiomos._engine.source import open_files
    from aiomos._progress import progress
    from aiomos._runner import run as run_app

    options |= {f"{part}_in_key": True for part in key} | parse_options(settings)
    with open_files(paths) as source, _writer(write, snap_length, source) as writer:
        with progress(source, not quiet):
            summary = run_app(app, source, filter=filter, write=writer, count=count or 0, **options)
        _refuse_unknown_link(summary, source.name)
    sys.stdout.flush()
    if _output_gone():
        raise SystemExit(1)
    status = _warn_about_end(summary, strict)
    if not quiet:
        click.echo(str(summary), err=True)
    if status:
        raise SystemExit(status)


def _refuse_unknown_link(summary: Summary, name: str) -> None:
    """A capture of which not one frame could be decoded for its link type is no input."""
    unknown = summary.counters.get("unknown_link_type", 0)
    if unknown and unknown == summary.processed:
        raise SourceError(f"{name}: unknown link type; Ethernet, 802.11, PPP, HDLC, FDDI, "
                          "Linux cooked, raw IP and loopback captures are read")  # fmt: skip


def _warn_about_end(summary: Summary, strict: bool) -> int:
    """Says how a capture ended when it did not end well; the exit status."""
    if summary.failed:
        _fail(summary.message, status=1)
    if not summary.cut_off:
        return 0
    click.echo(f"aiomos: warning: {summary.message}", err=True)
    return 1 if strict else 0


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error)
    except AiomosError as error:
        _fail(error)


@contextlib.contextmanager
def _output(path: str) -> Iterator[IO[str]]:
    if path == "-":
        yield sys.stdout
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(path).open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        yield stream


@contextlib.contextmanager
def _writer(path: str | None, snap_length: int, source: Any) -> Iterator[Any]:
    if path is None:
        yield None
        return
    from aiomos._engine.source import Writer

    if path.endswith(".pcapng"):
        writer = Writer(path, "pcapng", snap_length)
    else:
        writer = Writer(path, "pcap-ns" if source.time_precision < 1000 else "pcap", snap_length)
    with writer:
        yield writer


if __name__ == "__main__":
    main()
