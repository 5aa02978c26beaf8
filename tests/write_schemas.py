"""The JSON Schemas of everything that is written to a file or printed as JSON.

`python -m tests.write_schemas` writes them into `schemas/`; a test holds the two in step.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from act_data.cards import CardReport
from act_data.check import Verification
from act_data.convert import ConvertReport
from act_data.convert.lerobot.layout import ActNotes
from act_data.curate.records import (
    CopyReport,
    CurationReport,
    Difference,
    GarbageReport,
    Lineage,
)
from act_data.ingest import IngestReport
from act_data.inspect import Inspection
from act_data.record import LiveIngestReport, RecordReport
from act_data.records import (
    DatasetFacts,
    DatasetSchema,
    EpisodeRecord,
    RecoveryReport,
    StatsRecord,
    SyncReport,
    VersionRecord,
)
from act_data.registry import DatasetLog, DatasetTags, RegisteredDataset, SearchResult
from act_data.remotes import PullReport, PushReport
from act_data.remotes.records import EpisodeManifest, Reference, TagReference, VersionManifest
from act_data.report import DatasetCard
from act_data.robot import RobotFile
from act_model.bench import BenchReport
from act_model.config import Contract, DatasetRef, ModelConfig, TrainConfig
from act_model.evaluate import EvaluationReport
from act_model.export.records import ExportReport, OnnxMetadata
from act_model.launch import Deployment
from act_model.legacy import ImportReport
from act_model.networks import DiffusionConfig
from act_model.plan import Plan
from act_model.recipe import TrainReport
from act_model.run_report.records import RunReport
from act_model.safety.records import WorkspaceFile
from act_model.serve.records import ServeReport
from act_model.sim.records import LiveSimulation, SimEvaluation, SimulationReport, TruthReport

FOLDER = Path(__file__).parent.parent / "schemas"

MODELS: dict[str, type[BaseModel]] = {
    "bench-report": BenchReport,
    "card-report": CardReport,
    "contract": Contract,
    "convert-report": ConvertReport,
    "deployment": Deployment,
    "deployment-plan": Plan,
    "copy-report": CopyReport,
    "curation-report": CurationReport,
    "difference": Difference,
    "garbage-report": GarbageReport,
    "lineage": Lineage,
    "dataset-card": DatasetCard,
    "dataset-facts": DatasetFacts,
    "dataset-ref": DatasetRef,
    "dataset-schema": DatasetSchema,
    "diffusion-config": DiffusionConfig,
    "episode": EpisodeRecord,
    "evaluation": EvaluationReport,
    "export-report": ExportReport,
    "import-report": ImportReport,
    "ingest-report": IngestReport,
    "inspection": Inspection,
    "lerobot-notes": ActNotes,
    "model-config": ModelConfig,
    "live-ingest-report": LiveIngestReport,
    "onnx-metadata": OnnxMetadata,
    "pull-report": PullReport,
    "push-report": PushReport,
    "record-report": RecordReport,
    "recovery-report": RecoveryReport,
    "search-result": SearchResult,
    "dataset-log": DatasetLog,
    "dataset-tags": DatasetTags,
    "registered-dataset": RegisteredDataset,
    "remote-episode": EpisodeManifest,
    "remote-ref": Reference,
    "remote-tag": TagReference,
    "remote-version": VersionManifest,
    "robot": RobotFile,
    "run-report": RunReport,
    "serve-report": ServeReport,
    "sim-evaluation": SimEvaluation,
    "simulation-report": SimulationReport,
    "live-simulation": LiveSimulation,
    "truth-report": TruthReport,
    "stats": StatsRecord,
    "sync-report": SyncReport,
    "train-config": TrainConfig,
    "train-report": TrainReport,
    "verification": Verification,
    "version": VersionRecord,
    "workspace": WorkspaceFile,
}


def schemas() -> dict[str, str]:
    """File name to content."""
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=2, sort_keys=True)
        + "\n"
        for name, model in MODELS.items()
    }


if __name__ == "__main__":
    for old in FOLDER.glob("*.schema.json"):
        old.unlink()
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
