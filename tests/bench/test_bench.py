"""``polytask bench`` times real training and inference, on the same rows for all libraries, interleaved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench import interleave
from polytask.bench.answering import ROUTES, answering_functions, answering_rates
from polytask.bench.reference_loop import PlainTraining
from polytask.bench.training import FULL, OtherLibraries, synthetic_work, training_rates
from polytask.bench.workload import TEXTS, PreparedJob, num_tokens, sample_batches
from polytask.methods import Houlsby
from polytask.training.job import attached_to
from polytask.training.loop import step
from tests.cli.test_cli import refused, succeeded


@pytest.fixture(scope="module")
def backbone(tiny_bert_folder: Path) -> Backbone:
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32")


def test_runs_alternate_and_every_round_starts_with_another() -> None:
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
    assert list(interleave.alternated(runs, 2)) == list("abc")
    assert "".join(order) == "abcbcacab"


def test_there_are_at_least_three_rounds_and_more_while_time_is_left() -> None:
    assert len(interleave.measure_rounds({"nothing": lambda: None}, 0.0)) == interleave.MIN_ROUNDS
    assert len(interleave.measure_rounds({"nothing": lambda: None}, 0.01)) > interleave.MIN_ROUNDS


@pytest.mark.parametrize("name", TEXTS)
def test_drawn_lengths_have_the_quantiles_of_the_data_set(name: str) -> None:
    lengths = sorted(TEXTS[name].lengths(4000))
    for at, expected in enumerate(TEXTS[name].vigintiles[1:-1], 1):
        assert lengths[at * 200] == pytest.approx(expected, rel=0.1, abs=1)


def test_sampled_batches_have_the_mean_length_of_all_batches(backbone: Backbone) -> None:
    work = synthetic_work(backbone, "sst2", 512, 8)
    whole = num_tokens(work, "grouped")[0] / len(work["orders"]["grouped"])
    some = sample_batches(work, 8)
    assert [len(batches) for batches in some["orders"].values()] == [8, 8]
    assert num_tokens(some, "grouped")[0] / 8 == pytest.approx(whole, rel=0.05)


def test_a_prepared_job_trains_on_its_batches(backbone: Backbone) -> None:
    work = synthetic_work(backbone, "sst2", 12, 4)
    job = PreparedJob(backbone, work, Houlsby(4))
    with attached_to(backbone, [job]) as attached:
        for job.batch in (2, 0):
            assert job.next_rows() == work["orders"]["grouped"][job.batch]
            step(backbone, attached, [job])
    assert job.num_tokens == sum(len(work["ids"][row]) for batch in (2, 0) for row in work["orders"]["grouped"][batch])


def test_the_reference_loop_trains(backbone: Backbone) -> None:
    others = OtherLibraries(backbone)
    _, plain = others.models["transformers", FULL]
    assert isinstance(plain, PlainTraining)
    before = {name: p.detach().clone() for name, p in plain.trained.items()}
    work = synthetic_work(backbone, "sst2", 8, 8)
    losses = [plain.step(work, range(8), kind) for kind in ("float32", "autocast")]
    assert all(loss > 0 for loss in losses)
    assert any(not torch.equal(p, before[name]) for name, p in plain.trained.items())


def test_all_libraries_are_measured_on_the_same_texts_and_the_backbone_is_unchanged(backbone: Backbone) -> None:
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    others = OtherLibraries(backbone)
    rates = training_rates(backbone, others, "sst2", 0.0)
    found = {(rate.library, rate.trains) for rate in rates}
    assert found >= {("polytask", "Houlsby, size 64"), ("polytask", "LoRA, rank 8"), ("transformers", FULL)}
    assert {library for library, _ in found} | set(others.missing) == {"polytask", "transformers", "peft", "adapters"}
    assert all(rate.tokens_per_s > 0 and 0 <= rate.padding < 1 for rate in rates)
    assert len({(rate.rounds, rate.batches) for rate in rates}) == 1
    assert all(torch.equal(p, before[name]) for name, p in backbone.model.named_parameters())
    assert not backbone.model.training


def test_a_mixed_batch_and_a_pass_per_task_give_the_same_answers(backbone: Backbone) -> None:
    work = synthetic_work(backbone, "sst2", 12, 6)
    rows = work["orders"]["shuffled"][0]
    with answering_functions(backbone, work, Houlsby(4), 3, 2) as functions:
        assert list(functions) == list(ROUTES)
        assert functions["mixed"](rows) == pytest.approx(functions["apart"](rows), abs=1e-5)
        assert functions["mixed"](rows) != pytest.approx(functions["one"](rows), abs=1e-7)


def test_every_route_is_measured(backbone: Backbone) -> None:
    rates = answering_rates(backbone, "sst2", 0.0, num_tasks=3)
    assert [rate.route for rate in rates] == list(ROUTES)
    assert all(rate.texts_per_s > 0 for rate in rates)


def test_the_command_prints_tables_with_ratios_hardware_and_versions(tiny_bert_folder: Path) -> None:
    shown = succeeded("bench", "--backbone", tiny_bert_folder, "--texts", "sst2", "--seconds", 1, "--dtype", "float32")
    for part in ("all parameters", "bf16 autocast", "×", "one forward pass per task", "torch", "cores"):
        assert part in shown


def test_json_has_the_rates_and_the_ratios(tiny_bert_folder: Path) -> None:
    asked = ("bench", "--backbone", tiny_bert_folder, "--texts", "sst2,newsgroups", "--seconds", 1, "--json")
    found = json.loads(succeeded(*asked, "--dtype", "float32", "--threads", torch.get_num_threads()))
    assert {rate["texts"] for rate in found["training"]} == {"sst2", "newsgroups"}
    for rate in found["training"]:
        own = rate["ours_over_this"].get(rate["trains"])
        assert rate["library"] != "polytask" or own == 1.0
    assert [rate["mixed_over_this"] for rate in found["answering"] if rate["route"] == "mixed"] == [1.0, 1.0]
    assert found["environment"]["versions"]["torch"] == torch.__version__


def test_unknown_texts_and_impossible_threads_are_refused() -> None:
    assert "sst2" in refused("bench", "--texts", "sst3")
    assert "cores" in refused("bench", "--threads", 0)


def test_no_round_begins_after_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(interleave.time, "perf_counter", lambda: float(next(clock)))
    assert len(interleave.measure_rounds({"slow": lambda: None}, 20.0)) == 1
