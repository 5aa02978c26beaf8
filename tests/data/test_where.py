"""A condition means what the same words mean in SQL; what is no condition says where it fails."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import InputError
from act_data.facts import FACTS, FactValue, facts_of
from act_data.records import (
    DatasetSchema,
    EpisodeEntry,
    EpisodeInfo,
    SourceRecord,
    StreamReport,
    SyncReport,
)
from act_data.types import ClockPolicy, SyncPolicy
from act_data.where import (
    MAX_DEPTH,
    And,
    Compare,
    Condition,
    Contains,
    In,
    IsNull,
    Like,
    Not,
    Or,
    matches,
    parse,
)

POUR: dict[str, FactValue] = {
    "uid": "a", "length": 120, "task": "Pour tea", "success": True, "notes": "50 % spilt, o_O",
    "recorded": "2026-05-31", "skew_p95_ms": None, "operator": "", "valid_share": 0.925,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("success", Compare("success", "=", True)),
        ("success = false", Compare("success", "=", False)),
        ("success = null", IsNull("success")),
        ("success <> NULL", Not(IsNull("success"))),
        ("length >= 1e2", Compare("length", ">=", 100.0)),
        ("index=-3", Compare("index", "=", -3)),
        ("task == 'it''s'", Compare("task", "=", "it's")),
        ('task != "say ""hi"""', Compare("task", "!=", 'say "hi"')),
        ("split in ('val', 'train')", In("split", ("val", "train"))),
        ("uid not in ('a')", Not(In("uid", ("a",)))),
        ("notes LIKE '%x_'", Like("notes", "%x_")),
        ("notes not contains 'x'", Not(Contains("notes", "x"))),
        (
            "success and length > 100 and task = 'pour'",
            And((Compare("success", "=", True), Compare("length", ">", 100),
                 Compare("task", "=", "pour"))),
        ),
        (
            "success or not success and (length<5 or length>9)",
            Or((Compare("success", "=", True),
                And((Not(Compare("success", "=", True)),
                     Or((Compare("length", "<", 5), Compare("length", ">", 9)))))))
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_condition_reads_as_it_is_written(text: str, condition: Condition) -> None:
    assert parse(text) == condition


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("length > 100 and success", True),
        ("length > 120", False),
        ("task = 'pour tea'", False),
        ("task like 'pour%'", True),
        ("task like 'p_ur_tea'", True),
        ("task like 'tea'", False),
        ("task like '%our%te%'", True),
        ("task like '%%{}%'", False),
        ("notes contains '50 %'", True),
        ("notes contains 'O_o'", True),
        ("notes contains 'oXo'", False),
        ("recorded >= '2026-05-01' and recorded < '2026-06-01'", True),
        ("skew_p95_ms < 5", False),
        ("not skew_p95_ms < 5", False),
        ("skew_p95_ms < 5 or success", True),
        ("skew_p95_ms = null and operator = ''", True),
        ("skew_p95_ms in (1, 2) or valid_share > 0.9", True),
        ("operator != null", True),
    ],
)
def test_a_condition_is_true_of_an_episode_or_not(text: str, wanted: bool) -> None:
    assert matches(parse(text), POUR) is wanted


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "ends too early"),
        ("lenght > 3", 1, "Did you mean length"),
        ("length > 100 and", 17, "ends too early"),
        ("length > 'a'", 10, "is a number"),
        ("length 100", 8, "=, !=,"),
        ("task = pour", 8, "in quotes"),
        ("task = 'pour", 8, "without its end"),
        ("success > true", 11, "true or false"),
        ("length like 'x'", 1, "is no text"),
        ("(success", 9, "')' was expected"),
        ("success)", 8, "'and', 'or' or the end"),
        ("recorded > '2026-13-01'", 12, "is no day"),
        ("recorded > '20260501'", 12, "is no day"),
        ("split in ()", 11, "in quotes"),
        ("success; drop", 8, "no part of one"),
        ("__import__('os')", 1, "not known"),
        ("length > 3x", 10, "no part of one"),
        ("length < null", 10, "is a number"),
        ("and", 1, "a name goes"),
        ("length < 1e999", 10, "so large"),
        ("not " * (MAX_DEPTH + 1) + "success", 4 * MAX_DEPTH + 1, "nested deeper"),
        ("x" * 5000, None, "4096"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_condition_says_where_and_what_there_is(
    text: str, column: int | None, says: str
) -> None:
    with pytest.raises(InputError) as error:
        parse(text)
    assert says in f"{error.value} {error.value.hint}"
    if column is not None:
        assert f"column {column}:" in str(error.value)


NAMES = {kind: [n for n, f in FACTS.items() if f.kind == kind] for kind in ("text", "number")}
TEXTS = st.text("aAbB%_é", max_size=4)
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.5])


def conditions() -> st.SearchStrategy[Condition]:
    ops = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    text, number = st.sampled_from(NAMES["text"]), st.sampled_from(NAMES["number"])
    leaves: st.SearchStrategy[Condition] = st.one_of(
        st.builds(Compare, text, ops, TEXTS),
        st.builds(Compare, number, ops, NUMBERS),
        st.builds(Compare, st.just("success"), st.sampled_from(["=", "!="]), st.booleans()),
        st.builds(IsNull, st.sampled_from(list(FACTS))),
        st.builds(In, number, st.lists(NUMBERS, min_size=1, max_size=3).map(tuple)),
        st.builds(Like, text, TEXTS),
        st.builds(Contains, text, TEXTS),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
            st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=6,
    )


def written(condition: Condition) -> str:
    """`condition` in the words of `--where`."""
    match condition:
        case Not(term):
            return f"not ({written(term)})"
        case And(terms):
            return "(" + " and ".join(written(t) for t in terms) + ")"
        case Or(terms):
            return "(" + " or ".join(written(t) for t in terms) + ")"
        case IsNull(name):
            return f"{name} = null"
        case In(name, values):
            return f"{name} in ({', '.join(map(constant, values))})"
        case Like(name, text):
            return f"{name} like {constant(text)}"
        case Contains(name, text):
            return f"{name} contains {constant(text)}"
        case Compare(name, op, value):
            return f"{name} {op} {constant(value)}"


def constant(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def in_sql(condition: Condition) -> str:
    """`condition` in SQL; written for the test alone, by hand from the definition of the words."""
    match condition:
        case Not(term):
            return f"(NOT {in_sql(term)})"
        case And(terms):
            return "(" + " AND ".join(in_sql(t) for t in terms) + ")"
        case Or(terms):
            return "(" + " OR ".join(in_sql(t) for t in terms) + ")"
        case IsNull(name):
            return f'("{name}" IS NULL)'
        case In(name, values):
            return f'("{name}" IN ({", ".join(map(constant, values))}))'
        case Like(name, text):
            return f'("{name}" LIKE {constant(text)})'
        case Contains(name, text):
            return f'(instr(lower("{name}"), lower({constant(text)})) > 0)'
        case Compare(name, op, value):
            return f'("{name}" {op} {constant(value)})'


def values() -> st.SearchStrategy[dict[str, FactValue]]:
    of_kind = {"text": TEXTS, "number": NUMBERS, "flag": st.booleans(), "day": TEXTS}
    return st.fixed_dictionaries(
        {
            name: of_kind[fact.kind] | st.none() if fact.nullable else of_kind[fact.kind]
            for name, fact in FACTS.items()
        }
    )


@settings(max_examples=300, deadline=None)
@given(conditions(), values())
def test_sqlite_finds_the_same_episodes(condition: Condition, facts: dict[str, FactValue]) -> None:
    assert parse(written(condition)) == condition
    columns = ", ".join(f'? AS "{name}"' for name in facts)
    query = f"SELECT count(*) FROM (SELECT {columns}) WHERE {in_sql(condition)}"
    (found,) = sqlite3.connect(":memory:").execute(query, list(facts.values())).fetchone()
    assert matches(condition, facts) is bool(found)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text("()'\"<>=! andornotinsuccesslength01.,", max_size=40))
def test_any_text_is_a_condition_or_an_error_that_says_why(text: str) -> None:
    try:
        condition = parse(text)
    except InputError:
        return
    assert matches(condition, POUR) in (True, False)


def test_the_facts_of_an_episode_are_all_there() -> None:
    stream = {"policy": SyncPolicy.HOLD, "tolerance_ms": 50.0, "clock": "header",
              "received": 1, "used": 1, "unused": 0, "late": 0, "duplicate": 0}  # fmt: skip
    began = int(datetime(2026, 5, 31, 23, 59, tzinfo=UTC).timestamp()) * 10**9
    info = EpisodeInfo(
        source=SourceRecord(name="bag7", kind="ros1", sha256="0" * 64, start_ns=began),
        task="pour",
        sync=SyncReport(
            fps=10,
            clock=ClockPolicy.HEADER,
            ticks=40,
            valid=30,
            streams={
                "arm": StreamReport(required=True, skew_abs_p95_ms=4.0, **stream),
                "cam": StreamReport(required=True, skew_abs_p95_ms=9.0, **stream),
                "aux": StreamReport(required=False, skew_abs_p95_ms=70.0, **stream),
            },
        ),
    )
    entry = EpisodeEntry(uid="e7", start=0, length=25, hash="0" * 64, split="val")
    schema = DatasetSchema(robot="aloha", fps=10, features=())
    facts = facts_of(schema, 7, entry, info)
    assert facts == {
        "uid": "e7", "index": 7, "length": 25, "seconds": 2.5, "split": "val", "task": "pour",
        "operator": "", "success": None, "notes": "", "source": "bag7", "source_kind": "ros1",
        "robot": "aloha", "rate_hz": 10.0, "cameras": "", "recorded": "2026-05-31",
        "skew_p95_ms": 9.0, "valid_share": 0.75,
    }  # fmt: skip
    assert facts.keys() == FACTS.keys()
    bare = facts_of(schema, 7, entry, info.model_copy(update={"sync": None}))
    assert (bare["skew_p95_ms"], bare["valid_share"]) == (None, None)
    nominal = facts_of(schema.model_copy(update={"stamps": "nominal"}), 7, entry, info)
    assert nominal["recorded"] is None
