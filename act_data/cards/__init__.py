"""Dataset cards: what a dataset is, for people (Markdown) and for catalogues (Croissant)."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from act_data.cards.croissant import croissant
from act_data.cards.markdown import markdown
from act_data.cards.records import CardReport
from act_data.check import open_ref
from act_data.errors import InputError
from act_data.records import DatasetFacts
from act_data.registry import Registry
from act_data.report import card_of
from act_data.store.facts import facts_of, save_facts
from act_data.store.files import write_whole

__all__ = ["CardReport", "card", "croissant", "markdown"]

_MAX_CHARACTERS = 100_000


def card(
    ref: str,
    *,
    description: str | None = None,
    licence: str | None = None,
    cite: str | None = None,
    out: Path | None = None,
    croissant_out: Path | None = None,
    dry_run: bool = False,
) -> CardReport:
    """Write the card of a dataset's version, after keeping what is newly said of it.

    Args:
        description: What it is; None leaves what was said before.
        licence: SPDX identifier or address of a text.
        cite: How to cite it.
        out: Markdown file to write.
        croissant_out: Croissant 1.1 file (JSON-LD) to write.
        dry_run: Keep and write nothing.

    Raises:
        InputError: What is said is no text, or the dataset cannot keep it.
        NotFoundError: There is no such dataset or version.
        StoreError: It is damaged, or a file cannot be written.
    """
    reader = open_ref(ref)
    said = {"description": description, "licence": licence, "cite": cite}
    new = {name: _checked(name, text) for name, text in said.items() if text is not None}
    before = facts_of(reader)
    facts: DatasetFacts = before.model_copy(update=new)
    if facts != before and not dry_run:
        save_facts(reader, facts)
    about = card_of(reader, Registry().resolve(ref).name).model_copy(update={"facts": facts})
    text = markdown(about)
    if not dry_run:
        if out is not None:
            _write(out, text)
        if croissant_out is not None:
            document = json.dumps(croissant(about), indent=2, ensure_ascii=False)
            _write(croissant_out, document + "\n")
    return CardReport(
        card=about,
        markdown=text,
        out=None if out is None else str(out),
        croissant=None if croissant_out is None else str(croissant_out),
        said=tuple(name for name in new if getattr(facts, name) != getattr(before, name)),
        dry_run=dry_run,
    )


def _checked(name: str, text: str) -> str:
    bad = [c for c in text if not (c.isprintable() or c in "\n\t")]
    if bad or len(text) > _MAX_CHARACTERS:
        what = f"has the character {bad[0]!r}" if bad else f"has {len(text)} characters"
        raise InputError(
            f"--{name} {what}", hint=f"Give a text of at most {_MAX_CHARACTERS} characters."
        )
    return text.strip()


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    write_whole(path.parent, path.name, text.encode(), scratch)
