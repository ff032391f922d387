"""The demo: trains three tasks on one frozen backbone and checks that none changes another.

Every number is measured in the run that prints it, on texts that were used neither for training nor for selection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polytask.adapters.store import Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.cli import console, live_progress, result_tables, wording
from polytask.data.task import Rows, Task
from polytask.demo.corpora import CORPORA, Corpus, Sizes, read_corpus
from polytask.evaluation.baselines import majority_score, tfidf_score
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import Result, Score

NUM_COMPARED = 100
"""Held-out texts whose answers are compared before and after the other tasks are trained."""

SENTENCES = (
    "Chip maker's shares jump 12% on a stronger profit forecast",
    "The striker scored twice in five minutes to win the cup",
    "@united lost my bag again and nobody answers the phone!",
    "A tender, quietly funny film that stays with you",
    "Parliament votes tonight on the chancellor's new tax bill",
    "Two hours of explosions and not a single idea",
)


@dataclass(frozen=True)
class TrainedTask:
    """A task of the demo with its result and its baselines."""

    about: str
    task: Task
    entry: Entry
    result: Result
    majority: float
    tfidf: float


@dataclass(frozen=True)
class Snapshot:
    """What must not change about an adapter: the bytes of its file and its answers, bit for bit."""

    sha256: str
    answers: Sequence[Prediction]

    @classmethod
    def of(cls, entry: Entry, backbone: Backbone, store: Store, texts: Sequence[str]) -> Snapshot:
        """Hash the file, and answer ``texts`` with a new ``MultiTask`` that has loaded every adapter of the store."""
        together = MultiTask(backbone, store)
        for name in store.tasks():
            together.load(name)
        sha256 = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
        return cls(sha256, together.predict(list(texts), str(entry)))


def run_demo(
    out: Console,
    err: Console,
    *,
    store: str,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    corpora: Sequence[Corpus] = CORPORA,
    sizes: Sizes | None = None,
) -> None:
    """Run the demo. Adapters are put into ``store`` as new versions; each run adds one of each task.

    Args:
        out: the console for results.
        err: the console for progress.
        store: the folder of the adapters.
        device: as in ``load_backbone``.
        dtype: likewise.
        seed: the seed of the rows, the initial weights and the training.
        corpora: the tasks; the first one is checked for changes.
        sizes: the number of rows of each split.

    Raises:
        DataError: a corpus is not installed.
        BackboneError: the packaged backbone cannot be loaded.
    """
    tasks = [(corpus, read_corpus(corpus, sizes, seed=seed)) for corpus in corpora]
    backbone = load_backbone("minilm", device=device, dtype=dtype)
    adapters = Store(store)
    out.print(introduction(backbone, corpora, store))
    first = train_task(backbone, *tasks[0], adapters, err, seed)
    out.print(result_line(first))
    texts = _test_rows(first.task).texts[:NUM_COMPARED]
    before = Snapshot.of(first.entry, backbone, adapters, texts)
    trained = [first]
    for corpus, task in tasks[1:]:
        trained.append(train_task(backbone, corpus, task, adapters, err, seed))
        out.print(result_line(trained[-1]))
    after = Snapshot.of(first.entry, backbone, adapters, texts)
    out.print(scores_table(trained))
    out.print(describe_changes(trained, before, after))
    assert before == after, f"{first.entry} has changed"
    out.print(sentences_table(backbone, adapters, trained))
    console.hint(out, f'polytask predict --store {store} --task {trained[-1].task.name} "your own sentence"')
    console.hint(out, "polytask train your.csv --task NAME")
    console.hint(out, f"polytask serve --store {store}   # the same adapters over HTTP, with a web page")


def train_task(backbone: Backbone, corpus: Corpus, task: Task, adapters: Store, err: Console, seed: int) -> TrainedTask:
    """Train one task, store its adapter and score its baselines."""
    recipe = Recipe(Houlsby(size=64), epochs=corpus.epochs, max_length=corpus.max_length, seed=seed)
    with live_progress.watching(err) as progress:
        adapter, result = train(backbone, task, recipe, progress=progress)
    entry = adapters.put(adapter)
    majority = majority_score(task, _test_rows(task))
    assert majority is not None, "a task of one label per row"
    return TrainedTask(corpus.about, task, entry, result, majority, tfidf_score(task, _test_rows(task)))


def introduction(backbone: Backbone, corpora: Sequence[Corpus], store: str) -> Text:
    """What the demo is about to do."""
    kind = str(backbone.dtype).removeprefix("torch.")
    return Text.assemble(
        ("One frozen backbone, three tasks\n\n", "bold"),
        f"  backbone  all-MiniLM-L6-v2, {backbone.num_parameters:,} parameters in {kind} on {backbone.device}\n",
        f"  tasks     {', '.join(corpus.about for corpus in corpora)}\n",
        "  method    one Houlsby adapter per task, trained one after the other; the backbone never changes\n",
        f"  store     {Path(store).resolve()}\n",
    )


def result_line(done: TrainedTask) -> Text:
    """The score of a task that was just trained."""
    test = _test_score(done.result)
    seconds = wording.seconds_in_words(done.result.train["seconds"])
    return Text.assemble(
        ("✓ ", "green"),
        (f"{done.about:<24}", "bold"),
        f"{test.metric} {test.score:.3f} after {seconds}, stored as {done.entry}",
    )


def scores_table(trained: Sequence[TrainedTask]) -> Table:
    """One line per task with its scores, its baselines and its cost."""
    numbers = ("classes", "train\n+ test", "adapter", "majority\nclass", "TF-IDF\n+ LR", "trained", "file", "time")
    table = console.grid("task", *numbers, right=numbers)
    for done in trained:
        test, train_rows = _test_score(done.result), len(done.task.train)
        table.add_row(
            Text.assemble((done.task.name, "bold"), (f"\n{done.about}", "dim")),
            str(len(done.task.labels)),
            f"{train_rows:,}\n+ {test.rows:,}",
            Text(f"{test.score:.3f}", style="bold green" if test.score >= done.tfidf else "bold yellow"),
            f"{done.majority:.3f}",
            f"{done.tfidf:.3f}",
            f"{done.result.parameters['trained']:,}\n{done.result.parameters['percent']:.2f}%",
            wording.bytes_in_words(done.entry.size_bytes),
            wording.seconds_in_words(done.result.train["seconds"]),
        )
    table.caption = (
        "Accuracy on held-out texts. TF-IDF + LR is a logistic regression on word counts of the same training texts; "
        "it reads whole texts, the adapter only their first tokens."
    )
    table.caption_justify = "left"
    return table


def describe_changes(trained: Sequence[TrainedTask], before: Snapshot, after: Snapshot) -> Text:
    """Whether the first task's file and answers are the same as before the other tasks were trained."""
    first, *others = trained
    yes, no = ("yes", "bold green"), ("NO", "bold red")
    same_answers = before.answers == after.answers
    bits = f"the probabilities of {len(before.answers)} held-out texts, bit for bit: "
    return Text.assemble(
        (f"\nIs {first.entry} the same as before {' and '.join(str(done.entry) for done in others)}? ", "bold"),
        yes if before == after else no,
        f"\n  its file     sha256 {before.sha256[:16]}… before, {after.sha256[:16]}… now",
        f"\n  its answers  {bits}",
        "equal\n" if same_answers else ("different\n", "bold red"),
    )


def sentences_table(backbone: Backbone, adapters: Store, trained: Sequence[TrainedTask]) -> Table:
    """Some sentences, answered by every task."""
    together = MultiTask(backbone, adapters)
    names = {done.task.name: str(done.entry) for done in trained}
    answers = {name: together.predict(SENTENCES, entry) for name, entry in names.items()}
    table = result_tables.answers_table(SENTENCES, answers)
    table.title = "Six sentences that no task has seen, each answered by all three"
    return table


def _test_rows(task: Task) -> Rows:
    assert task.test is not None, "tasks of the demo have held-out rows"
    return task.test


def _test_score(result: Result) -> Score:
    assert result.test is not None, "tasks of the demo have held-out rows"
    return result.test
