"""A condition on the facts of episodes as SQL: it matches the very episodes that `where` does."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from act_data.registry.tables import Text
from act_data.where import And, Compare, Condition, Constant, Contains, In, IsNull, Like, Not, Or

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Columns = Mapping[str, sa.ColumnElement[Any]]


def names_in(condition: Condition) -> set[str]:
    """The facts that `condition` asks for."""
    match condition:
        case Not(term):
            return names_in(term)
        case And(terms) | Or(terms):
            return set().union(*map(names_in, terms))
        case _:
            return {condition.name}


def as_sql(condition: Condition, columns: Columns, dialect: str) -> sa.ColumnElement[bool]:
    """`condition` over `columns` by the name of the fact, for the database `dialect`.

    Every value in it becomes a bound parameter.
    """
    match condition:
        case Not(term):
            return sa.not_(as_sql(term, columns, dialect))
        case And(terms):
            return sa.and_(*(as_sql(term, columns, dialect) for term in terms))
        case Or(terms):
            return sa.or_(*(as_sql(term, columns, dialect) for term in terms))
    column = columns[condition.name]
    match condition:
        case IsNull():
            return column.is_(None)
        case Compare(_, op, value):
            return sa.type_coerce(_OPERATORS[op](column, _literal(value)), sa.Boolean)
        case In(_, values):
            return column.in_([_literal(value) for value in values])
        case Like(_, pattern):
            # SQLite has no escape unless one is named; PostgreSQL has one unless it is taken away.
            escape = "" if dialect == "postgresql" else None
            return _lower(column).like(_lower(_literal(pattern)), escape=escape)
        case Contains(_, text):
            find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
            return sa.type_coerce(find(_lower(column), _lower(_literal(text))) > 0, sa.Boolean)


def _literal(value: Constant) -> sa.ColumnElement[Any]:
    """A value of its own type: as that of the column, 2.5 steps would become 2."""
    match value:
        case bool():
            return sa.literal(value, sa.Boolean)
        case int():
            return sa.literal(value, sa.BigInteger)
        case float():
            return sa.literal(value, sa.Double)
        case str():
            return sa.literal(value, Text)


def _lower(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """With A to Z as a to z and nothing else, which is what the collation C does, too."""
    return sa.func.lower(column, type_=Text)
