"""The captures, one script each. Scripts run up to `yield` untapped, after it tapped."""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import subprocess
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage

from lab import demo, ends, servers, site
from lab.impair import Switch, Wire
from lab.netns import CLIENT, SERVER
from lab.record import End
from lab.relay import LOOPBACK
from lab.stage import Capture, Stage, url
from lab.tap import Vantage

QUIET = 0.5
BULK = 180_000


def _web(stage: Stage) -> None:
    stage.closing.enter_context(servers.nginx(stage.lab.server, stage.directory))


def http_v4_loss(stage: Stage) -> Iterator[None]:
    """Two browsers and an upload over IPv4."""
    _web(stage)
    way = stage.serve(80, servers.HTTP)[4]
    yield
    stage.curl(way, url(""), url("photo.bin"), url("long.txt"))
    stage.curl(way, "--data-binary", "@-", url("app/upload"), data=site.noise(25_000, 3))
    stage.curl(way, url("data/3.txt"), url("logo.bin"))
    stage.drain()


def http_v6_reorder(stage: Stage) -> Iterator[None]:
    """Two browsers and an upload over IPv6."""
    _web(stage)
    way = stage.serve(80, servers.HTTP)[6]
    yield
    stage.curl(way, url("news.txt"), url("photo.bin"), url("data/3.txt"))
    stage.curl(way, "--data-binary", "@-", url("app/upload"), data=site.noise(25_000, 4))
    stage.curl(way, "--compressed", url("long.txt"), url("app/stream"))
    stage.drain()


def tls_duplicate(stage: Stage) -> Iterator[None]:
    """TLS 1.3 and 1.2, IPv4 and IPv6."""
    _web(stage)
    ways = stage.serve(443, servers.HTTPS)
    yield
    for version in (4, 6):
        for limit in ("1.3", "1.2"):
            page = url(f"data/{version // 2}.txt", "https")
            stage.curl(ways[version], "-k", "--tls-max", limit, page)
    stage.drain()


def ssh(stage: Stage) -> Iterator[None]:
    """Commands, an upload, and a key that is not let in."""
    key = stage.closing.enter_context(servers.sshd(stage.lab.server, stage.directory))
    ways = stage.serve(22, servers.SSH)
    yield
    stage.ssh(ways[4], key, "seq 1 4000")
    stage.ssh(ways[6], key, "cat", data=site.numbered_lines(9_000, "ssh"))
    stage.ssh(ways[4], stage.directory / "host_key", "true", check=False)
    stage.drain()


def _message(number: int, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "sender@client.example.test"
    message["To"] = "reader@server.example.test"
    message["Subject"] = f"Letter {number}"
    message.set_content(text)
    return message


def smtp_any(stage: Stage) -> Iterator[None]:
    """Letters by Python's smtplib over IPv4 and by curl over IPv6."""
    stage.closing.enter_context(servers.smtp(stage.lab.server))
    ways = stage.serve(25, servers.SMTP)
    yield
    with stage.lab.client.entered():
        client = smtplib.SMTP(LOOPBACK, ways[4], local_hostname=CLIENT.hostname)
    with client:
        client.send_message(_message(1, "Dear reader,\n.\n..a line that begins with dots\n"))
        client.send_message(_message(2, site.numbered_lines(9_000, "letter").decode()))
    letter = bytes(_message(3, "Short.\n"))
    addresses = ("--mail-from", "a@client.example.test", "--mail-rcpt", "b@server.example.test")
    target = f"smtp://{LOOPBACK}:{ways[6]}/{CLIENT.hostname}"
    stage.run("curl", "-q", "-s", *addresses, "-T", "-", target, data=letter)
    stage.drain()


def bulk_lossy(stage: Stage) -> Iterator[None]:
    """Both directions at once, over IPv4 and IPv6 at the same time."""
    yield
    pairs = [ends.pair(stage, version, 9000 + version) for version in (4, 6)]
    talkers = []
    for number, pair in enumerate(pairs):
        for role, end in zip(("client", "server"), pair, strict=True):
            data = site.numbered_lines(BULK, f"{role}{number}")
            talkers.append(threading.Thread(target=_say, args=(end, data), daemon=True))
            talkers.append(threading.Thread(target=end.receive_all, daemon=True))
    for thread in talkers:
        thread.start()
    for thread in talkers:
        thread.join(120)
    for pair in pairs:
        for end in pair:
            end.close()


def _say(end: End, data: bytes) -> None:
    end.send(data)
    end.finish()


@contextlib.contextmanager
def _echo_by_ssh(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    key = stage.closing.enter_context(servers.sshd(stage.lab.server, stage.directory))
    way = stage.serve(22, servers.SSH)[4]
    yield stage.start(
        *stage.ssh_command(way, key, "cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _echo(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write(line)
    process.stdin.flush()
    process.stdout.readline()


def _get(client: http.client.HTTPConnection, path: str) -> None:
    client.request("GET", path, headers={"Host": servers.WEB_NAME})
    client.getresponse().read()


def midstream(stage: Stage) -> Iterator[None]:
    """Three connections are under way and quiet when the capture begins; a fourth is whole."""
    _web(stage)
    web = stage.serve(80, servers.HTTP)
    with stage.lab.client.entered():
        browser = http.client.HTTPConnection(LOOPBACK, web[6])
        browser.connect()
    _get(browser, "/news.txt")
    idle = ends.pair(stage, 4, 9000)
    ends.exchange(idle, 300, 500)
    with _echo_by_ssh(stage) as session:
        _echo(session, b"before\n")
        time.sleep(QUIET)
        stage.ledger.restart()
        yield
        _echo(session, b"after\n")
        _get(browser, "/data/3.txt")
        _echo(session, bytes(site.numbered_lines(2_000, "x").replace(b"\n", b" ")) + b"\n")
        _get(browser, "/style.css")
        stage.curl(web[4], url("data/2.txt"))
        browser.close()
        session.communicate()
    for end in idle:
        end.close()
    stage.drain()


CAPTURES = (
    Capture(
        "http_demo.pcap",
        "a small web site: plain HTTP of every kind, some TLS and SSH beside it; nothing lost",
        demo.play,
        Vantage("client", CLIENT.interface, filter=""),
    ),
    Capture(
        "http_v4_loss.pcap",
        "HTTP over IPv4, 10 % lost each way; what the server sends is seen before the loss",
        http_v4_loss,
        Vantage("server", SERVER.interface),
        Switch(drop=100),
    ),
    Capture(
        "http_v6_reorder.pcap",
        "HTTP over IPv6, a third of the frames overtaken; what the server sends is seen after",
        http_v6_reorder,
        Vantage("client", CLIENT.interface, nano=True),
        Wire(seed=6, reorder=0.35),
    ),
    Capture(
        "tls_duplicate.pcapng",
        "TLS 1.2 and 1.3, 15 % of the frames delivered twice",
        tls_duplicate,
        Vantage("client", CLIENT.interface, nano=True),
        Switch(duplicate=150),
    ),
    Capture(
        "ssh.pcap",
        "SSH seen by the client's own host: large segments, checksums not filled",
        ssh,
        Vantage("client", CLIENT.interface),
        offloads=True,
    ),
    Capture(
        "smtp_any.pcap",
        "SMTP seen by the server's own host on any interface",
        smtp_any,
        Vantage("server", "any", filter="tcp port 25", link_type="LINUX_SLL2"),
        offloads=True,
    ),
    Capture(
        "bulk_lossy.pcap.gz",
        "180 kB each way at once, over IPv4 and IPv6; 5 % lost, 2 % doubled, 10 % overtaken",
        bulk_lossy,
        Vantage("middle", "m0", nano=True),
        Wire(seed=5, drop=0.05, duplicate=0.02, reorder=0.1),
    ),
    Capture(
        "resets.pcap",
        "every way a connection can end: refused, unanswered, reset, half closed, left open",
        ends.play,
        Vantage("client", CLIENT.interface),
        Wire(seed=9, delay=0.005),
    ),
    Capture(
        "midstream.pcap",
        "a capture that begins while three connections are under way",
        midstream,
        Vantage("client", CLIENT.interface),
        offloads=True,
    ),
)
