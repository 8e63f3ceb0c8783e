from collections.abc import Sequence

class Filter:
    expression: str
    link_type: int
    def __init__(self, expression: str, link_type: int = 1) -> None: ...
    @property
    def program(self) -> list[tuple[int, int, int, int]]: ...
    @property
    def directed(self) -> bool: ...
    @property
    def reach(self) -> int | None: ...
    def matches(
        self, data: bytes | bytearray | memoryview, wire_len: int | None = None
    ) -> bool: ...

class FrameFilter:
    expression: str | None
    uncompilable: dict[int, str]
    def __init__(self, expression: str | None = None) -> None: ...
    def matches(
        self,
        data: bytes,
        link_type: int = 1,
        *,
        wire_len: int | None = None,
        cuts: Sequence[int] = (),
        vlan: Sequence[int] = (),
        direction: int = 0,
    ) -> bool: ...

def combine(a: str | None, b: str | None) -> str | None: ...
def filter_text(expression: object) -> str | None: ...
