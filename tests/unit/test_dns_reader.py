"""DNS messages over UDP and TCP, through the engine; made by dnspython."""

from __future__ import annotations

import sys
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, SERVER, START, datagram
from kit import MILLISECOND, Tape, both_tasks, play

import aiomos
from aiomos import dns as reader


def query(name="www.example.org", kind="A", ident=1):
    return dns.message.make_query(name, kind, id=ident)


def answer(to, address="192.0.2.1"):
    found = dns.message.make_response(to)
    found.answer.append(dns.rrset.from_text(to.question[0].name, 60, "IN", "A", address))
    return found


def framed(*messages):
    wires = [m if isinstance(m, bytes) else m.to_wire() for m in messages]
    return b"".join(len(w).to_bytes(2, "big") + w for w in wires)


def over_udp(make, *said, tasks="engine"):
    """What `make(flow)` gave for datagrams (side, message or bytes), one a millisecond."""
    tape = Tape()
    for number, (side, message) in enumerate(said):
        wire = message if isinstance(message, bytes) else message.to_wire()
        ends = (("10.0.0.1", 4000), ("10.0.0.2", 53))
        raw = datagram(wire, ends[side], ends[1 - side])
        tape.add(raw, START + number * MILLISECOND)
    found = []
    app = aiomos.App()

    @app.udp("port 53")
    async def handler(flow):
        found.extend([item async for item in make(flow)])

    assert aiomos.run(app, tape.source(), tasks=tasks).handler_errors == 0
    return found


def over_tcp(make, script, **options):
    found = []
    app = aiomos.App()

    @app.tcp(**options)
    async def handler(flow):
        try:
            async for item in make(flow):
                found.append(item)
        except aiomos.GapError as error:
            found.append(error)

    assert play(app, script).handler_errors == 0
    return found


def said(*turns, size=1000, close=True):
    def script(t):
        t.handshake()
        for side, data in turns:
            for at in range(0, len(data), size):
                t.say(side, 0x10, data[at : at + size])
                t.say(1 - side, 0x10)
        if close:
            t.close()

    return script


def told(items):
    return [
        (i.sender, i.is_response, i.name, i.rdtype) if isinstance(i, reader.Message) else type(i)
        for i in items
    ]


@both_tasks
def test_datagrams_are_messages_in_order_with_their_senders(tasks):
    ask = query("WWW.Example.ORG", "AAAA")
    found = over_udp(reader.messages, (CLIENT, ask), (SERVER, answer(ask)), tasks=tasks)
    assert told(found) == [
        ("client", False, "www.example.org", "AAAA"),
        ("server", True, "www.example.org", "AAAA"),
    ]
    assert found[0].time == START / 1e9
    assert found[1].message.answer[0][0].to_text() == "192.0.2.1"
    assert (found[0].size, found[0].offset) == (len(ask.to_wire()), 0)


def test_query_and_answer_are_one_exchange_with_its_time():
    one, two = query("a.example", ident=1), query("b.example", ident=2)
    found = over_udp(
        reader.exchanges, (CLIENT, one), (CLIENT, two), (SERVER, answer(two)), (SERVER, answer(one))
    )
    assert [(e.name, e.rdtype, round(e.seconds, 6)) for e in found] == [
        *(("b.example", "A", 0.001), ("a.example", "A", 0.003)),
    ]


def test_query_sent_again_counts_once_and_from_its_first_time():
    ask = query()
    (exchange,) = over_udp(reader.exchanges, (CLIENT, ask), (CLIENT, ask), (SERVER, answer(ask)))
    assert exchange.seconds == pytest.approx(0.002, abs=1e-6)


def test_answer_with_another_id_or_name_belongs_to_no_query():
    ask = query(ident=7)
    found = over_udp(
        reader.exchanges,
        *((CLIENT, ask), (SERVER, answer(query(ident=8)))),
        (SERVER, answer(query("other.example", ident=7))),
    )
    assert [(e.query is None, e.response is None) for e in found] == [
        *((True, False), (True, False), (False, True)),
    ]
    assert found[2].seconds is None


def test_refusal_without_a_question_answers_by_its_id():
    ask = query(ident=9)
    refusal = dns.message.make_response(ask)
    refusal.question = []
    refusal.set_rcode(1)
    (exchange,) = over_udp(reader.exchanges, (CLIENT, ask), (SERVER, refusal))
    assert exchange.query is not None
    assert exchange.response is not None
    assert exchange.name == "www.example.org"


def test_queries_beyond_the_limit_are_given_up_oldest_first(monkeypatch):
    monkeypatch.setattr(reader, "WAITING_LIMIT", 2)
    asks = [(CLIENT, query(ident=n)) for n in range(1, 5)]
    found = over_udp(reader.exchanges, *asks)
    assert [e.query.message.id for e in found] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", bytes(11), b"\0\1\1\0\0\1\0\0\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"),
        b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",  # a name that points to itself
        b"\0\1\1\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_malformed_datagram_is_reported_and_the_next_is_read(data):
    ask = query()
    found = over_udp(reader.messages, (CLIENT, ask), (CLIENT, data), (SERVER, answer(ask)))
    items = [item for item in found if isinstance(item, reader.Malformed)]
    assert len(items) == (1 if data else len(items))
    assert [item.data for item in items] == [data] * len(items)
    assert all(isinstance(item.error, aiomos.ProtocolError) for item in items)
    assert len(told(found)) - len(items) == 2


def test_bytes_behind_the_last_record_are_told():
    (found,) = over_udp(reader.messages, (CLIENT, query().to_wire() + b"junk"))
    assert (found.has_junk, found.name) == (True, "www.example.org")


def test_signed_message_is_read_without_its_key():
    ask = query()
    ask.use_tsig(dns.tsigkeyring.from_text({"key.": "aaaa"}))
    (found,) = over_udp(reader.messages, (CLIENT, ask))
    assert found.message.had_tsig


# ---- TCP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_stream_gives_messages_of_both_sides_in_order_of_time(size):
    asks = [query(f"{n}.example", ident=n) for n in range(1, 4)]
    turns = [(CLIENT, framed(asks[0], asks[1])), (SERVER, framed(answer(asks[0])))]
    turns += [(CLIENT, framed(asks[2])), (SERVER, framed(answer(asks[1]), answer(asks[2])))]
    found = over_tcp(reader.messages, said(*turns, size=size))
    assert [(i.sender, i.message.id) for i in found] == [
        *(("client", 1), ("client", 2), ("server", 1), ("client", 3)),
        *(("server", 2), ("server", 3)),
    ]
    assert found[1].offset == len(framed(asks[0]))


def test_transfer_is_an_exchange_for_each_of_its_messages():
    ask = query("example", "AXFR")
    turns = [(CLIENT, framed(ask)), (SERVER, framed(answer(ask), answer(ask)))]
    found = over_tcp(reader.exchanges, said(*turns))
    assert [(e.query is not None, e.response is not None) for e in found] == [(True, True)] * 2


@pytest.mark.replay_loop
def test_side_that_says_nothing_does_not_keep_the_other_waiting():
    data = framed(*[answer(query(ident=n)) for n in range(1, 3000)])
    found = over_tcp(reader.messages, said((CLIENT, framed(query())), (SERVER, data)))
    assert len(found) == 3000


def test_wrong_message_in_a_stream_is_reported_and_the_next_is_read():
    found = over_tcp(reader.messages, said((CLIENT, framed(query(), b"bad", b"", query()))))
    assert [type(i) for i in found] == [
        *(reader.Message, reader.Malformed, reader.Malformed, reader.Message),
    ]
    assert found[1].error.offset == len(framed(query()))


def test_stream_that_ends_inside_a_message_is_reported():
    data = framed(query())
    found = over_tcp(reader.messages, said((CLIENT, data + data[:-3])))
    assert [type(i) for i in found] == [reader.Message, reader.Malformed]
    assert found[1].data == data[:-3]


def holed(lost_at, length, close=True):
    data = framed(query(ident=1), query("b" * 40 + ".example", ident=2), query(ident=3))

    def script(t):
        t.handshake()
        t.c(data[:lost_at])
        t.skip(CLIENT, length)
        t.c(data[lost_at + length :])
        t.s()
        t.rest(1)
        t.close()

    return script


def test_gap_inside_a_message_costs_that_message_only():
    first = len(framed(query(ident=1)))
    found = over_tcp(reader.messages, holed(first + 10, 20), on_gap="skip")
    assert [i.message.id if isinstance(i, reader.Message) else "lost" for i in found] == [
        *(1, "lost", 3),
    ]
    found = over_tcp(reader.messages, holed(first + 10, 20))
    assert isinstance(found[-1], aiomos.GapError)


def test_gap_over_a_length_ends_that_side():
    first = len(framed(query(ident=1)))
    found = over_tcp(reader.messages, holed(first - 2, 10), on_gap="skip")
    assert [type(i) for i in found] == [reader.Malformed]
    assert "nobody knows" in found[0].error.reason
