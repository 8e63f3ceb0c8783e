"""The proof that a flow filter reads only what a flow has."""

from collections.abc import Callable, Iterator

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Value = int | None  # None: any
State = tuple[int, Value, Value, tuple[Value, ...]]  # instruction, A, X, scratch memory

_STATES_MAX = 200_000  # of one proof: far above what 1 000 addresses need
_TCP, _UDP, _SYN = 6, 17, 2

# The encoding of BPF: code = class | size | mode (loads), class | operation | source.
BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_RET, BPF_MISC = range(8)
BPF_H, BPF_B = 0x08, 0x10
BPF_IMM, BPF_ABS, BPF_IND, BPF_MEM, BPF_LEN, BPF_MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50
BPF_LSH, BPF_RSH, BPF_NEG, BPF_MOD, BPF_XOR = 0x60, 0x70, 0x80, 0x90, 0xA0
BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET = 0x00, 0x10, 0x20, 0x30, 0x40
BPF_X, BPF_A, BPF_TXA = 0x08, 0x10, 0x80

# Bytes of a probe that say nothing of the flow: (first, end, name) by header.
_UNTOLD = {
    "ip": (
        (1, 2, "type of service"),
        (2, 4, "total length"),
        (4, 6, "identification"),
        (8, 9, "time to live"),
        (10, 12, "header checksum"),
    ),
    "ip6": ((1, 4, "traffic class and flow label"), (4, 6, "payload length"), (7, 8, "hop limit")),
    "tcp": (
        (4, 8, "sequence number"),
        (8, 12, "acknowledgement number"),
        (12, 13, "header length"),
        (14, 16, "window"),
        (16, 18, "checksum"),
        (18, 20, "urgent pointer"),
    ),
    "udp": ((4, 6, "length"), (6, 8, "checksum")),
}


class Unanswerable(Exception):
    """A filter reads what a flow does not have; the text says what."""


class _Shape:
    """A kind of probe frame: what each byte holds, as far as it is known beforehand."""

    def __init__(self, network: str, transport: str, n_vlan: int) -> None:
        self.network, self.transport = network, transport
        self.ip = 14 + 4 * n_vlan
        self.l4 = self.ip + (20 if network == "ip" else 40)
        self.end = self.l4 + (20 if transport == "tcp" else 8)
        known: dict[int, int] = {}
        for i in range(n_vlan):
            known[12 + 4 * i] = 0x88 if i + 1 < n_vlan else 0x81
            known[13 + 4 * i] = 0xA8 if i + 1 < n_vlan else 0x00
        known[self.ip - 2], known[self.ip - 1] = (8, 0) if network == "ip" else (0x86, 0xDD)
        protocol = _TCP if transport == "tcp" else _UDP
        if network == "ip":
            known.update({self.ip: 0x45, self.ip + 6: 0, self.ip + 7: 0, self.ip + 9: protocol})
        else:
            known.update({self.ip: 0x60, self.ip + 6: protocol})
        if transport == "tcp":
            known[self.l4 + 13] = _SYN
        self.known = known

    def load(self, at: int, size: int) -> Value:
        """The value at a place, None if flows differ in it; Unanswerable."""
        value: Value = 0
        for i in range(at, at + size):
            self.refuse_untold(i)
            byte = self.known.get(i)
            value = None if value is None or byte is None else value << 8 | byte
        return value

    def refuse_untold(self, at: int) -> None:
        if at >= self.end:
            raise Unanswerable("the payload")
        header, start = (self.transport, self.l4) if at >= self.l4 else (self.network, self.ip)
        for first, end, name in _UNTOLD[header]:
            if first <= at - start < end:
                raise Unanswerable(f"{header}[{at - start}], the {name}")


_ALU: dict[int, Callable[[int, int], int]] = {
    BPF_ADD: lambda a, b: a + b,
    BPF_SUB: lambda a, b: a - b,
    BPF_MUL: lambda a, b: a * b,
    BPF_DIV: lambda a, b: a // b if b else 0,
    BPF_MOD: lambda a, b: a % b if b else 0,
    BPF_OR: lambda a, b: a | b,
    BPF_AND: lambda a, b: a & b,
    BPF_XOR: lambda a, b: a ^ b,
    BPF_LSH: lambda a, b: a << b if b < 32 else 0,
    BPF_RSH: lambda a, b: a >> b,
    BPF_NEG: lambda a, b: -a,
}
_TEST: dict[int, Callable[[int, int], bool]] = {
    BPF_JEQ: lambda a, b: a == b,
    BPF_JGT: lambda a, b: a > b,
    BPF_JGE: lambda a, b: a >= b,
    BPF_JSET: lambda a, b: a & b != 0,
}


class _Proof:
    """Runs a program over all flows of one shape at once.

    A state is (instruction, A, X, scratch memory); a value is a number or None for "any".
    A test on a known value is followed one way, on an unknown one both ways: so just
    those loads are seen that some flow of this shape could bring about.
    """

    def __init__(self, program: list[Instruction], shape: _Shape) -> None:
        self.program, self.shape = program, shape
        self.can_match = False

    def run(self) -> bool:
        todo: list[State] = [(0, 0, 0, (None,) * 16)]
        seen = set(todo)
        while todo:
            for state in self.step(*todo.pop()):
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
            if len(seen) > _STATES_MAX:
                raise Unanswerable("too much to be checked")
        return self.can_match

    def step(self, pc: int, a: Value, x: Value, memory: tuple[Value, ...]) -> Iterator[State]:
        """The states that may follow."""
        code, jt, jf, k = self.program[pc]
        kind = code & 0x07
        if kind == BPF_RET:
            answer: Value = a if code & 0x18 == BPF_A else k
            self.can_match |= answer is None or answer != 0
            return
        if kind == BPF_JMP:
            for offset in self.jump(code, jt, jf, k, a, x):
                yield pc + 1 + offset, a, x, memory
            return
        if kind == BPF_LD:
            a = self.load(code, k, x, memory)
        elif kind == BPF_LDX:
            x = self.load(code, k, x, memory)
        elif kind in (BPF_ST, BPF_STX):
            memory = (*memory[:k], a if kind == BPF_ST else x, *memory[k + 1 :])
        elif kind == BPF_ALU:
            a = self.calculate(code, a, x if code & BPF_X else k)
        elif code & 0xF8 == BPF_TXA:
            a = x
        else:
            x = a
        yield pc + 1, a, x, memory

    def load(self, code: int, k: int, x: Value, memory: tuple[Value, ...]) -> Value:
        mode = code & 0xE0
        if mode == BPF_IMM:
            return k
        if mode == BPF_MEM:
            return memory[k]
        if mode == BPF_LEN:
            raise Unanswerable("the length of a frame")
        if mode == BPF_MSH:
            first = self.shape.load(k, 1)
            return None if first is None else 4 * (first & 0x0F)
        if mode == BPF_ABS:
            x = 0
        if x is None:
            raise Unanswerable("a byte whose place differs from flow to flow")
        size = {BPF_H: 2, BPF_B: 1}.get(code & 0x18, 4)
        return self.shape.load(k + x & 0xFFFFFFFF, size)

    def calculate(self, code: int, a: Value, b: Value) -> Value:
        if a is None or b is None:
            return None
        return _ALU[code & 0xF0](a, b) & 0xFFFFFFFF

    def jump(self, code: int, jt: int, jf: int, k: int, a: Value, x: Value) -> tuple[int, ...]:
        """The distances it may go."""
        if code & 0xF0 == BPF_JA:
            return (k - (1 << 32) if k >> 31 else k,)
        b = x if code & BPF_X else k
        if a is None or b is None:
            return jt, jf
        return (jt if _TEST[code & 0xF0](a, b) else jf,)


def prove(program: list[Instruction], with_vlan: bool) -> dict[str, bool]:
    """Whether some TCP, some UDP flow can match; Unanswerable if it cannot be judged."""
    # Tagged first: there the names of what is read are the right ones.
    tags = (1, 2, 0) if with_vlan else (0,)
    can = {"tcp": False, "udp": False}
    for n_vlan in tags:
        for transport in can:
            for network in ("ip", "ip6"):
                can[transport] |= _Proof(program, _Shape(network, transport, n_vlan)).run()
    return can
