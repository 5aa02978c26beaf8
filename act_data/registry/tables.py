"""The tables of the registry, the same in SQLite and in PostgreSQL.

An episode is one row of facts, whatever versions hold it, and another row for everything else that
people said of it. Which versions hold a row is kept as ranges of version numbers: a version that
adds ten episodes to 200,000 writes ten rows. A row without a range is nobody's yet: the facts of
large versions come first, batch by batch, and the version last.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

# Raised with every change of the tables; a registry with a greater number is left alone.
FORMAT = 3

# The end of a range of versions that goes on.
OPEN = 2**31 - 1

metadata = sa.MetaData()

# Compared by code point, whatever language the database was made for.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _of_dataset(*, index: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("dataset.id", ondelete="CASCADE")
    return sa.Column("dataset", sa.Integer, key, nullable=False, index=index)


# One that has no version yet is being registered, and is shown to nobody.
dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("uid", Text, nullable=False, unique=True),
    sa.Column("uri", Text, nullable=False),
    sa.Column("robot", Text, nullable=False),
    sa.Column("fps", sa.Double, nullable=False),
    sa.Column("cameras", Text, nullable=False),  # names, a space between two
    sa.Column("created", Text, nullable=False),
)

version = sa.Table(
    "version",
    metadata,
    _of_dataset(),
    sa.Column("n", sa.Integer),
    sa.Column("parent", sa.Integer),
    sa.Column("content_hash", Text, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("created", Text, nullable=False),
    sa.Column("episodes", sa.Integer, nullable=False),
    sa.Column("frames", sa.BigInteger, nullable=False),
    # Beside the version before it:
    sa.Column("added", sa.Integer, nullable=False),
    sa.Column("removed", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint("dataset", "n"),
)

# Recordings.
source = sa.Table(
    "source",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    _of_dataset(index=True),
    sa.Column("sha256", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.UniqueConstraint("sha256", "name", "kind", "dataset"),
)

# What a version says of an episode and what its record does. Of a record that cannot be read there
# is no source and no fact.
episode = sa.Table(
    "episode",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    _of_dataset(index=True),
    sa.Column("uid", Text, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.Column("said", Text, nullable=False),  # digest of its annotation; "" where there is none
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("source", sa.Integer, sa.ForeignKey("source.id"), index=True),
    sa.Column("success", sa.Boolean),
    sa.Column("recorded", Text),  # a day, UTC
    sa.Column("valid_share", sa.Double),
    sa.Column("skew_p95_ms", sa.Double),
    sa.Column("task", Text, nullable=False),
    sa.Column("operator", Text, nullable=False),
    sa.Column("notes", Text, nullable=False),
    sa.Column("words", sa.Text().with_variant(TSVECTOR, "postgresql"), nullable=False),
    sa.UniqueConstraint("uid", "hash", "said", "dataset"),
)
sa.Index("ix_episode_words", episode.c.words, postgresql_using="gin").ddl_if("postgresql")

# Versions [since, until) of `dataset` hold `episode`, in `split`. Their order is that of `place`.
version_episode = sa.Table(
    "version_episode",
    metadata,
    _of_dataset(),
    sa.Column("episode", sa.Integer, sa.ForeignKey("episode.id", ondelete="CASCADE")),
    sa.Column("since", sa.Integer),
    sa.Column("until", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("split", Text, nullable=False),
    sa.PrimaryKeyConstraint("episode", "since"),
)
sa.Index(
    "ix_version_episode",
    *(version_episode.c[name] for name in ("dataset", "until", "place", "episode")),
)

# Tags, and what became of each. They know their dataset by uid, so that they outlive a rebuild.
alias = sa.Table(
    "alias",
    metadata,
    sa.Column("dataset_uid", Text),
    sa.Column("name", Text),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("content_hash", Text, nullable=False),
    sa.PrimaryKeyConstraint("dataset_uid", "name"),
)

alias_log = sa.Table(
    "alias_log",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_uid", Text, nullable=False, index=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("before", sa.Integer),
    sa.Column("after", sa.Integer),
    sa.Column("who", Text, nullable=False),
    sa.Column("moved", Text, nullable=False),
)

checkpoint = sa.Table(
    "checkpoint",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("folder", Text, nullable=False, unique=True),
    sa.Column("dataset_uid", Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("content_hash", Text, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("created", Text, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice: the greatest is the newest
)


# What SQLite searches the words of episodes with.
episode_words = sa.table("episode_words", sa.column("rowid", sa.Integer), sa.column("words", Text))


def create(db: sa.Connection) -> None:
    """Make all tables, and what searches the words of episodes."""
    metadata.create_all(db)
    if db.dialect.name == "sqlite":
        for statement in _SQLITE_WORDS:
            db.exec_driver_sql(statement)


# The text is cut into words before it comes here, so the simplest tokenizer is the right one.
_SQLITE_WORDS = (
    "CREATE VIRTUAL TABLE episode_words USING fts5("
    "words, content='episode', content_rowid='id', tokenize='ascii', columnsize=0)",
    "CREATE TRIGGER episode_in AFTER INSERT ON episode BEGIN"
    " INSERT INTO episode_words(rowid, words) VALUES (new.id, new.words); END",
    "CREATE TRIGGER episode_out AFTER DELETE ON episode BEGIN"
    " INSERT INTO episode_words(episode_words, rowid, words)"
    " VALUES ('delete', old.id, old.words); END",
    "CREATE TRIGGER episode_anew AFTER UPDATE OF words ON episode BEGIN"
    " INSERT INTO episode_words(episode_words, rowid, words)"
    " VALUES ('delete', old.id, old.words);"
    " INSERT INTO episode_words(rowid, words) VALUES (new.id, new.words); END",
)
