"""Checkpoints of other programs, as ours."""

from act_model.legacy.importing import ImportRequest, import_checkpoint
from act_model.legacy.records import ImportReport

__all__ = ["ImportReport", "ImportRequest", "import_checkpoint"]
