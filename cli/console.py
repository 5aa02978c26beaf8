"""The one place where results and errors become text."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from act_data.errors import ActError, InputError, without_secrets

if TYPE_CHECKING:
    from act_data.records import Record

R = TypeVar("R", bound="Record")

# A file or a pipe has no width: tables are not cut there.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)


@contextmanager
def errors() -> Iterator[None]:
    """Turn the toolkit's own errors into two lines and an exit code; let bugs through."""
    try:
        yield
    except ActError as e:
        _explain(str(e), e.hint)
        raise typer.Exit(e.exit_code) from None
    except KeyboardInterrupt:
        err.print("stopped by the keyboard; what was finished is kept", soft_wrap=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()  # `act-data list | head`: the reader has gone, nothing to report
        raise typer.Exit(0) from None
    except OSError as e:  # the machine's fault, wherever it shows: a disk, a name, a permission
        where = "" if e.filename is None else f"{os.fspath(e.filename)!r}: "
        _explain(f"{where}{e.strerror or e}", "Check the path, its permissions and the disk.")
        raise typer.Exit(1) from None


def _explain(what: str, hint: str) -> None:
    err.print(Text.assemble(("error: ", "red"), without_secrets(what)), soft_wrap=True)
    if hint:
        err.print(Text.assemble(("hint:  ", "dim"), hint), soft_wrap=True)


def options(record: type[R], /, **values: Any) -> R:
    """The options of a command as the record that its verb takes.

    Raises:
        InputError: Names every option that says something that cannot be.
    """
    from pydantic import ValidationError

    for name, value in values.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as e:  # bytes of a terminal or a file system that are no UTF-8
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {str(value)!r}: {e}", hint="Write UTF-8.") from None
    try:
        return record.model_validate(values)
    except ValidationError as e:
        problems = [
            f"--{str(p['loc'][0]).replace('_', '-')} is {p['input']!r}: {p['msg']}"
            if p["loc"]
            else p["msg"].removeprefix("Value error, ")
            for p in e.errors()
        ]
        raise InputError("; ".join(problems), hint="See the command's --help.") from None


def height_width(option: str, text: str) -> tuple[int, int]:
    """The (H, W) that "240x320" means.

    Raises:
        InputError: It is no such text.
    """
    height, _, width = text.lower().partition("x")
    if not all(re.fullmatch(r"[0-9]{1,4}", side) for side in (height, width)):
        raise InputError(
            f"{option} {text!r} is not HEIGHTxWIDTH", hint=f"For example {option} 240x320."
        )
    return int(height), int(width)


def say(text: str) -> None:
    """A line for people, on stderr: it never mixes with data on stdout."""
    err.print(Text(text), soft_wrap=True)


def warn(text: str) -> None:
    """A line that people should not miss."""
    err.print(Text.assemble(("warning: ", "yellow"), text), soft_wrap=True)


def write_json(value: Any) -> None:
    """`value` as JSON on stdout, one document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def progress(label: str, *, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, on a terminal only; the block gets `advance(done, total)`.

    Args:
        of_bytes: What is counted are bytes: MB and MB/s are shown.
    """
    counted = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *counted,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance
