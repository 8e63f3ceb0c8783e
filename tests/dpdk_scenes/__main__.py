"""Plays one scene: what happens in a process of its own when DPDK is tested; see dpdk_kit.py.

Called as `python tests/dpdk_scenes SCENE JSON`. A scene is a function of one of the modules beside
this one; it returns what can be written as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import captures
import devices
import live
import peers
import processes
import startup
import taps
from stage import say

MODULES = (captures, devices, live, peers, taps, processes, startup)


def scene_of(name: str) -> Callable[..., Any]:
    """The one function of this name; ValueError where there is none, or more than one."""
    [module] = [m for m in MODULES if getattr(vars(m).get(name), "__module__", "") == m.__name__]
    scene: Callable[..., Any] = getattr(module, name)
    return scene


def main() -> None:
    scene = scene_of(sys.argv[1])
    try:
        say(scene(**json.loads(sys.argv[2])))
    except Exception as error:
        print(json.dumps({"raised": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
