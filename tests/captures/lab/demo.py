"""The demonstration capture: a day at a small web site, with its access log as the truth.

curl talks to nginx with nothing between them. What nginx logged says which requests there were;
what curl's trace holds says which bytes each connection carried; the two must agree.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import servers, site
from lab.netns import CLIENT, SERVER
from lab.record import End
from lab.stage import Row, Stage, url

PORT = 80
HEX_COLUMNS = 48
INTERIM = b"HTTP/1.1 100 Continue\r\n"
PIPELINED = ("/style.css", "/data/1.txt", "/nowhere", "/index.html")
Operation = tuple[str, ...]


@dataclass
class Visit:
    """One running curl, its trace, and the data it reads from standard input."""

    process: subprocess.Popen[bytes]
    trace: Path


def visit(stage: Stage, version: int, *operations: Operation) -> Visit:
    """Start one curl: its operations follow each other on one connection."""
    trace = stage.directory / f"trace{time.monotonic_ns()}"
    address = SERVER.address(version)
    host = f"[{address}]" if version == 6 else address
    args = ["curl", "-q", "-s", "--trace", str(trace)]
    for number, operation in enumerate(operations):
        args += ["--next"] if number else []
        args += ["--connect-to", f"::{host}:{PORT}", "-w", "%{stderr}%{json}\n", *operation]
    process = stage.start(
        *args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    return Visit(process, trace)


def traced(path: Path) -> tuple[bytes, bytes]:
    """The bytes that a curl trace says were sent and received, before curl unpacked them."""
    directions = {"=> Send": bytearray(), "<= Recv": bytearray()}
    current = bytearray()
    for line in path.read_text(encoding="latin-1").split("\n"):
        if line[:3] in ("=> ", "<= ", "== "):
            current = directions.get(line[:7], bytearray())
        elif line:
            current += bytes.fromhex(line.split(": ", 1)[1][:HEX_COLUMNS])
    received = bytes(directions["<= Recv"])
    # curl leaves the empty line behind an interim response out of its trace
    received = received.replace(INTERIM, INTERIM + b"\r\n")
    return bytes(directions["=> Send"]), received


def truth(key: tuple[str, int, str, int], sent: bytes, received: bytes) -> Row:
    """The truth about a connection whose server keeps no digest."""
    row: Row = dict(zip(("src", "sport", "dst", "dport"), key, strict=True))
    for name, data in (("client", sent), ("server", received)):
        row[f"{name}_bytes"] = row[f"{name}_sent_bytes"] = len(data)
        row[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
        row[f"{name}_exact"] = True
    return row | {"end": "fin"}


def finish(stage: Stage, *visits: Visit) -> list[Row]:
    """Wait for visits, note their connections, and give curl's account of each request."""
    accounts: list[Row] = []
    for each in visits:
        _, report = each.process.communicate(timeout=60)
        rows = [json.loads(line) for line in report.splitlines()]
        keys = {
            (row["local_ip"], row["local_port"], row["remote_ip"], row["remote_port"])
            for row in rows
        }
        (key,) = keys  # every operation of a visit used the one connection
        stage.connections.append(truth(key, *traced(each.trace)))
        accounts += rows
    return accounts


def pipelined(stage: Stage, version: int) -> None:
    """Four requests sent at once, answered one after the other, by a client of our own."""
    peer = (SERVER.address(version), PORT)
    sock = stage.lab.client.tcp_socket(version)
    sock.bind((CLIENT.address(version), 0))
    sock.connect(peer)
    key = (*sock.getsockname()[:2], *peer)
    end = End(sock)
    requests = [f"GET {path} HTTP/1.1\r\nHost: {servers.WEB_NAME}\r\n" for path in PIPELINED]
    text = "\r\n".join(requests) + "Connection: close\r\n\r\n"
    end.send(text.encode())
    received = end.receive_all()
    end.close()
    stage.connections.append(truth(key, text.encode(), received))


def reconcile(log: list[Row], accounts: list[Row]) -> list[Row]:
    """nginx's line for each request, with what curl says it sent and got out of the response."""
    numbered: dict[tuple[str, int, int], Row] = {}
    for account in accounts:
        key = (account["local_ip"], account["local_port"])
        index = 1 + sum(other[:2] == key for other in numbered)
        numbered[*key, index] = account
    return [_reconciled(row, numbered.get((row["src"], row["sport"], row["index"]))) for row in log]


def _reconciled(row: Row, account: Row | None) -> Row:
    """nginx counts interim responses as body, and leaves out request bodies it throws away.

    curl leaves out those it sent apart from the header; neither counts anything twice.
    """
    if row.pop("expect"):
        row["wire_body_bytes"] -= len(INTERIM + b"\r\n")
    row["body_bytes"], row["request_body_bytes"] = row["wire_body_bytes"], 0
    if account:
        if account["http_code"] != row["status"]:
            raise RuntimeError(f"curl and nginx differ on {row}")
        uploaded = account["size_upload"]
        row["body_bytes"] = account["size_download"]
        row["request_bytes"] = max(row["request_bytes"], account["size_request"])
        row["request_body_bytes"] = servers.Application.received.get(row["path"], uploaded)
    return row


def check_totals(requests: list[Row], connections: list[Row]) -> None:
    """The requests and responses of a connection add up to the bytes it carried."""
    for connection in connections:
        mine = [row for row in requests if row["sport"] == connection["sport"]]
        for name, direction in (("request_bytes", "client"), ("response_bytes", "server")):
            total = sum(row[name] for row in mine)
            if total != connection[f"{direction}_bytes"]:
                raise RuntimeError(f"{total} {name} do not make up {connection}")


def browse(stage: Stage) -> list[Row]:
    """People read pages."""
    etag = ("-H", f'If-None-Match: "{site.MODIFIED:x}-{len(site.pages()["news.txt"]):x}"')
    accounts = finish(
        stage,
        visit(
            stage, 4,
            (url(""),), (url("style.css"),), (url("logo.bin"),), (url("favicon.ico"),),
            (url("about"),), (url("about/"),),
        ),
    )  # fmt: skip
    time.sleep(0.2)
    accounts += finish(
        stage, visit(stage, 6, (url("news.txt"),), (*etag, url("news.txt")), (url("old"),))
    )
    first, last = ("-r", "0-999"), ("-r", "-500")
    photo = url("photo.bin")
    accounts += finish(
        stage,
        visit(stage, 4, ("-I", photo), (*first, photo), (*last, photo), ("-r", "99999-", photo)),
    )
    accounts += finish(stage, visit(stage, 4, ("-0", url("news.txt"))))
    return accounts


def use_application(stage: Stage, upload: Path) -> list[Row]:
    """Programs post, stream and fail."""
    data = f"@{upload}"
    post = ("--data-binary", "name=value&colour=blue")
    expect = ("-H", "Expect: 100-continue", "--data-binary", data)
    chunked = ("-H", "Transfer-Encoding: chunked", "-T", str(upload))
    accounts = finish(
        stage,
        visit(
            stage, 6,
            (url("app/hello"),), (*post, url("app/form")), (url("app/stream"),),
            ("-X", "DELETE", url("app/item/7")), (*chunked, url("app/item/8")),
        ),
        visit(
            stage, 4,
            (*expect, url("app/upload")), (url("app/fail"),), (url("app/busy"),),
            (*post, url("index.html")), ("-X", "OPTIONS", url("app/hello")),
        ),
    )  # fmt: skip
    guest = ("-u", "guest:guest")
    secret = (url("login"),), (*guest, url("login")), (url("private/"),)
    return accounts + finish(stage, visit(stage, 6, *secret))


def download_at_once(stage: Stage) -> list[Row]:
    """Three downloads share the wire; the compressed one comes in chunks."""
    return finish(
        stage,
        visit(stage, 4, ("--compressed", url("long.txt")), (url("empty.txt"),)),
        visit(stage, 6, (url("data/1.txt"),), (url("data/2.txt"),)),
        visit(stage, 4, (url("data/3.txt"),)),
    )


def background(stage: Stage, https: dict[int, int], ssh: dict[int, int], key: Path) -> None:
    """What else goes on: two TLS connections and one SSH session, relayed and recorded."""
    for version, limit in ((4, "1.3"), (6, "1.2")):
        stage.curl(https[version], "-k", "--tls-max", limit, url("news.txt", "https"))
    stage.ssh(ssh[6], key, "seq 1 200")


def play(stage: Stage) -> Iterator[None]:
    """Run the site for a few seconds."""
    space = stage.lab.server
    log = stage.closing.enter_context(servers.nginx(space, stage.directory, public=True))
    key = stage.closing.enter_context(servers.sshd(space, stage.directory))
    https, ssh = stage.serve(443, servers.HTTPS), stage.serve(22, servers.SSH)
    upload = stage.directory / "upload"
    upload.write_bytes(site.numbered_lines(6_000, "upload"))
    yield
    accounts = browse(stage)
    background(stage, https, ssh, key)
    accounts += use_application(stage, upload)
    pipelined(stage, 6)
    accounts += download_at_once(stage)
    stage.drain()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stage.requests += reconcile([line for line in lines if line["dport"] == PORT], accounts)
    check_totals(stage.requests, stage.connections)
