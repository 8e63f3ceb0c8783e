"""The command line: ``aiomos run``, ``flows``, ``stats``, ``doctor`` and ``devices``.

Flags are tcpdump's where it has one, ``-f`` is tshark's, apps are named as in uvicorn.
Results go to standard output, everything else to standard error. Exit status: 0, 1 when
something failed while running, 2 when it could not begin.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from aiomos._clioptions import live, shared, stall
from aiomos._engine.errors import AiomosError, ConfigError, SourceError
from aiomos._options import CHOICES, Overlap
from aiomos._output import output_gone, watch_output

_FORMATS = ("table", "jsonl", "csv")


class _OneLine(logging.Formatter):
    """Warnings as one line; errors with the traceback of the user's code."""

    def __init__(self) -> None:
        super().__init__("aiomos: %(message)s")


def _fail(message: object, status: int = 2) -> NoReturn:
    click.echo(f"aiomos: {message}", err=True)
    raise SystemExit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiomos", prog_name="aiomos")
def main() -> None:
    """Middleboxes as easy to write as asyncio servers."""
    watch_output()
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.getLogger("aiomos").addHandler(handler)


@main.command()
@click.argument("app", metavar="MODULE_OR_FILE[:NAME]")
@click.argument("more", nargs=-1, metavar="[FILE]...")
@click.option(
    "-r", "files", multiple=True, metavar="FILE", help="Capture to replay; - is standard input."
)
@live
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
    callback=stall,
    default="0.1",
    show_default=True,
    help="Name a handler that blocks the core for so long; off: never.",
)
@shared
def run(
    app: str, more: tuple[str, ...], files: tuple[str, ...], interface: str | None,
    dpdk: tuple[str, ...], write: str | None, snap_length: int, workers: int | None,
    cores: tuple[int, ...], drain: float, **options: Any,
) -> None:  # fmt: skip
    """Run an app over captures, or on a network interface.

    MODULE_OR_FILE[:NAME] is an app as for uvicorn: module:app, or a path to a Python file.
    Several captures are merged by time.
    """
    from aiomos._command import launch_of, run_here, run_workers
    from aiomos._loader import load_app
    from aiomos._sources import opened

    paths = (*files, *more)
    with _errors_in_one_line():
        launch, options = launch_of(app, paths, interface, dpdk, **options)
        if workers or cores:
            count = workers or len(cores)
            raise SystemExit(run_workers(launch, count, cores, drain, write, **options))
        loaded = load_app(app)
        with opened(launch) as source:
            run_here(
                loaded, source, write=write, snap_length=snap_length, spec=launch.app, **options
            )


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
@shared
def flows(
    files: tuple[str, ...], digest: str | None, format: str, out: str, udp: bool, stats: bool,
    policy: Overlap | None, **options: Any,
) -> None:  # fmt: skip
    """List the connections of captures, in order of their first packets."""
    from aiomos._command import run_here
    from aiomos._engine.source import open_files
    from aiomos.flows import OPTIONS, make_app, writer_of

    with _errors_in_one_line(), _output(out) as stream:
        app = make_app(
            writer_of(format, stream), digest=digest, udp=udp, stats=stats, policy=policy
        )
        run_here(app, open_files(files), **OPTIONS, **options)


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


@main.command()
@click.argument("pid", type=int, required=False)
@click.option("--json", "as_json", is_flag=True, help="As it is told, for programs.")
@click.option(
    "--watch",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    is_flag=False,
    flag_value=1.0,
    help="Again and again, until ^C.",
)
def stats(pid: int | None, as_json: bool, watch: float | None) -> None:
    """Show what a live run has counted, from another terminal.

    PID is the process's; it may be left out where only one runs.
    """
    from aiomos._statsview import show

    with _errors_in_one_line(), contextlib.suppress(KeyboardInterrupt):
        show(pid, as_json, watch)


@main.command()
@click.argument("interfaces", nargs=-1, metavar="[IFACE]...")
@click.option("--json", "as_json", is_flag=True, help="For programs (schema: docs/doctor.md).")
@click.option(
    "--require",
    "required",
    multiple=True,
    type=click.Choice(["tap", "xdp", "dpdk", "workers"]),
    help="Exit with 1 when this way of running is not possible.",
)
def doctor(interfaces: tuple[str, ...], as_json: bool, required: tuple[str, ...]) -> None:
    """Say what this machine offers for each way of running, what is missing, and what mends it.

    IFACE: only these interfaces; otherwise all that are up.
    """
    from aiomos.doctor import examine

    with _errors_in_one_line():
        report = examine(interfaces)
    if as_json:
        _print_json(report.as_dict())
    else:
        from aiomos._doctor_show import print_to, show_report

        print_to(sys.stdout, lambda console: show_report(report, console))
    _finish_output()
    obstacles = [(name, report.obstacle(name)) for name in dict.fromkeys(required)]
    for name, found in obstacles:
        if found is not None:
            click.echo(f"aiomos: {name} is not possible: {found.topic}: {found.text}", err=True)
    if any(found for _, found in obstacles):
        raise SystemExit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs (schema: docs/doctor.md).")
def devices(as_json: bool) -> None:
    """List what can be opened: interfaces, PCI network devices, DPDK's virtual devices."""
    from aiomos._machine import read_machine
    from aiomos.devices import find_devices

    with _errors_in_one_line():
        found = find_devices(read_machine())
    if as_json:
        _print_json(found.as_dict())
    else:
        from aiomos._doctor_show import print_to, show_devices

        print_to(sys.stdout, lambda console: show_devices(found, console))
    _finish_output()


def _finish_output() -> None:
    sys.stdout.flush()
    if output_gone():
        raise SystemExit(1)


def _print_json(value: dict[str, Any]) -> None:
    import json

    from aiomos import __version__

    click.echo(json.dumps({"aiomos": __version__, **value}, indent=2))


if __name__ == "__main__":
    main()
