"""The page of a training run: of a finished one, of one that goes on, of what is left of one."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import html5lib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.check import open_ref
from act_data.errors import NotFoundError, StoreError
from act_data.stats import compute
from act_model import html_page
from act_model.charts import Line, chart
from act_model.checkpoint import Checkpoint, contract_of
from act_model.config import DatasetRef, TrainConfig
from act_model.families import FAMILIES
from act_model.nn.transformer import Attention, watched
from act_model.policy import Policy
from act_model.run_report import report_run
from act_model.run_report.attention import attention_maps
from act_model.run_report.metrics import MOST_POINTS, Curves, read_metrics
from act_model.run_report.predictions import chunks_of_episodes, trace
from act_model.validate import end_bins
from tests.cli.commands import done, refused, run
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of
from tests.model.small_policy import TINY
from tests.small_robot import bag, entries, robot_file

NOW = 1e12  # long after any step
CONFIG = """\
model: {chunk_size: 5, is_pad_head: true, backbone_weights: none, encoder_layers: 1}
train: {batch_size: 2, val_every: 2, workers: 0, device: cpu, loss: {is_pad_weight: 0.1}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of a camera and two arms, and a run of four steps on it."""
    folder = tmp_path_factory.mktemp("runs")
    robot_file(folder)
    size = (64, 96)
    names = [bag(folder, f"b{n}", entries(24, start_s=1 + 9 * n, size=size)) for n in range(4)]
    (folder / "run.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        patch.chdir(folder)
        torch.set_num_threads(1)
        done(run("act-data", "ingest", *names, "--out", "ds.zarr", "--robot", "small.yaml"))
        done(run("act-model", "train", "ds.zarr", "--out", "run", "--size", "tiny",
                 "--config", "run.yaml", "--steps", 4))  # fmt: skip
    return folder


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in `place`, with its registry."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("ACT_REGISTRY", str(place / "registry.db"))
    return place


def checked(page: Path) -> str:
    """The page, if it is valid HTML that needs nothing from elsewhere."""
    text = page.read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text
    for attribute in re.findall(r'(?:src|href|data|action)="([^"]*)"', text):
        assert attribute.startswith("data:image/jpeg;base64,"), attribute[:60]
    assert not re.findall(r"url\(|@import|https?:", text)
    return text


def test_the_page_of_a_finished_run_shows_everything_that_there_is(there: Path) -> None:
    report = report_run(Path("run"), now=NOW)
    assert (report.state, report.step, report.steps) == ("finished", 4, 4)
    assert report.notes == ()
    text = checked(there / "run" / "report.html")
    assert report.page_bytes == len(text.encode()) < 400_000
    for title in ("Curves", "training loss", "KL of the style", "active dimensions",
                  "Where the time goes", "Error on held-out episodes",
                  "Does it know when the episode ends?", "Predicted against demonstrated",
                  "lead/a, rad", "lead/b, rad", "Where the actions look", "cam, episode ",
                  "What it was made of", report.content_hash or "?", ">b0<", "Contract",
                  "Network", "is_pad_head", "Training", "val_every"):  # fmt: skip
        assert title in text, title
    assert text.count("data:image/jpeg") == 3, "three moments of one camera"
    assert list(report.time_shares) == ["data", "transfer", "forward", "backward", "optimiser"]
    assert sum(report.time_shares.values()) == pytest.approx(1)
    assert report.units == {"arms": "rad"}
    assert report.best["l1"] == report.best_l1 == pytest.approx(report.best["l1"])
    assert all(each.held_out for each in report.traced)
    assert {each.camera for each in report.attention} == {"cam"}
    assert all(0 < each.share < 1 for each in report.attention)


def test_the_command_says_where_the_page_is_and_prints_the_same_as_json(
    there: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert "run: finished, step 4 of 4, best held-out L1" in done(
        run("act-model", "report", "run", "--out", page)
    )
    said = json.loads(done(run("act-model", "report", "run", "--out", page, "--json")))
    assert said == json.loads(report_run(Path("run"), out=page).model_dump_json())
    refused(run("act-model", "report", tmp_path), "holds no run", "act-model train")
    refused(run("act-model", "report", "run", "--out", tmp_path / "no" / "x.html"), "cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"]


@pytest.mark.parametrize(
    ("age_s", "state"), [pytest.param(5, "in progress", id="a-step-just-now"),
                         pytest.param(500, "stopped", id="silent-for-long")]
)  # fmt: skip
def test_a_run_without_a_checkpoint_yet_shows_its_curves(
    there: Path, tmp_path: Path, age_s: float, state: str
) -> None:
    lines = (there / "run" / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    (tmp_path / "metrics.jsonl").write_text(f"{lines[0]}\n{lines[1][:40]}")
    report = report_run(tmp_path, now=first["time"] + age_s)
    assert (report.state, report.step, report.steps, report.checkpoint) == (state, 1, None, None)
    assert "cut short" in report.notes[0]
    text = checked(tmp_path / "report.html")
    assert "training loss" in text
    assert "Predicted against" not in text


def test_a_run_that_was_killed_shows_what_its_last_checkpoint_predicts(
    there: Path, tmp_path: Path
) -> None:
    shutil.copytree("run/last", tmp_path / "last")
    lines = (there / "run" / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    report = report_run(tmp_path, now=NOW)
    assert (report.state, report.step, report.steps) == ("stopped", 2, 4)
    assert report.checkpoint == str(tmp_path / "last")
    assert "Predicted against demonstrated" in checked(tmp_path / "report.html")


def test_what_is_damaged_or_gone_takes_only_its_part_of_the_page_with_it(
    there: Path, tmp_path: Path
) -> None:
    shutil.copytree("run", tmp_path / "run")
    weights = tmp_path / "run" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    damaged = report_run(tmp_path / "run", now=NOW)
    assert damaged.checkpoint == str(tmp_path / "run" / "last")
    assert "'best' was left out" in damaged.notes[0]
    Path("ds.zarr").rename("elsewhere.zarr")
    try:
        gone = report_run(tmp_path / "run", now=NOW)
    finally:
        Path("elsewhere.zarr").rename("ds.zarr")
    assert "no longer at" in gone.notes[1]
    text = checked(tmp_path / "run" / "report.html")
    assert "Error on held-out episodes" in text
    assert "Predicted against" not in text


def test_a_run_that_gave_up_by_its_patience_ended_early(there: Path, tmp_path: Path) -> None:
    patient = tmp_path / "patient.yaml"
    patient.write_text(CONFIG.replace("val_every: 2", "val_every: 1, patience: 1, lr: 0.5"))
    done(run("act-model", "train", "ds.zarr", "--out", tmp_path / "run", "--size", "tiny",
             "--config", patient, "--steps", 50))  # fmt: skip
    report = report_run(tmp_path / "run", now=NOW)
    assert report.state == "ended early"
    assert report.best_step is not None
    assert report.step == report.best_step + 1


def test_metrics_that_are_no_metrics_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        'nonsense\n[1]\n{"kind": "train", "step": 3, "loss": "high", "lr": NaN, "s/data": 1e400}\n'
        f'{"[" * 100_000}\n{{"kind": "train", "step": 1{"0" * 5000}}}\n'
    )
    found = read_metrics(tmp_path)
    assert (found.step, found.broken, found.train.names) == (3, 4, [])
    assert report_run(tmp_path).step == 3
    with pytest.raises(NotFoundError, match="no run"):
        read_metrics(tmp_path / "none")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3 * MOST_POINTS))
def test_a_long_curve_is_thinned_to_means_over_neighbours(values: list[float]) -> None:
    curves = Curves()
    for step, value in enumerate(values, start=1):
        curves.add(step, {"loss": value})
    curve = curves["loss"]
    assert min(len(values), MOST_POINTS // 2) <= len(curve.steps) <= MOST_POINTS
    assert curve.steps[-1] == len(values)
    before = [0, *(int(step) for step in curve.steps)]
    means = [float(np.mean(values[a:b])) for a, b in itertools.pairwise(before)]
    assert curve.values == pytest.approx(means, rel=1e-9, abs=1e-6)


def test_attention_weights_are_what_the_attention_mixes_values_by() -> None:
    torch.manual_seed(0)
    attention = Attention(8, heads=1, dropout=0.0).eval()
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    with watched(attention) as seen:
        out = attention(query, key, value)
    assert torch.allclose(attention.out(seen[0] @ attention.value(value)), out, atol=1e-6)
    attention(query, key, value)
    assert len(seen) == 1, "outside of the block nobody watches"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_camera_gets_the_attention_that_went_to_its_tokens(name: str) -> None:
    """64x96 pictures have 2x3 cells each; before them stand the state, and the style of ACT."""
    family = FAMILIES[name]
    reader = dataset_of(12, schema=schema_of(cameras={"left": (64, 96), "right": (64, 96)}))
    policy = policy_of(name, reader)
    batch = chunks_of_episodes(policy, reader, [0]).__getitems__([0, 7])
    maps = attention_maps(policy, batch)
    assert family.attention is not None
    with torch.inference_mode(), watched(family.attention(policy.network)) as seen:
        policy.predict_batch(batch)
    weights = torch.stack([each.mean(dim=1) for each in seen]).mean(dim=0)
    before = 2 if name == "act" else 1
    assert weights.shape == (2, before + 12)
    for sample, (left, right) in enumerate(maps):
        assert (left.camera, right.camera) == ("left", "right")
        assert left.share == pytest.approx(float(weights[sample, before : before + 6].sum()))
        assert right.share == pytest.approx(float(weights[sample, before + 6 :].sum()))
        assert left.image.shape == (200, 300, 3)


def policy_of(name: str, reader: MemoryDataset) -> Policy:
    """A random policy of the family for `reader`, in memory."""

    train = TrainConfig(device="cpu")
    contract = contract_of(reader.schema, train, 5)
    model = FAMILIES[name].config.model_validate(
        {
            **TINY[name],
            "state_dim": sum(len(v.names) for v in contract.state),
            "action_dim": sum(len(v.names) for v in contract.action),
            "cameras": tuple(c.name for c in contract.cameras),
            "image_size": (64, 96),
            "chunk_size": 5,
        }
    )
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        folder=Path("none"), weights_sha256="", model=model, train=train, contract=contract,
        stats=compute(reader, "all"), step=1, metrics={},
        dataset=DatasetRef(path="", uid="", version=1, content_hash="", train=(), val=()),
    )  # fmt: skip
    return Policy(checkpoint, FAMILIES[name].build(model))


def test_a_trace_holds_the_demonstration_and_whole_chunks_one_after_the_other(there: Path) -> None:
    policy = Policy.load(Path("run/best"), "cpu")
    reader = open_ref("ds.zarr")
    found = trace(policy, reader, 0)
    true = reader.read("action", 0)
    assert np.array_equal(found.demonstrated_TA, true)
    assert [start for start, _ in found.chunks] == list(range(0, len(true), 5))
    errors = []
    for start, actions in found.chunks:
        seen = {n: reader.read(n, 0, start, start + 1)[0] for n in ("qpos", "images/cam")}
        assert np.allclose(actions, policy.predict(seen)[: len(actions)], atol=1e-5)
        errors.append(np.abs(actions - true[start : start + 5]))
    assert found.error_A == pytest.approx(np.concatenate(errors).mean(axis=0), rel=1e-6)


def test_predicted_ends_are_counted_by_tenths_of_probability() -> None:
    said = np.array([0.0, 0.09, 0.55, 0.51, 1.0], np.float32)
    true = np.array([False, True, True, False, True])
    low, middle, high = end_bins(said, true)
    assert (low.count, low.true, middle.count, middle.true) == (2, 0.5, 2, 0.5)
    assert low.said == pytest.approx(0.045)
    assert middle.said == pytest.approx(0.53)
    assert (high.count, high.said, high.true) == (1, 1.0, 1.0)


def test_a_chart_takes_one_point_equal_points_and_none() -> None:
    assert chart("none", []) == ""
    assert chart("negative", [Line(name="a", x=[1], y=[-1.0])], log=True) == ""
    one = chart("one", [Line(name="a", x=[1], y=[0.0])])
    assert one.count("<circle") == 1
    flat = chart("flat <b>", [Line(name="<i>", x=[1, 2], y=[3.0, 3.0]),
                              Line(name="b", x=[1, 2], y=[1e-7, 1e7])], log=True)  # fmt: skip
    assert flat.count("<polyline") == 2
    assert "flat &lt;b&gt;" in flat
    assert "&lt;i&gt;" in flat


def test_words_of_a_page_cannot_become_html(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    html_page.write_page(page, "<x>", [html_page.table(["<y>"], [["<z>&\ud800"]])])
    assert "<title>&lt;x&gt;</title>" in checked(page)
    assert "<y>" not in page.read_text()
    assert "&lt;z&gt;&amp;" in page.read_text()
    with pytest.raises(StoreError, match="cannot write"):
        html_page.write_page(tmp_path / "page.html" / "x", "x", [])
