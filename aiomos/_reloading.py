"""Reload: the app's present sources for new flows, said in a line whichever way it goes."""

from __future__ import annotations

import logging

from aiomos._engine.errors import AiomosError
from aiomos._loader import load_again
from aiomos._runner import Engine

log = logging.getLogger("aiomos")


async def reload(engine: Engine, spec: str) -> None:
    """New flows on the app's present code; what cannot be served leaves all as it was."""
    try:
        await engine.reload(load_again(spec))
    except AiomosError as error:
        log.error("not reloaded, the old code goes on: %s", error)
    except Exception as error:
        log.error("not reloaded, the old code goes on: %s: %s", type(error).__name__, error)
    else:
        log.warning("reloaded: new flows are on new code")
