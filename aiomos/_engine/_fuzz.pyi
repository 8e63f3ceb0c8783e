"""Types of the fuzz target (built only with -Dtesting_hooks=true or -Dfuzz_target=...)."""

ENTRY: int

def play(script: bytes, *, doubting: bool = False, tell: bool = False) -> str | None: ...
