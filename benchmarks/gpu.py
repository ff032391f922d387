"""Checks and measures everything on a GPU with one command that takes less than eight minutes.

It needs Python with torch (2.10 or newer for variable-length attention), transformers 5 and the packages that Polytask
imports; with pytest it runs ``pytest -m gpu``, with peft and adapters it measures them, too. A machine without a
network gets the weights in a folder that is made elsewhere, of 45 MB:

    python benchmarks/gpu.py --prepare .gpu            # where the packaged MiniLM is
    python benchmarks/gpu.py --model .gpu --out OUT    # where the GPU is
    python benchmarks/gpu.py --model FOLDER --device cpu --small    # the same code in seconds, for tests

Each part writes its own ``gpu-….csv``, in a folder named after hardware and torch. A part that fails is written to
``gpu-failures.txt`` and does not stop the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from contenders import alternated, memory, results_folder, versions, write_csv
from peers.plain_houlsby import with_houlsby
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.answering import answering_rates
from polytask.bench.peers import classifier
from polytask.bench.reference_loop import PlainTraining
from polytask.bench.training import FULL, HOULSBY, MAX_LABELS, OtherLibraries, synthetic_work, training_rates
from polytask.bench.workload import PreparedJob, attached_with
from polytask.data.encoding import Encoded
from polytask.inference.scoring import scores_of
from polytask.methods import IA3, Houlsby, LayerNormOnly, LoRA
from polytask.training.job import Job, attached_to
from polytask.training.loop import step

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
PLAIN = "plain torch"
Row = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What is measured, and where.

    Attributes:
        models: folders of backbones, by name.
        device: a device of torch.
        texts: kinds of texts (``polytask.bench.workload.TEXTS``).
        jobs, tasks: how many jobs train together, and how many tasks are in a batch.
        batch_size: rows of a job's step.
        seconds: the time for one measurement.
    """

    models: dict[str, Path]
    device: str
    texts: tuple[str, ...]
    jobs: tuple[int, ...]
    tasks: tuple[int, ...]
    batch_size: int
    seconds: float

    def backbones(self, dtype: str = "auto") -> Iterator[tuple[str, Backbone]]:
        """Load each backbone."""
        for name, folder in self.models.items():
            yield name, load_backbone(folder, device=self.device, dtype=dtype)

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.device != "cpu":
            torch.cuda.synchronize()


def prepare(folder: Path) -> None:
    """Write the packaged MiniLM in bf16 to a folder, to be carried to a machine without a network."""
    from work import model_folder

    source = model_folder("minilm", folder)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "onnx"))
    BertModel.from_pretrained(source, add_pooling_layer=False).to(torch.bfloat16).save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    print(f"{folder}: {size / MIB:.0f} MiB", file=sys.stderr)


def bert_base(folder: Path, tokenizer: Path) -> Path:
    """BERT-base's shape with random weights, in bf16, with the tokenizer of another model."""
    torch.manual_seed(0)
    BertModel(BertConfig(), add_pooling_layer=False).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def of_training(setup: Setup) -> Iterator[Row]:
    """The speed of training, of all libraries that are installed and of a plain adapter of torch modules."""
    for model, backbone in setup.backbones():
        others = OtherLibraries(backbone)
        plain = classifier(others.source, MAX_LABELS, dtype=torch.float32)
        others.models[PLAIN, HOULSBY] = plain, PlainTraining(with_houlsby(plain), setup.device)
        for library, reason in others.missing.items():
            print(f"{library}: {reason}", file=sys.stderr)
        for texts in setup.texts:
            rates = training_rates(backbone, others, texts, setup.seconds)
            ours = {rate.trains: rate.tokens_per_s for rate in rates if rate.library == "polytask"}
            for rate in rates:
                over = ours[HOULSBY if rate.trains == FULL else rate.trains] / rate.tokens_per_s
                yield {"model": model, **asdict(rate), "ours_over_this": f"{over:.2f}"}


def of_fused(setup: Setup) -> Iterator[Row]:
    """The milliseconds of a step of several jobs, in one pass and one after another."""
    for model, backbone in setup.backbones():
        for texts in setup.texts:
            work = synthetic_work(backbone, texts, 4 * setup.batch_size, setup.batch_size)
            for num_jobs in setup.jobs:
                jobs = [PreparedJob(backbone, work, Houlsby(64), name=f"job{job}") for job in range(num_jobs)]
                with attached_to(backbone, jobs) as attached:
                    together = partial(stepped, setup, backbone, attached, [jobs])
                    in_turn = partial(stepped, setup, backbone, attached, [[job] for job in jobs])
                    seconds = alternated({"fused": together, "in turn": in_turn}, 3)
                yield {
                    "model": model,
                    "texts": texts,
                    "jobs": num_jobs,
                    "rows_a_job": setup.batch_size,
                    "fused_ms_a_step": f"{250 * seconds['fused']:.2f}",
                    "one_after_another_ms_a_step": f"{250 * seconds['in turn']:.2f}",
                    "speedup": f"{seconds['in turn'] / seconds['fused']:.2f}",
                }


def stepped(setup: Setup, backbone: Backbone, attached: Attached, groups: list[list[PreparedJob]]) -> None:
    """Four steps of every job, in the passes of these groups."""
    for batch in range(4):
        for jobs in groups:
            for job in jobs:
                job.batch = batch
            step(backbone, attached, jobs)
    setup.wait()


def of_mixed(setup: Setup) -> Iterator[Row]:
    """The speed of answering: tasks mixed in a batch, one adapter, one pass a task, and the backbone alone."""
    for model, backbone in setup.backbones():
        for texts in setup.texts:
            for num_tasks in setup.tasks:
                rates = answering_rates(backbone, texts, setup.seconds, num_tasks=num_tasks)
                mixed = next(rate.texts_per_s for rate in rates if rate.route == "mixed")
                for rate in rates:
                    over = f"{mixed / rate.texts_per_s:.2f}"
                    yield {"model": model, "tasks": num_tasks, **asdict(rate), "mixed_over_this": over}


def of_equal(setup: Setup) -> Iterator[Row]:
    """How far answers and one training step are from those of the CPU in fp32."""
    for model, folder in setup.models.items():
        reference = answers_and_step(load_backbone(folder, device="cpu", dtype="float32"), setup)
        for dtype in ("float32", "bfloat16"):
            found = answers_and_step(load_backbone(folder, device=setup.device, dtype=dtype), setup)
            for what, expected in reference.items():
                error = (found[what] - expected).norm() / expected.norm()
                yield {"model": model, "dtype": dtype, "what": what, "relative_error": f"{float(error):.2e}"}


def answers_and_step(backbone: Backbone, setup: Setup) -> dict[str, torch.Tensor]:
    """The scores of a mixed batch for each method, and the change of an adapter in one step, both on the CPU."""
    work = synthetic_work(backbone, setup.texts[0], setup.tasks[0], setup.tasks[0])
    found = {}
    for method in (Houlsby(64), LoRA(rank=8), IA3(), LayerNormOnly()):
        names = [f"task{number}" for number in range(setup.tasks[0])]
        loaded = {name: LoadedAdapter(backbone, method, "classification", ("no", "yes"), key=(name,)) for name in names}
        attached = Attached.of(backbone)
        for name, adapter in loaded.items():
            for parameter in adapter.tree.parameters():  # an untrained adapter changes next to nothing
                parameter.data += 0.02
            attached.add(name, adapter.frozen(backbone.dtype).deltas)
        everything = Encoded(work["ids"], work["types"], 0)
        found[f"answers of {method.name}"] = torch.stack(scores_of(backbone, attached, loaded, everything, names))
        for name in names:
            attached.remove(name)
    for module in backbone.model.modules():
        if hasattr(module, "dropout_source"):
            module.p = 0.0
    job = PreparedJob(backbone, work, Houlsby(64))
    before = job.optimizer.flat.clone()
    step(backbone, attached_with(backbone, [job]), [job])
    return {**found, "change in a training step": (job.optimizer.flat - before).cpu()}


def of_memory(setup: Setup) -> Iterator[Row]:
    """The peak memory of training steps: ours alone and fused, and plain torch modules."""
    for model, backbone in setup.backbones():
        work = synthetic_work(backbone, setup.texts[-1], setup.batch_size, setup.batch_size)
        jobs: list[Job] = [PreparedJob(backbone, work, Houlsby(64), name=f"job{job}") for job in range(setup.jobs[0])]
        for together in (jobs[:1], jobs):
            with attached_to(backbone, together) as attached:
                run = partial(step, backbone, attached, together)
                yield {"model": model, "library": "polytask", "jobs": len(together), **peak_of(run, setup)}
        plain = PlainTraining(with_houlsby(classifier(str(setup.models[model]), MAX_LABELS)), setup.device)
        run = partial(plain.step, work, list(range(setup.batch_size)), "autocast")
        yield {"model": model, "library": PLAIN, "jobs": 1, **peak_of(run, setup)}


def peak_of(run: Callable[[], object], setup: Setup) -> Row:
    """The memory before and during three steps, in MiB."""
    run()
    before = memory(setup.device)["now_bytes"]
    for _ in range(3):
        run()
    setup.wait()
    return {"loaded_mib": before // MIB, "peak_mib": memory(setup.device)["peak_bytes"] // MIB}


def run_tests(log: Path) -> None:
    """Run ``pytest -m gpu`` if pytest is installed, with its output in ``log``."""
    if importlib.util.find_spec("pytest") is None:
        print("pytest is not installed: the tests are left out", file=sys.stderr)
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/gpu"]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=120)
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}: see {log.name}")


PARTS = {"equal": of_equal, "memory": of_memory, "train": of_training, "fused": of_fused, "mixed": of_mixed}
"""By the name of their file, the most important first."""


def write_part(folder: Path, part: str, setup: Setup) -> None:
    """Measure a part and write what it found, also if it fails in between."""
    own = " ".join(f"{package}={number}" for package, number in versions().items())
    rows: list[Row] = []
    try:
        rows.extend({**row, "versions": own} for row in PARTS[part](setup))
    finally:
        if rows:
            write_csv(folder / f"gpu-{part}.csv", rows)


def guarded(name: str, run: Callable[[], None], failures: Path) -> bool:
    """Run a part; whether it succeeded. Its error goes to a file."""
    started = time.perf_counter()
    try:
        run()
    except Exception:
        with failures.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n{traceback.format_exc()}\n")
        traceback.print_exc()
        return False
    finally:
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return True


def setup_of(args: argparse.Namespace, scratch: Path) -> Setup:
    """What to measure, by the command line."""
    if args.small:
        return Setup({"small": args.model}, args.device, ("sst2",), (2,), (3,), 4, args.seconds)
    models = {"minilm": args.model, "bert-base": bert_base(scratch / "bert-base", args.model)}
    return Setup(models, args.device, ("sst2", "newsgroups"), (8, 32), (26, 256), 16, args.seconds)


def main() -> None:
    """Run all parts; the exit status is 1 if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="only write the folder for --model")
    parser.add_argument("--model", type=Path, default=Path(".gpu"), help="MiniLM, as --prepare wrote it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="the given model only, few jobs and tasks")
    parser.add_argument("--seconds", type=float, default=10, help="the time for one measurement")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    if args.prepare:
        prepare(args.prepare)
        return
    folder = results_folder(args.out, args.device, torch.get_num_threads())
    folder.mkdir(parents=True, exist_ok=True)
    failures = folder / "gpu-failures.txt"
    failures.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        setup = setup_of(args, Path(scratch))
        runs = {} if args.device == "cpu" else {"tests": partial(run_tests, folder / "gpu-tests.log")}
        runs |= {part: partial(write_part, folder, part, setup) for part in args.only.split(",")}
        done = [guarded(name, run, failures) for name, run in runs.items()]
    sys.exit(not all(done))


if __name__ == "__main__":
    main()
