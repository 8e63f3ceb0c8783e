"""What the commands do: run an app here or in workers, report, and say the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from aiomos._app import App
from aiomos._engine.errors import ConfigError, SourceError
from aiomos._engine.options import parse_options
from aiomos._engine.source import Source
from aiomos._engine.writer import Writer
from aiomos._launch import Launch
from aiomos._linkwatch import link_reported
from aiomos._metrics import worker_stats
from aiomos._output import output_gone, watch_output
from aiomos._ownloop import serve_on_own_loop
from aiomos._progress import progress
from aiomos._reloading import reload
from aiomos._runner import Engine
from aiomos._statsocket import Report, answering
from aiomos._statsview import report_of
from aiomos._summary import Summary


def launch_of(
    app: str, files: tuple[str, ...], interface: str | None, dpdk: tuple[str, ...], *,
    exclusive: bool, force: bool, huge: Any, promiscuous: bool, direction: Any,
    buffer: int | None, pump: int | None, **options: Any,
) -> tuple[Launch, dict[str, Any]]:  # fmt: skip
    """Where frames come from, and the options that are left.

    Raises:
        ConfigError: they come from nowhere, or from more than one place; an option that only an
            interface has was given for a capture.
    """
    _check_place(files, interface, dpdk)
    if interface is None and (exclusive or buffer):
        raise ConfigError("--exclusive and -B are for -i IFACE")
    if files and (pump or options["busy_poll"]):
        raise ConfigError("--receive-pump and --busy-poll are for live traffic: -i or --dpdk")
    launch = Launch(
        app=app,
        files=files,
        interface=interface,
        dpdk=dpdk,
        huge=huge,
        exclusive=exclusive,
        force=force,
        promiscuous=promiscuous,
        direction="both" if direction == "inout" else direction,
        buffer=(buffer or 0) << 10,
        pump=(pump or 0) << 20,
    )
    return launch, options


def _check_place(files: tuple[str, ...], interface: str | None, dpdk: tuple[str, ...]) -> None:
    places = {"-r": files, "-i": interface, "--dpdk": dpdk}
    named = [option for option, value in places.items() if value]
    if not named:
        raise ConfigError(
            "no capture given: name one with -r FILE, an interface with -i, or a port with --dpdk"
        )
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)}: frames come from one of these; say which")


def engine_options(
    settings: tuple[str, ...], key: tuple[str, ...], count: int | None, **options: Any
) -> dict[str, Any]:
    """Keywords of Engine and of run(), from those of the command line."""
    parts = {f"{part}_in_key": True for part in key}
    return options | parts | parse_options(settings) | {"count": count or 0}


def run_here(
    app: App, source: Source, *, strict: bool, quiet: bool, write: str | None = None,
    snap_length: int = 0, spec: str = "", **options: Any,
) -> None:  # fmt: skip
    """Runs an app in this process, reports, and exits with a status if that is not 0."""
    options = engine_options(**options)
    io_patience = options.pop("io_patience")
    with source, _writer(write, snap_length, source) as writer:
        engine = Engine(source, write=writer, **options)
        if source.live:
            watch_output(live=True)
            engine.beside += [answering(lambda: _report_of(engine)), link_reported(source.name)]
            engine.on_start = lambda: _begin(engine, spec, quiet)
        with progress(source, not quiet):
            summary = serve_on_own_loop(engine, app, io_patience)
        _refuse_unknown_link(summary, source.name)
    sys.stdout.flush()
    if output_gone():
        raise SystemExit(1)
    _report(summary, strict, quiet)


def run_workers(
    launch: Launch, workers: int, cores: tuple[int, ...], drain: float, write: str | None, *,
    strict: bool, quiet: bool, io_patience: float, **options: Any,
) -> int:  # fmt: skip
    """Runs an app in so many workers; the exit status."""
    from aiomos._deployment import deployed

    if write:
        raise ConfigError("-w writes from one process: leave --workers and --cores out")
    options = engine_options(**options)
    if launch.live and options["count"]:
        raise ConfigError("-c counts in one process: leave --workers and --cores out")
    with deployed(launch, workers, cores, drain, io_patience, options) as supervisor:
        if launch.live:
            supervisor.on_ready = lambda: _listening(f"{launch.name}, {workers} workers", quiet)
        status = asyncio.run(supervisor.run())
        if supervisor.output_gone:
            return 1
        if status != 2:  # it did begin
            _report(supervisor.summary(), strict, quiet)
    return status


def _begin(engine: Engine, spec: str, quiet: bool) -> None:
    """The app is served, on the running loop."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def again() -> None:
        tasks.add(task := loop.create_task(reload(engine, spec)))
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, again)
    _listening(engine.source.name, quiet)


def _listening(where: str, quiet: bool) -> None:
    """As tcpdump does: what comes from now on is seen."""
    if not quiet:
        click.echo(f"aiomos: listening on {where}", err=True)


async def _report_of(engine: Engine) -> Report:
    return report_of(engine.source.name, [worker_stats(engine)])


def _report(summary: Summary, strict: bool, quiet: bool) -> None:
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
    """Says how a source ended when it did not end well; the exit status."""
    if summary.failed:
        click.echo(f"aiomos: {summary.message}", err=True)
        raise SystemExit(1)
    if not summary.cut_off:
        return 0
    click.echo(f"aiomos: warning: {summary.message}", err=True)
    return 1 if strict else 0


@contextlib.contextmanager
def _writer(path: str | None, snap_length: int, source: Source) -> Iterator[Writer | None]:
    if path is None:
        yield None
        return
    if path.endswith(".pcapng"):
        writer = Writer(path, "pcapng", snap_length)
    else:
        writer = Writer(path, "pcap-ns" if source.time_precision < 1000 else "pcap", snap_length)
    with writer:
        yield writer
