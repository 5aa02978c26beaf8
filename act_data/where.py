"""What `--where` says: a condition on the facts of an episode, parsed and never executed.

    success and length > 100 and task = 'pour'
    not (operator in ('ann', 'bo') or notes contains "spill")
    success = null or recorded >= '2026-05-01'

    condition:  all ("or" all)*            all:   term ("and" term)*
    term:       "not" term  |  "(" condition ")"  |  FLAG  |  NAME test
    test:       ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE  |  ("=" | "!=") "null"
                |  ["not"] "in" "(" VALUE ("," VALUE)* ")"  |  ["not"] ("like" | "contains") TEXT

The meaning is that of SQL, three-valued: a comparison with a fact that is null is neither true nor
false, `not` of that neither, and only what is true matches. So `not success` leaves out episodes of
which nobody said whether they succeeded; `= null` asks for those. Texts compare by code point.
`like` (with % for any text and _ for one character, and no escape) and `contains` ignore the case
of the letters A to Z; everything else distinguishes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from math import isfinite
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Literal

from act_data.errors import InputError
from act_data.facts import FACTS, Fact, FactValue

MAX_CHARACTERS = 4096
MAX_DEPTH = 32

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Constant = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Compare:
    """`name op value`; the value is of the fact's kind. A bare flag is `name = true`."""

    name: str
    op: Operator
    value: Constant


@dataclass(frozen=True, slots=True)
class IsNull:
    """`name = null`: true or false, never unknown."""

    name: str


@dataclass(frozen=True, slots=True)
class In:
    """`name in (values)`."""

    name: str
    values: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """`name like pattern`, without regard to ASCII case; % and _ as in SQL, no escape."""

    name: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Contains:
    """`name contains text`, literally, without regard to ASCII case."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """`not term`."""

    term: Condition


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more `terms`."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of two or more `terms`."""

    terms: tuple[Condition, ...]


Condition = Compare | IsNull | In | Like | Contains | Not | And | Or


def parse(text: str, facts: Mapping[str, Fact] = FACTS) -> Condition:
    """The condition that `text` says.

    Args:
        facts: The names that it may use, and what they are.

    Raises:
        InputError: It says none; the message points at the column, from 1.
    """
    return _Parser(text, facts).whole()


def matches(condition: Condition, facts: Mapping[str, FactValue]) -> bool:
    """Whether `condition` is true of these facts, and not false or unknown.

    Args:
        facts: By name; one that is missing is null.
    """
    return _truth(condition, facts) is True


# --- meaning ------------------------------------------------------------------------------------

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge,
}  # fmt: skip
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _truth(condition: Condition, facts: Mapping[str, FactValue]) -> bool | None:
    match condition:
        case Not(term):
            truth = _truth(term, facts)
            return None if truth is None else not truth
        case And(terms):
            truths = {_truth(term, facts) for term in terms}
            return False if False in truths else None if None in truths else True
        case Or(terms):
            truths = {_truth(term, facts) for term in terms}
            return True if True in truths else None if None in truths else False
        case IsNull(name):
            return facts.get(name) is None
    value = facts.get(condition.name)
    if value is None:
        return None
    match condition:
        case Compare(_, op, wanted):
            return bool(_COMPARE[op](value, wanted))
        case In(_, values):
            return value in values
        case Like(_, pattern):
            return _like(_lower(pattern), _lower(str(value)))
        case Contains(_, text):
            return _lower(text) in _lower(str(value))


def _lower(text: str) -> str:
    return text.translate(_LOWER)


def _like(pattern: str, value: str) -> bool:
    # Between two % the first place that fits is as good as any other: atomic, so that no pattern
    # takes longer than its length times that of the text.
    first, *rest = (
        "".join("." if c == "_" else re.escape(c) for c in p) for p in pattern.split("%")
    )
    if rest:
        *between, last = rest
        first += "".join(f"(?>.*?{part})" for part in between) + f".*{last}"
    return re.fullmatch(first, value, re.DOTALL) is not None


# --- reading ------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?(?![A-Za-z_]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in", "like", "contains", "true", "false", "null"}
_SAME = {"<>": "!=", "==": "="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number", "name", "word", "text", "sign", "end"
    text: str
    column: int


class _Parser:
    def __init__(self, text: str, facts: Mapping[str, Fact]) -> None:
        self._text = text
        self._facts = facts
        if len(text) > MAX_CHARACTERS:
            raise InputError(
                f"a condition of {len(text)} characters",
                hint=f"At most {MAX_CHARACTERS}; several filters, one after the other, do as well.",
            )
        if not _is_text(text):
            raise InputError(
                f"a condition with bytes that are no text: {text!r}", hint="Write it in UTF-8."
            )
        self._tokens = self._split()
        self._at = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._condition()
        if self._next.kind != "end":
            raise self._wrong(self._next, "here 'and', 'or' or the end was expected")
        return condition

    # --- tokens ---

    def _split(self) -> list[_Token]:
        tokens = []
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                what = "a text without its end" if self._text[at] in "'\"" else "no part of one"
                raise self._wrong(_Token("", self._text[at], at + 1), f"this is {what}")
            kind, text = str(found.lastgroup), found.group()
            if kind == "name" and text.lower() in _WORDS:
                kind, text = "word", text.lower()
            if kind != "space":
                tokens.append(_Token(kind, _SAME.get(text, text), at + 1))
            at = found.end()
        return [*tokens, _Token("end", "", len(self._text) + 1)]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _took(self, *texts: str) -> str:
        """The next word or sign, if it is one of `texts`; "" otherwise."""
        if self._next.kind in ("word", "sign") and self._next.text in texts:
            return self._take().text
        return ""

    def _expect(self, sign: str) -> None:
        if not self._took(sign):
            raise self._wrong(self._next, f"here {sign!r} was expected")

    def _wrong(self, token: _Token, what: str, hint: str = "") -> InputError:
        start = max(0, token.column - 31)
        line = self._text[start : start + 60]
        shown = "".join(c if c.isprintable() else "?" for c in line)
        pointer = " " * (token.column - 1 - start) + "^"
        return InputError(
            f"--where, column {token.column}: {what}\n    {shown}\n    {pointer}",
            hint=hint or "For example: success and length > 100 and task = 'pour'",
        )

    # --- grammar ---

    def _condition(self) -> Condition:
        terms = [self._all()]
        while self._took("or"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _all(self) -> Condition:
        terms = [self._term()]
        while self._took("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _term(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(self._next, f"nested deeper than {MAX_DEPTH}")
        try:
            if self._took("not"):
                return Not(self._term())
            if self._took("("):
                condition = self._condition()
                self._expect(")")
                return condition
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Condition:
        token = self._take()
        if token.kind != "name":
            what = "the condition ends too early" if token.kind == "end" else "here a name goes"
            raise self._wrong(token, what)
        fact = self._fact(token)
        op = self._took("=", "!=", "<", "<=", ">", ">=")
        if op in ("=", "!=") and self._took("null"):
            return IsNull(token.text) if op == "=" else Not(IsNull(token.text))
        for known in ("=", "!=", "<", "<=", ">", ">="):
            if op == known:
                return Compare(token.text, known, self._value(token.text, fact, op))
        negated = bool(self._took("not"))
        test = self._took("in", "like", "contains")
        if test:
            found = self._set(token.text, fact) if test == "in" else self._text_test(token, test)
            return Not(found) if negated else found
        if fact.kind == "flag" and not negated:
            return Compare(token.text, "=", True)
        raise self._wrong(
            self._next, f"here =, !=, <, <=, >, >=, in, like or contains goes, after {token.text!r}"
        )

    def _fact(self, token: _Token) -> Fact:
        fact = self._facts.get(token.text)
        if fact is None:
            near = get_close_matches(token.text, self._facts, n=1)
            raise self._wrong(
                token,
                f"{token.text!r} is not known of an episode",
                (f"Did you mean {near[0]}? " if near else "")
                + f"There are {', '.join(self._facts)}; texts stand in quotes.",
            )
        return fact

    def _set(self, name: str, fact: Fact) -> In:
        self._expect("(")
        values = [self._value(name, fact, "in")]
        while self._took(","):
            values.append(self._value(name, fact, "in"))
        self._expect(")")
        return In(name, tuple(values))

    def _text_test(self, token: _Token, test: str) -> Like | Contains:
        if self._facts[token.text].kind not in ("text", "day"):
            raise self._wrong(token, f"{token.text!r} is no text: it cannot be asked with {test!r}")
        value = self._take()
        if value.kind != "text":
            raise self._wrong(value, f"after {test!r} a text in quotes goes")
        text = _unquoted(value.text)
        return Like(token.text, text) if test == "like" else Contains(token.text, text)

    def _value(self, name: str, fact: Fact, op: str) -> Constant:
        token = self._take()
        if fact.kind == "flag":
            if token.text not in ("true", "false") or op not in ("=", "!="):
                raise self._wrong(token, f"{name!r} is true or false: = or != one of them")
            return token.text == "true"
        if fact.kind == "number":
            if token.kind != "number":
                raise self._wrong(token, f"{name!r} is a number, and so goes here")
            number = float(token.text)
            if not isfinite(number):
                raise self._wrong(token, "no number is so large")
            # Of so many digits, a float is as exact: no database compares them otherwise.
            whole = re.fullmatch(r"[+-]?[0-9]{1,15}", token.text)
            return int(token.text) if whole else number
        if token.kind != "text":
            kind = "a day" if fact.kind == "day" else "a text"
            raise self._wrong(token, f"{name!r} is {kind}: in quotes here")
        text = _unquoted(token.text)
        if fact.kind == "day" and not _is_day(text):
            raise self._wrong(token, f"{text!r} is no day", "Write it as '2026-05-31'.")
        return text


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


def _is_text(text: str) -> bool:
    """No NUL, no half of a surrogate pair: no database keeps those."""
    try:
        return "\0" not in text.encode().decode()
    except UnicodeEncodeError:
        return False


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
