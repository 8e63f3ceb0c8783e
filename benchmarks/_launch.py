"""Runs one program and prints, after its output, what the kernel says it used.

A process of its own, started with as few modules as can be: a child's peak memory begins at its
parent's, so the parent has to be small (about 9 MiB, below which no figure can fall).
"""

import json
import os
import sys
import time


def main() -> int:
    command = sys.argv[1:]
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - began
    used = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}
    print(json.dumps(used), flush=True)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main() % 256)
