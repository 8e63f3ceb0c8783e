"""The words of a filter expression, and the place of a mistake, of which libpcap tells nothing."""

import re
from collections.abc import Callable

from aiomos._engine.errors import FilterError

Span = tuple[int, int]
Complaint = Callable[[str], str]  # what libpcap says about a text, "" if it compiles
Words = list[re.Match[str]]

# libpcap's words (scanner.l), as far as cutting an expression between them needs it.
_WORD = re.compile(
    r"""
    (?:[0-9A-Fa-f]{0,4}:){2,}[0-9A-Fa-f.]*        # IPv6 and Ethernet addresses
  | \\[^ !()\n\t]+ | \$[0-9A-Fa-f]{1,2}             # escaped names, ARCnet addresses
  | [A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?     # keywords, names, numbers, IPv4
  | >=|<=|!=|==|<<|>>|&&|\|\| | [^ \t\r\n]
    """,
    re.VERBOSE,
)

# The scanner complains about this the moment it reads it, and that complaint is kept. So
# words followed by it tell whether the parser could take all of them: if not, it stopped
# before it came here, with a complaint of its own.
_PROBE = "1:2:3:"
_PROBE_WORDS = "bogus ethernet address"

# The optimiser's finding, about all of an expression.
CONTRADICTION = "expression rejects all packets"


def _first_refused(expression: str, words: Words, complaint: Complaint) -> int:
    """Index of the first word that the parser could not take; len(words): the end."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        text = f"{expression[: words[middle].end()]} {_PROBE}"
        if _PROBE_WORDS in complaint(text):
            low = middle + 1
        else:
            high = middle
    return low


def _open_bracket(expression: str, words: Words, complaint: Complaint) -> re.Match[str] | None:
    """The bracket whose closing is all that is missing at the end, or None."""
    stack: Words = []
    for word in words:
        if word[0] in "([":
            stack.append(word)
        elif word[0] in ")]" and stack:
            stack.pop()
    closing = "".join([")" if word[0] == "(" else "]" for word in reversed(stack)])
    if stack and "syntax error" not in complaint(expression + closing):
        return stack.pop()
    return None


def _place_of_syntax(
    expression: str, words: Words, refused: int, complaint: Complaint
) -> tuple[str, Span]:
    """(what is wrong, span) of a syntax error at words[refused]."""
    if refused < len(words):
        return f"syntax error at '{words[refused][0]}'", words[refused].span()
    bracket = _open_bracket(expression, words, complaint)
    if bracket is not None:
        return f"'{bracket[0]}' is never closed", bracket.span()
    end = len(expression.rstrip())
    return "syntax error at the end", (end, end + 1)


def _place_of_meaning(
    expression: str, words: Words, refused: int, complaint: Complaint, said: str
) -> Span | None:
    """Span of the words that libpcap understood and did not like, or None."""
    if said == CONTRADICTION:
        return None
    named = re.search(r"""['"]([^'"]+)['"]""", said)
    if named:
        for word in reversed(words[: refused + 1]):
            if expression.startswith(named[1], word.start()):
                return word.start(), word.start() + len(named[1])
    # It may have looked one word further before it complained.
    if refused and said == complaint(expression[: words[refused - 1].end()]):
        refused -= 1
    if refused and refused < len(words) and words[refused][0] in ")]":
        refused -= 1
    return words[refused].span() if refused < len(words) else None


def mistake(expression: str, said: str, complaint: Complaint) -> FilterError:
    """The FilterError for an expression that libpcap refused with ``said``."""
    if _PROBE_WORDS not in complaint(_PROBE):  # a libpcap with other habits: no place then
        return filter_error("filter does not compile", said, expression, None)
    words = words_of(expression)
    refused = _first_refused(expression, words, complaint)
    reason = said.removeprefix("can't parse filter expression: ")
    span: Span | None
    if reason == "syntax error":
        reason, span = _place_of_syntax(expression, words, refused, complaint)
    else:
        span = _place_of_meaning(expression, words, refused, complaint, said)
        if span and "syntax error" in said:  # a name where the grammar, but not more, has one
            reason = f"syntax error at '{expression[span[0] : span[1]]}'"
    return filter_error("filter does not compile", reason, expression, span)


def filter_error(
    headline: str, reason: str, expression: str, span: Span | None, advice: str = ""
) -> FilterError:
    """A FilterError: one line that says all, the expression, a mark below the place."""
    column = span[0] + 1 if span else None
    where = f" (column {column})" if span else ""
    lines = [f"{headline}: {reason}{where}", "  " + re.sub(r"[\x00-\x20]", " ", expression)]
    if span:
        lines.append("  " + " " * span[0] + "^" + "~" * (span[1] - span[0] - 1))
    error = FilterError("\n".join(lines + ([advice] if advice else [])))
    error.expression, error.column, error.reason = expression, column, reason
    return error


def words_of(expression: str) -> Words:
    """The words as libpcap cuts them."""
    return list(_WORD.finditer(expression))


def find_word(text: str, expression: str) -> Span | None:
    """Where a word stands first."""
    for word in _WORD.finditer(expression):
        if word[0] == text:
            return word.span()
    return None


def uses_vlan(expression: str) -> bool:
    """Whether a flow is to be judged with its tags."""
    return find_word("vlan", expression) is not None
