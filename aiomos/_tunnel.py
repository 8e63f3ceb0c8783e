"""What is around a connection's packets: one network carried by another."""

from __future__ import annotations

import attrs


@attrs.frozen
class Tunnel:
    """One encapsulation, as the connection's first packet had it.

    Attributes:
        kind: ``vxlan``, ``geneve``, ``gre``, ``nvgre``, ``erspan``, ``pptp``, ``eoip``,
            ``etherip``, ``ipip``, ``6in4``, ``4in6``, ``6in6``, ``l2tp``, ``teredo``, ``gtpu``,
            ``mpls``, ``pppoe`` or ``pbb``.
        id: its number: virtual network (VXLAN, Geneve, NVGRE, PBB), key (GRE), label (MPLS: the
            one at the bottom of the stack), session (ERSPAN, PPPoE), call (PPTP), tunnel
            (EoIP, GTP-U), tunnel in the upper and session in the lower 16 bits (L2TP).
            None where it has none.
        source: outer source address as text; "" where no IP carries it (MPLS, PPPoE, PBB).
        destination: outer destination address as text.
    """

    kind: str
    id: int | None = None
    source: str = ""
    destination: str = ""

    def __str__(self) -> str:
        return self.kind if self.id is None else f"{self.kind}:{self.id}"
