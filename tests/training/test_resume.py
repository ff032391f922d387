"""Interrupted and resumed equals uninterrupted, to the bit; anything else is refused."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.errors import CheckpointError
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method
from polytask.training.checkpoint import Checkpoint
from polytask.training.events import Step
from polytask.training.job import Job
from polytask.training.loop import run_jobs, train, train_jobs
from polytask.training.recipe import Recipe
from tests.killed import live
from tests.tiny import save_tiny

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=3, batch_size=8)


def jobs_of(backbone: Backbone, task: Task, *methods: Method) -> list[Job]:
    settings = zip(methods, (8, 5, 12), strict=False)
    return [
        Job(backbone, task, replace(RECIPE, method=method, batch_size=size, seed=number), name=f"job{number}")
        for number, (method, size) in enumerate(settings)
    ]


@pytest.mark.parametrize(
    "methods", [(Houlsby(4),), (FullFineTuning(),), (Houlsby(4), LoRA(2, dropout=0.3), FullFineTuning())]
)
def test_stopped_between_any_two_events_and_resumed_is_the_same_run(
    methods: tuple[Method, ...], tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    whole = jobs_of(tiny_backbone, tiny_task, *methods)
    num_events = sum(1 for _ in run_jobs(tiny_backbone, whole))
    for stop in range(1, num_events, 7 if len(methods) > 1 else 4):
        checkpoint = Checkpoint(tmp_path / "run.ckpt")
        first = jobs_of(tiny_backbone, tiny_task, *methods)
        for _ in itertools.islice(run_jobs(tiny_backbone, first), stop):
            pass
        checkpoint.write(tiny_backbone, first)
        second = jobs_of(tiny_backbone, tiny_task, *methods)
        assert checkpoint.load(tiny_backbone, second)
        for _ in run_jobs(tiny_backbone, second):
            pass
        for one, other in zip(whole, second, strict=True):
            assert torch.equal(one.optimizer.flat, other.optimizer.flat)
            assert torch.equal(one.best, other.best)
            assert one.history == other.history
            assert (one.step, one.best_epoch, one.num_tokens) == (other.step, other.best_epoch, other.num_tokens)


def test_killed_at_random_points_many_times_it_ends_with_the_same_digest(tmp_path: Path) -> None:
    save_tiny(tmp_path / "backbone")
    whole = live(tmp_path, None)
    command = [sys.executable, "-m", "tests.killed", str(tmp_path), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    kills, digest = done.stdout.split()
    assert int(kills) >= 2
    assert digest == whole


def test_ctrl_c_ends_between_two_steps_and_resumes(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    expected, _ = train(tiny_backbone, tiny_task, RECIPE)
    before = signal.getsignal(signal.SIGINT)
    seen: list[Step] = []

    def interrupt(event: object) -> None:
        if isinstance(event, Step):
            seen.append(event)
            if len(seen) == 5:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny_backbone, tiny_task, RECIPE, checkpoint=path, progress=interrupt)
    assert len(seen) == 5
    assert signal.getsignal(signal.SIGINT) is before
    resumed, _ = train(tiny_backbone, tiny_task, RECIPE, checkpoint=path, resume=True, progress=seen.append)  # type: ignore[arg-type]
    assert seen[5].step == 6
    assert resumed.tensor_digest == expected.tensor_digest


def test_resuming_a_finished_run_returns_the_same_tensors(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    first, _ = train(tiny_backbone, tiny_task, RECIPE, checkpoint=tmp_path / "run.ckpt")
    again, _ = train(
        tiny_backbone, tiny_task, RECIPE, checkpoint=tmp_path / "run.ckpt", resume=True, progress=pytest.fail
    )  # type: ignore[arg-type]
    assert again.tensor_digest == first.tensor_digest


def test_without_a_checkpoint_to_resume_it_starts_at_the_beginning(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    first, _ = train(tiny_backbone, tiny_task, RECIPE)
    again, _ = train(tiny_backbone, tiny_task, RECIPE, checkpoint=tmp_path / "none.ckpt", resume=True)
    assert again.tensor_digest == first.tensor_digest


def test_a_changed_recipe_data_or_backbone_is_refused_by_name(
    tiny_backbone: Backbone, tiny_task: Task, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.ckpt"
    train(tiny_backbone, tiny_task, RECIPE, checkpoint=path)
    content = path.read_bytes()

    def refused(
        words: str, backbone: Backbone = tiny_backbone, task: Task = tiny_task, recipe: Recipe = RECIPE
    ) -> None:
        with pytest.raises(CheckpointError, match=words):
            train(backbone, task, recipe, checkpoint=path, resume=True)
        assert path.read_bytes() == content

    refused(r"another run: lr was 0.01 and is 0.001", recipe=replace(RECIPE, lr=1e-3))
    refused(r"another run: size was 4 and is 8", recipe=replace(RECIPE, method=Houlsby(8)))
    refused(r"data was '\w+' and is", task=replace(tiny_task, train=Rows(["a"] * 48, targets=[0, 1] * 24)))
    other = load_backbone(save_tiny(tmp_path / "other", seed=1), device="cpu", dtype="float32", pooling="mean")
    refused("backbone was", backbone=other)
    in_bf16 = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16", pooling="mean")
    refused("dtype was 'float32' and is 'bfloat16'", backbone=in_bf16)


def test_a_checkpoint_from_before_norms_was_written_is_resumed_with_tuned_norms_only(
    tiny_task: Task, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a pre-norm backbone Houlsby tuned the norms, and neither recipe nor checkpoint said so."""
    backbone = load_backbone(folder_of("modernbert"), device="cpu", dtype="float32")
    tuned = replace(RECIPE, method=Houlsby(4, norms=True), epochs=1)
    whole, _ = train(backbone, tiny_task, tuned)
    job, path = Job(backbone, tiny_task, tuned), tmp_path / "run.ckpt"
    for _ in itertools.islice(run_jobs(backbone, [job]), 3):
        pass
    Checkpoint(path).write(backbone, [job])
    header = Checkpoint(path).header()
    assert header is not None
    del header["setting"]["jobs"]["mood"]["recipe"]["method"]["norms"]
    save_file(load_file(path), path, metadata={"polytask-checkpoint": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"another run: norms was True and is False\. Resume with the original"):
        train(backbone, tiny_task, replace(tuned, method=Houlsby(4)), checkpoint=path, resume=True)
    resumed, _ = train(backbone, tiny_task, tuned, checkpoint=path, resume=True)
    assert resumed.tensor_digest == whole.tensor_digest


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_checkpoint_is_refused(
    content: bytes, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    path = tmp_path / "run.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        train(tiny_backbone, tiny_task, RECIPE, checkpoint=path, resume=True)


def test_a_truncated_checkpoint_is_refused(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    train(tiny_backbone, tiny_task, RECIPE, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        train(tiny_backbone, tiny_task, RECIPE, checkpoint=path, resume=True)


def test_resuming_restores_the_number_of_threads(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        train(tiny_backbone, tiny_task, RECIPE, checkpoint=tmp_path / "run.ckpt")
        torch.set_num_threads(threads + 1)
        train(tiny_backbone, tiny_task, RECIPE, checkpoint=tmp_path / "run.ckpt", resume=True)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


def test_training_in_another_thread_works_without_signals(tiny_backbone: Backbone, tiny_task: Task) -> None:
    digests = []
    thread = threading.Thread(target=lambda: digests.append(train(tiny_backbone, tiny_task, RECIPE)[0].tensor_digest))
    thread.start()
    thread.join()
    assert digests == [train(tiny_backbone, tiny_task, RECIPE)[0].tensor_digest]


def test_writing_takes_a_bounded_share_of_the_time(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.ckpt", every_s=0.0)
    jobs = jobs_of(tiny_backbone, tiny_task, Houlsby(4))
    spent, started, writes = 0.0, time.monotonic(), 0
    while time.monotonic() - started < 1.0:
        before, stamp = time.monotonic(), checkpoint.path.stat().st_mtime_ns if checkpoint.path.exists() else 0
        checkpoint.write_if_due(tiny_backbone, jobs)
        if checkpoint.path.stat().st_mtime_ns != stamp:
            spent += time.monotonic() - before
            writes += 1
        time.sleep(0.001)
    assert writes >= 1
    assert spent < 0.5  # a twentieth, plus the first write and the scheduler
    assert checkpoint.path.stat().st_size < 4 * 4 * jobs[0].optimizer.flat.numel() + 8192
    train_jobs(tiny_backbone, jobs, checkpoint=checkpoint)
