"""From what a person asks for to the error of a policy on what it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from act_data.check import open_ref
from act_data.records import Record
from act_model.evaluate import DEFAULT_STARTS, EvaluationReport
from act_model.evaluate import evaluate as evaluate_on
from act_model.lineage import dataset_of, find_checkpoint, unseen
from act_model.policy import Policy


class EvaluationRequest(Record):
    """Measuring a policy on what it was not trained on, as a person asks for it.

    Attributes:
        dataset: A path, a name, or "name@version"; by default what the policy was trained on.
        starts: Chunks per held-out episode, evenly spread.
    """

    checkpoint: Path | None = None
    dataset: str | None = None
    starts: int = DEFAULT_STARTS
    device: str = "auto"


def evaluate(
    request: EvaluationRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> EvaluationReport:
    """The open-loop error of a policy on the held-out episodes of a dataset.

    Raises:
        NotFoundError: No such checkpoint or dataset.
        InputError: The dataset does not fit the policy, or nothing was held out.
        StoreError: The checkpoint or the dataset is damaged.
    """
    policy = Policy.load(find_checkpoint(request.checkpoint), request.device)
    if request.dataset is None:
        reader = dataset_of(policy.checkpoint.dataset)
    else:
        reader = open_ref(request.dataset)
    report = evaluate_on(policy, reader, starts=request.starts, progress=progress)
    known = unseen(reader, policy.checkpoint.dataset)
    seen = {known[episode] for episode in report.episodes}
    held_out = False if False in seen else None if None in seen else True
    return report.model_copy(update={"held_out": held_out})
