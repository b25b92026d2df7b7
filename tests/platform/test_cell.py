"""One cell of a comparison, of every kind: its figures are its answers', its bytes are the ledgers'."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform import domain
from wardround.platform.baselines import train_alone, train_pooled
from wardround.platform.cell import run_cell
from wardround.platform.errors import MethodError
from wardround.platform.methods.table import method_of
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_data import Part, SiteData, StudyData
from wardround.platform.training import predict_logits, zero_shot_logits
from wardround.platform.update import BUFFERS, METRICS
from wardround.platform.watching import Silent

KINDS = {
    "zero-shot": {},
    "local-only": {"baseline": {"method": "fedclip"}, "training": {"lr": 0.1}},  # far enough apart to disagree
    "pooled": {"baseline": {"method": "facmic"}},
    "fedclip": {"calibration": {"method": "federated-head"}},
    "facmic": {"facmic": {"normalisation": "batch-local"}},
    "faa-clip": {"personalisation": {"fine_tune_epochs": 1}, "server": {"optimiser": "fedavgm", "lr": 0.5}},
}
FEDERATED = ("fedclip", "facmic", "faa-clip")


def muddled(data: StudyData) -> StudyData:
    """Every fourth label outside training changed, and images away that are of no class: nobody is always right."""

    def part(own: Part) -> Part:
        wrong = np.arange(len(own)) % 4 == 0
        return replace(own, labels=np.where(wrong, (own.labels + 1) % 3, own.labels))

    def site(own: SiteData) -> SiteData:
        return replace(own, validation=part(own.validation), test=part(own.test))

    assert data.unseen is not None
    noise = np.random.default_rng(3).normal(size=data.unseen.test.features.shape)
    noise = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    away = replace(data.unseen, test=replace(data.unseen.test, features=noise))
    return replace(data, sites=tuple(site(own) for own in data.sites), unseen=site(away))


class Cell:
    """What a cell came to, and what it was made from."""

    def __init__(self, root: Path, make: Any, method: str, data: StudyData | None = None, **changes: Any) -> None:
        self.root = root
        self.study = make.make_study(**{"method": method, "rounds": 2, **KINDS.get(method, {}), **changes})
        self.method = method_of(self.study)
        self.data = data or muddled(make.make_data())
        self.opened = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(domain, "HIDDEN", 8)
            self.result = run_cell(self.study, self.method, self.data, make.BACKBONE, self.run, Silent())

    def run(self) -> RunFolder:
        self.opened += 1
        return RunFolder.create(self.root, self.study)


@pytest.fixture(scope="module")
def toys(request: pytest.FixtureRequest) -> Any:
    return request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))


@pytest.fixture(scope="module")
def cells(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cell]]:
    """``cells(method)``: that method's cell, made once; tests only read it."""
    made: dict[str, Cell] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def cell(method: str) -> Cell:
        if method not in made:
            made[method] = Cell(tmp_path_factory.mktemp("cell") / "run", toys, method)
        return made[method]

    yield cell
    torch.set_num_threads(threads)


def balanced(correct: list[float], labels: list[int]) -> float:
    """Mean over the classes that are there of the share of right answers."""
    return float(np.mean([np.mean([c for c, y in zip(correct, labels, strict=True) if y == k]) for k in set(labels)]))


def parts(cell: Cell) -> dict[tuple[str, str], Part]:
    found = {("sites", site.name): site.test for site in cell.data.sites}
    assert cell.data.unseen is not None
    return {**found, ("unseen", cell.data.unseen.name): cell.data.unseen.test}


@pytest.mark.parametrize("method", KINDS)
def test_answers_add_up_to_the_figures(cells: Callable[[str], Cell], method: str) -> None:
    cell = cells(method)
    result = cell.result
    for (where, name), part in parts(cell).items():
        answer, figures = result["answers"][where][name], result[where][name]
        assert answer["labels"] == part.labels.tolist()
        names = [record.group for record in cell.data.cohort.records]
        assert [names[int(number)] for number in answer["groups"]] == list(part.groups)
        assert len(answer["correct"]) == len(part) == figures["n"]
        assert set(answer["correct"]) <= {k / 3 for k in range(4)}
        assert np.mean(answer["correct"]) == pytest.approx(figures["accuracy"])
        assert balanced(answer["correct"], answer["labels"]) == pytest.approx(figures["balanced_accuracy"])
        # Only where several models answer is an image right in part.
        assert (set(answer["correct"]) <= {0.0, 1.0}) or (method, where) == ("local-only", "unseen")


@pytest.mark.parametrize("method", KINDS)
def test_it_says_what_it_is_and_is_plain_json(cells: Callable[[str], Cell], method: str) -> None:
    cell = cells(method)
    result = cell.result
    assert result["method"] == method
    assert result["exchange"] == cell.method.exchange
    assert result["options"] == cell.method.options()
    assert (result["consumes"], result["transductive"]) == ("features", False)
    assert set(result["sites"]) == {"site-1", "site-2", "site-3"}
    assert set(result["unseen"]) == {"unseen"}
    assert result["seconds"] >= 0.0
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert cell.opened == (method in FEDERATED)


@pytest.mark.parametrize("method", KINDS)
def test_the_curve_has_a_point_for_each_round(cells: Callable[[str], Cell], method: str) -> None:
    result = cells(method).result
    rounds = [] if method == "zero-shot" else [1, 2]
    assert [point["round"] for point in result["curve"]] == rounds
    assert result["rounds"] == len(rounds)
    for point in result["curve"]:
        assert 0.0 <= point["balanced_accuracy"] <= 1.0
        assert 0.0 < point["train_loss"] < 20.0


@pytest.mark.parametrize("method", FEDERATED)
def test_bytes_are_those_of_the_ledgers(cells: Callable[[str], Cell], method: str) -> None:
    cell = cells(method)
    traffic = cell.result["traffic"]

    def sent(ledger: Path) -> int:
        rows = [json.loads(line) for line in ledger.read_bytes().splitlines()]
        return sum(row["wire_bytes"] for row in rows if row["direction"] == "out")

    run = RunFolder(cell.root)
    up = {site.name: sent(run.homes / site.name / "ledger.jsonl") for site in cell.data.sites}
    assert traffic["bytes_up"] == sum(up.values())
    assert traffic["bytes_down"] == sent(run.coordinator / "ledger.jsonl")
    assert traffic["up_per_site_round"] == pytest.approx(sum(up.values()) / 3 / 2)
    numbers = sum(traffic["parameters"].values())
    assert traffic["up_per_site_round"] > 4 * numbers  # four bytes a number, and the protocol around them
    expected = {
        "fedclip": {"log_temperature": 1, "adapter": 544, METRICS: 1},
        "facmic": {"adapter": 544, METRICS: 1},
        "faa-clip": {"adapter": 576, BUFFERS: 32, METRICS: 1},
    }
    assert traffic["parameters"] == expected[method]


@pytest.mark.parametrize("method", ["zero-shot", "local-only", "pooled"])
def test_where_nothing_is_exchanged_nothing_is_sent(cells: Callable[[str], Cell], method: str) -> None:
    cell = cells(method)
    assert cell.result["traffic"] == {"bytes_up": 0, "bytes_down": 0, "up_per_site_round": 0.0, "parameters": {}}
    assert not cell.root.exists()


# --- each kind beside what it stands for -----------------------------------------------------------------------------


def right(logits: torch.Tensor, part: Part) -> list[float]:
    return (logits.numpy().argmax(axis=1) == part.labels).astype(float).tolist()


def test_zero_shot_answers_with_the_frozen_clip(cells: Callable[[str], Cell]) -> None:
    cell = cells("zero-shot")
    for (where, name), part in parts(cell).items():
        logits = zero_shot_logits(torch.from_numpy(part.features), cell.data.shared)
        assert cell.result["answers"][where][name]["correct"] == right(logits, part)


def test_local_only_answers_with_each_sites_own_model_and_away_with_the_mean_of_all(
    cells: Callable[[str], Cell],
) -> None:
    cell = cells("local-only")
    states = {}
    for site in cell.data.sites:
        part, held_out = site.train.training(), site.validation.training()
        states[site.name] = train_alone(cell.study, cell.method, site.name, part, held_out, cell.data.shared)

    def logits(name: str, part: Part) -> torch.Tensor:
        return predict_logits(cell.method, states[name], torch.from_numpy(part.features), cell.data.shared)

    for site in cell.data.sites:
        answered = cell.result["answers"]["sites"][site.name]["correct"]
        assert answered == right(logits(site.name, site.test), site.test)
    assert cell.data.unseen is not None
    away = cell.data.unseen.test
    each = np.array([right(logits(name, away), away) for name in states])
    assert len(np.unique(each, axis=0)) > 1
    assert cell.result["answers"]["unseen"]["unseen"]["correct"] == pytest.approx(each.mean(axis=0).tolist())


def test_pooled_answers_with_one_model_of_all_pictures(cells: Callable[[str], Cell]) -> None:
    cell = cells("pooled")
    losses: list[float] = []
    state = train_pooled(cell.study, cell.method, cell.data, lambda _, __, loss: losses.append(loss))
    for (where, name), part in parts(cell).items():
        logits = predict_logits(cell.method, state, torch.from_numpy(part.features), cell.data.shared)
        assert cell.result["answers"][where][name]["correct"] == right(logits, part)
    assert [point["train_loss"] for point in cell.result["curve"]] == losses


@pytest.mark.parametrize("method", FEDERATED)
def test_a_federated_curve_is_that_of_the_rounds(cells: Callable[[str], Cell], method: str) -> None:
    cell = cells(method)
    lines = RunFolder(cell.root).read_rounds()
    assert [point["train_loss"] for point in cell.result["curve"]] == [line["train_loss"] for line in lines]
    means = [line["validation"]["balanced_accuracy"] for line in lines]
    assert [point["balanced_accuracy"] for point in cell.result["curve"]] == means


def test_a_temperature_in_the_adapter_is_not_fitted_again(cells: Callable[[str], Cell]) -> None:
    assert {row["temperature"] for row in cells("fedclip").result["sites"].values()} == {None}
    assert None not in {row["temperature"] for row in cells("faa-clip").result["sites"].values()}


def test_a_cell_that_is_opened_again_goes_on_to_the_same_end(toys: Any, tmp_path: Path) -> None:
    first = Cell(tmp_path / "run", toys, "fedclip")
    again = run_cell(
        first.study, first.method, first.data, toys.BACKBONE, lambda: RunFolder(tmp_path / "run"), Silent()
    )
    for key in first.result.keys() - {"seconds", "traffic"}:
        assert again[key] == first.result[key]
    assert again["traffic"]["parameters"] == first.result["traffic"]["parameters"]


@pytest.mark.parametrize("method", ["zero-shot", "local-only", "pooled", "fedclip"])
def test_without_an_unseen_site_its_place_is_empty(toys: Any, tmp_path: Path, method: str) -> None:
    cell = Cell(tmp_path / "run", toys, method, replace(toys.make_data(), unseen=None), rounds=1)
    assert cell.result["unseen"] == cell.result["answers"]["unseen"] == {}


@pytest.mark.parametrize("method", ["local-only", "pooled"])
def test_a_site_that_cannot_train_is_told(toys: Any, tmp_path: Path, method: str) -> None:
    data = toys.make_data()

    def cut(part: Part) -> Part:
        return replace(part, rows=part.rows[:0], features=part.features[:0], labels=part.labels[:0], groups=())

    sites = tuple(replace(site, train=cut(site.train)) for site in data.sites)
    with pytest.raises(MethodError, match="0 training record"):
        Cell(tmp_path / "run", toys, method, replace(data, sites=sites))


@pytest.mark.parametrize(
    ("method", "options", "looks"),
    [
        ("zero-shot", {}, False),
        ("pooled", {}, False),
        ("fedclip", {}, False),
        ("facmic", {}, True),
        ("facmic", {"adaptation_weight": 0.0}, False),
        ("facmic", {"adaptation_weight": 0.0, "normalisation": "batch-local"}, True),
        ("faa-clip", {}, True),
    ],
)
def test_a_transductive_cell_is_one_whose_method_looks_at_the_reference_set(
    toys: Any, tmp_path: Path, method: str, options: dict[str, Any], looks: bool
) -> None:
    """With norms at the sites, the federation's model takes its statistics from there."""
    data = muddled(toys.make_data())
    tables = {method.replace("-", "_"): options} if options else {}
    changes = {"rounds": 1, "facmic": {}, **tables}
    marked = Cell(tmp_path / "run", toys, method, replace(data, transductive=True), **changes)
    assert marked.result["transductive"] is looks
