"""Measures training: adapters by Polytask, full fine-tuning by transformers, and adapters by other installed libraries.

Other libraries run with their defaults (fp32, shuffled batches) and with their best settings: bf16 autocast, rows
grouped by length and, on a CPU, the faster attention. Each uses one model and one optimizer for all of its settings.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.bench.interleave import MIN_ROUNDS, Run, measure_rounds, medians
from polytask.bench.peers import classifier, with_adapters, with_peft
from polytask.bench.reference_loop import PlainTraining, Work
from polytask.bench.workload import MAX_LENGTH, TEXTS, PreparedJob, as_work, num_tokens, sample_batches, synthetic
from polytask.methods import Houlsby, LoRA, Method
from polytask.training.job import attached_to
from polytask.training.loop import step

HOULSBY, LORA, FULL = "Houlsby, size 64", "LoRA, rank 8", "all parameters"
OURS: dict[str, Method] = {HOULSBY: Houlsby(64), LORA: LoRA(rank=8, alpha=16)}
BATCH_SIZE, NUM_DRAWN_BATCHES, MAX_BATCHES = 32, 16, 8
MAX_LABELS = max(texts.num_labels for texts in TEXTS.values())


@dataclass(frozen=True)
class TrainingRate:
    """The training speed of a library on one kind of texts.

    Attributes:
        tokens_per_s: tokens per second, without padding.
        padding: the share of padding among the tokens of all batches.
    """

    texts: str
    library: str
    trains: str
    setting: str
    tokens_per_s: float
    padding: float
    ms_a_step: float
    rounds: int
    batches: int


@dataclass(frozen=True)
class Contender:
    """A library in one setting; ``train_on`` trains on a batch. Of those with one name, the fastest is reported."""

    library: str
    trains: str
    setting: str
    order: str
    train_on: Callable[[Work, int], object]

    @property
    def name(self) -> tuple[str, str, str]:
        """Library, what is trained, and precision: the name in a table."""
        return self.library, self.trains, self.setting.partition(", ")[0]


class OtherLibraries:
    """The models of other libraries with a backbone's weights; ``missing`` says why a library is left out."""

    def __init__(self, backbone: Backbone) -> None:
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.device = backbone.device
        self.source = str(backbone.model.name_or_path)
        self.missing: dict[str, str] = {}
        self.models: dict[tuple[str, str], tuple[Any, PlainTraining]] = {}
        makers = {
            ("transformers", FULL): self._plain,
            ("peft", LORA): self._peft,
            ("adapters", HOULSBY): self._adapters,
        }
        for (library, trains), make in makers.items():
            try:
                inner, model = make()
            except (ImportError, AttributeError, RuntimeError) as error:
                self.missing[library] = reason_not_measured(library, error)
                continue
            with_types = "token_type_ids" in inspect.signature(inner.forward).parameters
            self.models[library, trains] = inner, PlainTraining(model, str(self.device), with_types=with_types)

    def _plain(self) -> tuple[Any, Any]:
        model = classifier(self.source, MAX_LABELS, dtype=torch.float32)
        return model, model

    def _peft(self) -> tuple[Any, Any]:
        import peft  # noqa: F401

        inner, _ = self._plain()
        return inner, with_peft(inner)

    def _adapters(self) -> tuple[Any, Any]:
        model = with_adapters(self.source, MAX_LABELS)
        model.train_adapter("t0")
        return model, model

    def contenders(self) -> Iterator[Contender]:
        """Yield every library with its defaults and with its best settings."""
        attentions = ("eager", "sdpa") if self.device.type == "cpu" else ("sdpa",)
        settings = [("fp32", "float32", "shuffled", "sdpa")]
        settings += [(f"bf16 autocast, {attention}", "autocast", "grouped", attention) for attention in attentions]
        for (library, trains), (inner, plain) in self.models.items():
            for setting, precision, order, attention in settings:

                def train_on(
                    work: Work,
                    batch: int,
                    inner: Any = inner,
                    plain: PlainTraining = plain,
                    how: tuple[str, str, str] = (precision, order, attention),
                ) -> None:
                    inner.set_attn_implementation(how[2])
                    plain.step(work, work["orders"][how[1]][batch], how[0])

                yield Contender(library, trains, setting, order, train_on)


def reason_not_measured(library: str, error: Exception) -> str:
    """Why a library is not measured."""
    if not isinstance(error, ModuleNotFoundError) or error.name != library:
        return f"cannot be imported here: {' '.join(str(error).split())}"
    if library == "adapters":
        return "not installed; it needs transformers 4, so it usually cannot be installed with Polytask"
    return f"not installed (pip install {library})"


def polytask_contender(backbone: Backbone, attached: Attached, job: PreparedJob, trains: str) -> Contender:
    """Polytask as it trains by default: rows grouped by length, in the precision of the backbone."""

    def train_on(work: Work, batch: int) -> None:
        job.batch = batch
        step(backbone, attached, [job])

    dtype = {torch.bfloat16: "bf16", torch.float32: "fp32"}.get(backbone.dtype, str(backbone.dtype))
    return Contender("polytask", trains, dtype, "grouped", train_on)


def synthetic_work(backbone: Backbone, texts: str, num_rows: int, batch_size: int) -> Work:
    """Synthetic rows with the lengths of ``texts`` and token ids of the backbone's vocabulary."""
    longest = min(MAX_LENGTH, backbone.max_length)
    lengths = [min(length, longest) for length in TEXTS[texts].lengths(num_rows)]
    return as_work(synthetic(lengths, int(backbone.config.vocab_size)), TEXTS[texts].num_labels, batch_size)


def training_rates(
    backbone: Backbone, others: OtherLibraries, texts: str, seconds: float, on_run: Run = lambda: None
) -> list[TrainingRate]:
    """Measure every library on texts of these lengths, for about ``seconds``, but at least three rounds."""
    started = time.perf_counter()
    work = synthetic_work(backbone, texts, NUM_DRAWN_BATCHES * BATCH_SIZE, BATCH_SIZE)
    jobs = {trains: PreparedJob(backbone, work, method, name=trains) for trains, method in OURS.items()}
    with attached_to(backbone, list(jobs.values())) as attached:
        contenders = [
            *(polytask_contender(backbone, attached, job, trains) for trains, job in jobs.items()),
            *others.contenders(),
        ]
        warm = {
            contender: warm_up_seconds(contender, sample_batches(work, 1), backbone.device, on_run)
            for contender in contenders
        }
        fastest = [min(same, key=warm.__getitem__) for same in grouped_by_name(contenders).values()]
        left = seconds - (time.perf_counter() - started)
        num_batches = int(left / MIN_ROUNDS / sum(warm[contender] for contender in fastest))
        picked = sample_batches(work, max(1, min(MAX_BATCHES, num_batches)))
        for job in jobs.values():
            job.batches = picked["orders"]["grouped"]
        runs: Mapping[str, Run] = {
            str(at): partial(train_on_batches, contender, picked, backbone.device)
            for at, contender in enumerate(fastest)
        }
        taken = measure_rounds(runs, left, on_run)
    return [
        training_rate(contender, texts, picked, own, len(taken))
        for contender, own in zip(fastest, medians(taken).values())
    ]


def grouped_by_name(contenders: list[Contender]) -> dict[tuple[str, str, str], list[Contender]]:
    """Group contenders by their name in a table."""
    named: dict[tuple[str, str, str], list[Contender]] = {}
    for contender in contenders:
        named.setdefault(contender.name, []).append(contender)
    return named


def warm_up_seconds(contender: Contender, work: Work, device: torch.device, on_run: Run) -> float:
    """Train on all batches twice, and return the seconds of the second pass."""
    train_on_batches(contender, work, device)
    start = time.perf_counter()
    train_on_batches(contender, work, device)
    on_run()
    return time.perf_counter() - start


def train_on_batches(contender: Contender, work: Work, device: torch.device) -> None:
    """Train on every batch once, and wait for the device."""
    for batch in range(len(work["orders"][contender.order])):
        contender.train_on(work, batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training_rate(contender: Contender, texts: str, work: Work, seconds: float, num_rounds: int) -> TrainingRate:
    """The training rate of a contender that took ``seconds`` for all batches."""
    own, with_padding = num_tokens(work, contender.order)
    num_batches = len(work["orders"][contender.order])
    return TrainingRate(
        texts,
        contender.library,
        contender.trains,
        contender.setting,
        tokens_per_s=own / seconds,
        padding=1 - own / with_padding,
        ms_a_step=1e3 * seconds / num_batches,
        rounds=num_rounds,
        batches=num_batches,
    )
