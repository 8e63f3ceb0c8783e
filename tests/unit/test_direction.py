"""Who is the client where no SYN was seen: guessed, corrected once (docs/decisions/0034)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, SERVER, SYN, Talk, assert_idle
from kit import Tape, aiomos_command, both_tasks

import aiomos
from aiomos._engine._testcore import CoreDriver

#: An FTP server opens its data connection from port 20: the port says that it is the server.
FTP = {"client": ("10.0.0.1", 20), "server": ("10.0.0.2", 40000)}
#: Neither port says anything: who is heard first is taken for the client.
HIGH = {"client": ("10.0.0.1", 50000), "server": ("10.0.0.2", 40000)}


def synack_again(talk):
    """The client's ACK was lost behind the tap, which missed what came before it."""
    talk.c()
    talk.s(flags=SYN | ACK, ack=0)


def upload(talk):
    """Picked up at the client's ACK; the SYN-ACK comes again; then both ends say something."""
    synack_again(talk)
    talk.c(b"from the client")
    talk.s(b"from the server")
    talk.close()


def late_syn(talk):
    """The tap gives the client's SYN behind the server's first words."""
    talk.s(b"220 hello\r\n", ack=0)
    talk.c(flags=SYN, at=-1)
    talk.c(b"QUIT\r\n", at=0)
    talk.s(b"221 bye\r\n")
    talk.close()


def tape_of(script, fields):
    tape = Tape()
    tape.talk(script, **fields)
    return tape


def run(app, script, fields, **options):
    return aiomos.run(app, tape_of(script, fields).source(), **options)


def ports(flow):
    return flow.client.port, flow.server.port


@pytest.fixture
def driver():
    driver = CoreDriver(listen=("Anomaly", "NewData"))
    yield driver
    assert_idle(driver)


# ---- what corrects the guess ---------------------------------------------------------------------


@pytest.mark.parametrize(("script", "fields"), [(upload, FTP), (late_syn, HIGH)])
@pytest.mark.parametrize("burst", [1, 7, 64])
def test_picked_up_syn_of_the_other_end_changes_the_roles_once_and_is_told(script, fields, burst):
    """Row 33."""
    app, told = aiomos.App(), []

    @app.on(aiomos.Anomaly, aiomos.Established, aiomos.ConnectionEnd)
    def note(flow, event, packet):
        told.append((type(event).__name__, getattr(event, "kind", ""), event.side, ports(flow)))

    summary = run(app, script, fields, burst=burst)
    client, server = fields["client"][1], fields["server"][1]
    shows = "server" if script is upload else "client"
    assert told == [
        ("Established", "", "", (server, client)),
        ("Anomaly", "direction_flipped", shows, (client, server)),
        ("ConnectionEnd", "", "", (client, server)),
    ]
    assert summary.counters["tcp_direction_flipped"] == 1


def test_picked_up_events_name_the_sides_by_the_roles_of_that_time(driver):
    upload(Talk(driver.input, **FTP))
    late_syn(Talk(driver.input, **HIGH))
    told = [(e["event"], e["side"], e["new"]) for e in driver.told]
    assert told == [
        ("Anomaly", SERVER, b""),
        ("NewData", CLIENT, b"from the client"),
        ("NewData", SERVER, b"from the server"),
        ("NewData", CLIENT, b"220 hello\r\n"),  # taken for the client by then
        ("Anomaly", CLIENT, b""),
        ("NewData", CLIENT, b"QUIT\r\n"),
        ("NewData", SERVER, b"221 bye\r\n"),
    ]


# ---- what does not -------------------------------------------------------------------------------


def confirmed(talk):
    """A guess that was right; the SYN of its server makes it a simultaneous open, no more."""
    talk.c(b"x")
    talk.c(flags=SYN, at=-1)
    talk.s(flags=SYN, at=-1)


def back_and_forth(talk):
    """Once is enough: both ends claim to have opened it."""
    talk.s(b"x", ack=0)
    talk.c(flags=SYN, at=-1)
    talk.s(flags=SYN, at=-1)


def wrong_number(talk):
    talk.s(b"x", ack=0)
    talk.c(flags=SYN, at=100)
    talk.c(flags=SYN | ACK, at=50)


def seen_from_the_start(talk):
    """A split handshake, in which both ends send SYNs: the first is the client."""
    talk.c(flags=SYN)
    talk.s(flags=SYN)
    talk.c(flags=SYN | ACK, at=-1)
    talk.s()


def synack_first(talk):
    """A flow that begins with its SYN-ACK has shown its direction."""
    talk.s(flags=SYN | ACK, ack=0)
    talk.c(flags=SYN, at=-1)
    talk.s(flags=SYN, at=-1)
    talk.c()


@pytest.mark.parametrize(
    ("script", "flips"),
    [
        (confirmed, 0),
        (back_and_forth, 1),
        (wrong_number, 0),
        (seen_from_the_start, 0),
        (synack_first, 0),
    ],
)
def test_other_syns_change_no_roles(driver, script, flips):
    script(Talk(driver.input, **HIGH))
    assert driver.counters().get("tcp_direction_flipped", 0) == flips
    assert driver.anomalies().count("direction_flipped") == flips


# ---- what handlers see ---------------------------------------------------------------------------


@both_tasks
def test_picked_up_ends_in_hand_stay_the_same_and_change_roles(tasks):
    seen = []

    async def handler(flow):
        first, second = flow.client, flow.server
        seen.append(ports(flow))
        event = await flow.wait(aiomos.Anomaly)
        seen.append((event.kind, ports(flow), flow.server is first, flow.client is second))
        seen.append((first.port, await first.read(), second.port, await second.read()))
        seen.append((flow.key.client_port, repr(flow).split()[-3:]))

    run(handler, upload, FTP, burst=1, tasks=tasks)
    assert seen == [
        (40000, 20),
        ("direction_flipped", (20, 40000), True, True),
        (40000, b"from the server", 20, b"from the client"),
        (20, ["10.0.0.1:20", ">", "10.0.0.2:40000>"]),
    ]


@pytest.mark.parametrize("burst", [1, 64])
def test_reader_of_one_side_is_given_the_right_end_and_keeps_the_one_it_has(burst):
    got = []
    app = aiomos.App()

    @app.tcp(sides="client")
    async def handler(flow):
        had = flow.client
        if burst == 1:
            assert had.port == 40000
            await flow.wait(aiomos.Anomaly)
            got.append(await had.read())
        got.append(await flow.client.read())

    run(app, upload, FTP, burst=burst)
    assert got[-1] == b"from the client"
    assert got[:-1] == [b"from the server"] * (burst == 1)


def test_reader_of_one_side_that_has_stopped_is_given_nothing_new():
    got = []
    app = aiomos.App()

    @app.tcp(sides="client")
    async def handler(flow):
        flow.client.stop()
        await flow.wait(aiomos.Anomaly)
        got.append(await flow.client.read())

    summary = run(app, upload, FTP, burst=1)
    assert got == [b""]
    assert summary.counters["unread_side"] == 0


@pytest.mark.parametrize("burst", [1, 64])
def test_filters_are_judged_again_with_the_roles_corrected(burst):
    """Who has begun goes on; who waits for data under the wrong filter never begins."""
    app, began = aiomos.App(), []

    def reader(name, expression, start):
        @app.tcp(expression, start=start)
        async def handler(flow):
            began.append((name, await flow.server.read()))

        return handler

    reader("wrong, at once", "dst port 20", "established")
    reader("wrong, with data", "dst port 20", "data")
    reader("right, at once", "src port 20", "established")
    reader("right, with data", "dst port 40000 and src port 20", "data")
    reader("either", "port 20", "data")
    run(app, upload, FTP, burst=burst)
    told = dict(began)
    assert len(began) == 4
    assert told.pop("wrong, at once") in (b"from the client", b"from the server")
    assert told == dict.fromkeys(
        ["right, at once", "right, with data", "either"], b"from the server"
    )


def test_filter_that_matches_too_late_gives_the_bytes_from_there_on():
    app, got = aiomos.App(), []

    @app.tcp("dst port 40000", on_gap="skip")
    async def handler(flow):
        got.append((flow.server.offset, await flow.server.read()))

    run(app, late_syn, HIGH, burst=1)
    assert got == [(len(b"220 hello\r\n"), b"221 bye\r\n")]


def test_flow_that_is_passed_changes_roles_without_handlers():
    app, began = aiomos.App(), []

    @app.tcp()
    async def handler(flow):
        began.append(flow)

    summary = run(app, upload, FTP, midstream="accept-flow")
    assert (began, summary.counters["tcp_direction_flipped"]) == ([], 1)


def test_statistics_go_with_the_ends():
    app, found = aiomos.App(statistics=True), []

    @app.on(aiomos.ConnectionEnd)
    def note(flow, event, packet):
        found.append((flow.stats.client.unique_bytes, flow.stats.server.unique_bytes))
        found.append((flow.client.syn_seen, flow.server.syn_seen, flow.midstream))

    run(app, upload, FTP)
    run(app, late_syn, HIGH)
    assert found == [(15, 15), (False, True, True), (6, 20), (True, False, True)]


def test_overlap_policy_of_a_prefix_is_that_of_the_receiver_also_after_the_roles_changed():
    app, got = aiomos.App(overlap={"10.0.0.2/32": "last"}), []

    @app.tcp("dst port 40000", deliver="acked")
    async def handler(flow):
        got.append(await flow.client.read())

    def script(talk):
        synack_again(talk)
        talk.c(b"GOOD")
        talk.c(b"EVIL", at=0)
        talk.s()
        talk.close()

    run(app, script, FTP, burst=1)
    assert got == [b"EVIL"]


@pytest.mark.parametrize("burst", [1, 7, 64])
@pytest.mark.parametrize(("script", "fields"), [(upload, FTP), (late_syn, HIGH)])
def test_listing_names_the_ends_by_their_roles_and_has_all_their_bytes(script, fields, burst):
    from aiomos.flows import OPTIONS, make_app

    lines = []
    app = make_app(lines.append, digest="md5")
    run(app, script, fields, burst=burst, **OPTIONS)
    (line,) = lines
    sizes = (15, 15) if script is upload else (6, 20)
    assert (line["sport"], line["dport"]) == (fields["client"][1], fields["server"][1])
    assert (line["client_bytes"], line["server_bytes"]) == sizes
    assert line["midstream"]


def test_capture_without_the_syn_is_listed_with_its_client_first(tmp_path):
    """Row 33, end to end: a file, the command line."""
    path = tape_of(upload, FTP).write(tmp_path / "upload.pcapng")
    found = aiomos_command("flows", path, "--format", "jsonl")
    (line,) = map(json.loads, found.stdout.splitlines())
    assert [line[k] for k in ("src", "sport", "dst", "dport")] == [
        "10.0.0.1",
        20,
        "10.0.0.2",
        40000,
    ]
    assert (line["client_bytes"], line["server_bytes"], line["reason"]) == (15, 15, "FIN")
