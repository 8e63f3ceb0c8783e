"""tcpdump at one point of the laboratory, and the form in which its file is kept."""

from __future__ import annotations

import gzip
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lab.frames import write_pcapng
from lab.netns import Lab, Namespace

SETTLE = 0.6


@dataclass(frozen=True)
class Vantage:
    """Where tcpdump stands and how it stamps."""

    host: str
    interface: str
    filter: str = "tcp"
    nano: bool = False
    link_type: str = "EN10MB"

    def namespace(self, lab: Lab) -> Namespace:
        """The namespace of the host."""
        return {"client": lab.client, "middle": lab.middle, "server": lab.server}[self.host]


class Tap:
    """A running tcpdump; `stop` lets the last frames come in and checks that none was missed."""

    def __init__(self, lab: Lab, vantage: Vantage, path: Path) -> None:
        precision = "nano" if vantage.nano else "micro"
        options = ["-i", vantage.interface, "-y", vantage.link_type, "-s0", "-n", "-U"]
        options += ["--immediate-mode", "-B", "16384", f"--time-stamp-precision={precision}"]
        options += ["-Z", "root", "-w", str(path), *vantage.filter.split()]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", vantage.namespace(lab).name, "tcpdump", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._wait_until_listening()

    def _wait_until_listening(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            if "listening on" in line:
                return
        raise RuntimeError("tcpdump did not start")

    def stop(self) -> None:
        """End the capture; raises if the kernel dropped a frame of it."""
        time.sleep(SETTLE)
        self._process.send_signal(signal.SIGINT)
        _, report = self._process.communicate(timeout=10)
        dropped = re.search(r"(\d+) packets? dropped by kernel", report)
        if not dropped or int(dropped[1]):
            raise RuntimeError(f"tcpdump missed frames: {report}")

    def kill(self) -> None:
        """End tcpdump if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def publish(raw: Path, target: Path) -> None:
    """Put tcpdump's file into its place, in the form that the suffix names."""
    if target.suffix == ".gz":
        target.write_bytes(gzip.compress(raw.read_bytes(), 9, mtime=0))
    elif target.suffix == ".pcapng":
        write_pcapng(raw, target)
    else:
        shutil.copyfile(raw, target)
