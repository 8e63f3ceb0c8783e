"""The real servers: nginx with a small application behind it, sshd, an SMTP server."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lab import site
from lab.netns import SERVER, Namespace, command
from lab.relay import LOOPBACK

HTTP, HTTPS, APPLICATION, SSH, SMTP = 8080, 8443, 8081, 2222, 2525
START_PATIENCE = 15.0
WEB_NAME = "www.example.test"

NGINX = """\
daemon off; worker_processes 1; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format truth escape=json '{{"src": "$remote_addr", "sport": $remote_port, '
    '"dst": "$server_addr", "dport": $server_port, "index": $connection_requests, '
    '"method": "$request_method", "path": "$request_uri", "version": "$server_protocol", '
    '"expect": "$http_expect", "status": $status, "wire_body_bytes": $body_bytes_sent, '
    '"request_bytes": $request_length, "response_bytes": $bytes_sent}}';
  access_log {dir}/access.log truth;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  types {{ text/html html; text/css css; text/plain txt; application/octet-stream bin; }}
  gzip_types text/plain; gzip_min_length 100;
  server {{
    {listen}
    ssl_certificate {dir}/tls.crt; ssl_certificate_key {dir}/tls.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    root {dir}/site;
    location = /old {{ return 301 /news.txt; }}
    location /private/ {{ return 403; }}
    location /login {{ auth_basic "staff"; auth_basic_user_file {dir}/users;
      proxy_pass http://{loopback}:{application}; proxy_http_version 1.1; }}
    location /slow/ {{ alias {dir}/site/; limit_rate 20k; }}
    location /long.txt {{ gzip on; }}
    location /app/ {{ proxy_pass http://{loopback}:{application}; proxy_http_version 1.1;
      proxy_set_header Host $host; }}
  }}
}}
"""
SSHD = """\
ListenAddress {loopback}:{port}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintLastLog no
"""


class Application(http.server.BaseHTTPRequestHandler):
    """What stands behind nginx under /app/: echoes, streams, fails."""

    protocol_version = "HTTP/1.1"
    received: ClassVar[dict[str, int]] = {}  # how long the body was that came to each path

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received[self.path] = len(body)
        return body

    def _stream(self) -> None:
        """A body in chunks, whose length nobody knows beforehand."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(6):
            chunk = site.numbered_lines(200 + 150 * number, f"chunk{number}")
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        """Stream, fail, or greet."""
        if self.path == "/app/stream":
            self._stream()
        elif self.path == "/app/fail":
            self._answer(500, b"something broke\n", Content_Type="text/plain")
        elif self.path == "/app/busy":
            self._answer(503, b"come back later\n", Retry_After="5")
        else:
            self._answer(200, b"welcome\n", Set_Cookie="session=1; Path=/")

    def do_POST(self) -> None:
        """Say what was received."""
        body = self._body()
        report = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        self._answer(201, json.dumps(report).encode() + b"\n", Content_Type="application/json")

    def do_PUT(self) -> None:
        """Take a body and answer without one."""
        self._body()
        self._answer(204, b"")

    def do_DELETE(self) -> None:
        """Answer without a body."""
        self._answer(204, b"")

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Say nothing: nginx keeps the log."""


def _listens(space: Namespace, port: int) -> bool:
    with space.tcp_socket(4) as sock:
        return sock.connect_ex((LOOPBACK, port)) == 0


@contextlib.contextmanager
def _running(space: Namespace, port: int, *args: str) -> Iterator[None]:
    """A server that listens on the loopback, until the end of the block."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            space.inside(SERVER.hostname, *args),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + START_PATIENCE
            while not _listens(space, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{args[0]} did not start: {log.read()}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextlib.contextmanager
def application(space: Namespace) -> Iterator[None]:
    """The application behind nginx, in threads of this process."""
    with space.entered():
        server = http.server.ThreadingHTTPServer((LOOPBACK, APPLICATION), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _make_certificate(directory: Path) -> None:
    command(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500"),
        *("-subj", f"/CN={WEB_NAME}", "-addext", f"subjectAltName=DNS:{WEB_NAME}"),
        *("-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")),
    )


@contextlib.contextmanager
def nginx(space: Namespace, directory: Path, *, public: bool = False) -> Iterator[Path]:
    """nginx on the loopback, or with `public` on port 80 of every address; gives its log."""
    site.build(directory / "site")
    _make_certificate(directory)
    (directory / "users").write_text("guest:{PLAIN}guest\n")
    listen = [f"{LOOPBACK}:{HTTP}", f"{LOOPBACK}:{HTTPS} ssl"]
    if public:
        listen += ["80", "[::]:80"]
    config = directory / "nginx.conf"
    config.write_text(
        NGINX.format(
            dir=directory,
            loopback=LOOPBACK,
            application=APPLICATION,
            listen=" ".join(f"listen {address};" for address in listen),
        )
    )
    args = ("nginx", "-e", str(directory / "error.log"), "-c", str(config), "-p", str(directory))
    with application(space), _running(space, HTTP, *args):
        yield directory / "access.log"


@contextlib.contextmanager
def sshd(space: Namespace, directory: Path) -> Iterator[Path]:
    """sshd on the loopback; gives the private key that it lets in."""
    for name in ("host_key", "user_key"):
        path = str(directory / name)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd insists on shutting itself in
    config = directory / "sshd_config"
    config.write_text(SSHD.format(dir=directory, loopback=LOOPBACK, port=SSH))
    args = ("/usr/sbin/sshd", "-D", "-e", "-f", str(config))
    with _running(space, SSH, *args):
        yield directory / "user_key"


@contextlib.contextmanager
def smtp(space: Namespace) -> Iterator[None]:
    """An SMTP server on the loopback that takes every message and forgets it."""
    where = ("-n", "-l", f"{LOOPBACK}:{SMTP}", "-c", "aiosmtpd.handlers.Sink")
    with _running(space, SMTP, "aiosmtpd", *where):
        yield
