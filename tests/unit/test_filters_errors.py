"""A filter that does not compile: what is wrong, and where, in one line and a mark."""

from __future__ import annotations

import pickle

import pytest

from aiomos._engine.errors import ConfigError, FilterError
from aiomos._engine.filters import Filter, FrameFilter
from aiomos._engine.flowfilters import FilterSet

# expression, what is marked ("$" = one place behind the end, None = no place), what is wrong
MISTAKES = [
    ("hots 1.2.3.4", "hots", "syntax error at 'hots'"),
    ("tcp prot 80", "prot", "syntax error at 'prot'"),
    ("port 80 prot", "prot", "syntax error at 'prot'"),
    ("tcp.port == 80", "tcp.port", "syntax error at 'tcp.port'"),
    ("port = 80", "=", "syntax error at '='"),
    ("port 80 & port 90", "&", "syntax error at '&'"),
    ("tcp flags syn", "flags", "syntax error at 'flags'"),
    ("port http or", "$", "syntax error at the end"),
    ("port", "$", "syntax error at the end"),
    ("tcp port  ", "port+2", "syntax error at the end"),
    ("not", "$", "syntax error at the end"),
    ("tcp[13] &", "$", "syntax error at the end"),
    ("ip6[40]", "$", "syntax error at the end"),
    ("(port 80", "(", "'(' is never closed"),
    ("udp or (tcp and (port 53)", "(tcp"[:1], "'(' is never closed"),
    ("(port 80 and", "$", "syntax error at the end"),
    ("port 80)", ")", "syntax error at ')'"),
    ("()", ")", "syntax error at ')'"),
    ("port 99999", "99999", "illegal port number 99999 > 65535"),
    ("udp or port 99999 or tcp", "99999", "illegal port number 99999 > 65535"),
    ("port nosuchservice", "nosuchservice", "unknown port 'nosuchservice'"),
    ("port 80-90", "80-90", "unknown port '80-90'"),
    ("ip proto foo and tcp", "foo", "unknown ip proto 'foo'"),
    ("vlan 5000 or tcp", "5000", "VLAN tag 5000 greater than maximum 4095"),
    ("net 10.0.0.0/33 or tcp", "33", "mask length must be <= 32"),
    ("net 1.2.3.4/8", "1.2.3.4/8", 'non-network bits set in "1.2.3.4/8"'),
    ("host 1.2.3.444 or tcp", "1.2.3.444", "invalid IPv4 address '1.2.3.444'"),
    ("tcp host 1.2.3.4 or udp", "tcp", "'tcp' modifier applied to host"),
    ("ether host 1.2.3.4 and tcp", "1.2.3.4", "illegal link layer address"),
    ("tcp[0:3] = 1", "3", "data size must be 1, 2, or 4"),
    ("tcp[100000000000] = 1", "100000000000", "syntax error at '100000000000'"),
    ("port 80 é", "é", "syntax error at 'é'"),
    ("port 80; drop", ";", "syntax error at ';'"),
    ("type mgt subtyp beacon", "subtyp", "syntax error at 'subtyp'"),
    ("tcp\nand prot 3", "prot", "syntax error at 'prot'"),
    ("tcp and prot", "prot", "syntax error at 'prot'"),
    ("tcp and\0 udp", "\0", "it contains a NUL character"),
    ("ip and arp", None, "expression rejects all packets"),
]


def place(expression: str, marked: str | None) -> int | None:
    if marked is None:
        return None
    if marked == "$":
        return len(expression) + 1
    if marked == "port+2":
        return len(expression.rstrip()) + 1
    return expression.index(marked) + 1


@pytest.mark.parametrize(("expression", "marked", "reason"), MISTAKES)
def test_expression_with_a_mistake_raises_with_its_place(
    expression: str, marked: str | None, reason: str
) -> None:
    column = place(expression, marked)
    with pytest.raises(FilterError) as caught:
        FrameFilter(expression)
    error = caught.value
    assert (error.reason, error.column, error.expression) == (reason, column, expression)
    first, shown, *mark = str(error).split("\n")
    where = "" if column is None else f" (column {column})"
    assert first == f"filter does not compile: {reason}{where}"
    assert shown == "  " + expression.replace("\n", " ").replace("\0", " ")
    assert [line.index("^") - 1 for line in mark] == ([] if column is None else [column])


def test_mark_is_as_long_as_the_word() -> None:
    with pytest.raises(FilterError) as caught:
        FrameFilter("tcp prot 80")
    assert str(caught.value).split("\n")[2] == "      ^~~~"


@pytest.mark.parametrize(("expression", "column"), [
    ("tcp[4:4] prot", 10), ("ip6 host 2001:db8::1 prot", 22), ("ether host 1:2:3:4:5:6 prot", 24),
    ("tcp[tcpflags]&tcp-syn!=0 prot", 26), ("(tcp)||(udp)prot", 13), ("net 10.0/16 prot", 13),
    ("ip proto \\tcp prot", 15), ("not(host 1.2.3.4)prot", 18), ("ether host 1-2-3-4-5-6 prot", 24),
    ("tcp[0]>>2<=5&&port http-alt prot", 29), ("host ::1 prot", 10),
    ("host fe80::1.2.3.4 prot", 20), ("\t tcp \r\n prot", 10),
])  # fmt: skip
def test_words_are_cut_where_libpcap_cuts_them(expression: str, column: int) -> None:
    with pytest.raises(FilterError) as caught:
        FrameFilter(expression)
    assert caught.value.column == column
    assert caught.value.reason == "syntax error at 'prot'"


def test_long_expression_is_searched_by_halves() -> None:
    good = " or ".join(f"port {n}" for n in range(1, 200))
    with pytest.raises(FilterError) as caught:
        FrameFilter(f"{good} prot {good}")
    assert caught.value.column == len(good) + 2


def test_mistake_in_a_flow_filter_has_the_same_face() -> None:
    flows = FilterSet()
    with pytest.raises(FilterError, match=r"^filter does not compile: .*'prot' \(column 5\)"):
        flows.add("tcp", "tcp prot 80")
    assert len(flows) == 0


def test_filter_for_a_link_type_names_what_that_lacks() -> None:
    with pytest.raises(FilterError) as caught:
        Filter("tcp and ether host 1:2:3:4:5:6", 101)
    assert "ethernet" in caught.value.reason.lower()


def test_what_only_the_kernel_knows_is_refused() -> None:
    with pytest.raises(FilterError, match="only the kernel"):
        Filter("ifindex 3")


def test_error_is_a_configuration_error_and_survives_pickling() -> None:
    with pytest.raises(ConfigError) as caught:
        FrameFilter("tcp prot 80")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert (again.expression, again.column) == ("tcp prot 80", 5)
