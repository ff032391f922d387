"""Three tasks, one after the other, on one frozen backbone: their scores, their cost, and that none changes another.

Nothing here is rehearsed: every number is measured in the run that prints it, on texts that no adapter was trained
or chosen on.
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

NUM_WATCHED = 100

SENTENCES = (
    "Chip maker's shares jump 12% on a stronger profit forecast",
    "The striker scored twice in five minutes to win the cup",
    "@united lost my bag again and nobody answers the phone!",
    "A tender, quietly funny film that stays with you",
    "Parliament votes tonight on the chancellor's new tax bill",
    "Two hours of explosions and not a single idea",
)


@dataclass(frozen=True)
class Trained:
    """A task of the demo with what came of it and what it is held against."""

    about: str
    task: Task
    entry: Entry
    result: Result
    majority: float
    tfidf: float


@dataclass(frozen=True)
class Memory:
    """What must not change: the bytes of an adapter's file, and its answers to the bit."""

    sha256: str
    answers: Sequence[Prediction]

    @classmethod
    def of(cls, entry: Entry, backbone: Backbone, store: Store, texts: Sequence[str]) -> Memory:
        """Read the file, and ask a new ``MultiTask`` with every adapter of the store on the backbone."""
        together = MultiTask(backbone, store)
        for name in store.tasks():
            together.load(name)
        sha256 = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
        return cls(sha256, together.predict(list(texts), str(entry)))


def run(
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
    """The whole demo. Adapters are put into ``store`` as new versions; run again, it adds further ones.

    Raises:
        DataError: a corpus is not installed.
        BackboneError: the packaged backbone is not to be had.
    """
    tasks = [(corpus, read_corpus(corpus, sizes, seed=seed)) for corpus in corpora]
    backbone = load_backbone("minilm", device=device, dtype=dtype)
    adapters = Store(store)
    out.print(introduction(backbone, corpora, store))
    first = learned(backbone, *tasks[0], adapters, err, seed)
    out.print(one_line(first))
    watched = _test(first.task).texts[:NUM_WATCHED]
    before = Memory.of(first.entry, backbone, adapters, watched)
    trained = [first]
    for corpus, task in tasks[1:]:
        trained.append(learned(backbone, corpus, task, adapters, err, seed))
        out.print(one_line(trained[-1]))
    after = Memory.of(first.entry, backbone, adapters, watched)
    out.print(scores(trained))
    out.print(unchanged(trained, before, after))
    assert before == after, f"{first.entry} has changed"
    out.print(classified(backbone, adapters, trained))
    console.hint(out, f'polytask predict --store {store} --task {trained[-1].task.name} "your own sentence"')
    console.hint(out, "polytask train your.csv --task NAME")
    console.hint(out, f"polytask serve --store {store}   # the same adapters behind HTTP, with a page")


def learned(backbone: Backbone, corpus: Corpus, task: Task, adapters: Store, err: Console, seed: int) -> Trained:
    """Train one task, store its adapter and score what it is held against."""
    recipe = Recipe(Houlsby(size=64), epochs=corpus.epochs, max_length=corpus.max_length, seed=seed)
    with live_progress.watching(err) as progress:
        adapter, result = train(backbone, task, recipe, progress=progress)
    entry = adapters.put(adapter)
    majority = majority_score(task, _test(task))
    assert majority is not None, "a task of one label a row"
    return Trained(corpus.about, task, entry, result, majority, tfidf_score(task, _test(task)))


def introduction(backbone: Backbone, corpora: Sequence[Corpus], store: str) -> Text:
    """What is about to happen."""
    kind = str(backbone.dtype).removeprefix("torch.")
    return Text.assemble(
        ("One frozen backbone, three tasks\n\n", "bold"),
        f"  backbone  all-MiniLM-L6-v2, {backbone.num_parameters:,} parameters in {kind} on {backbone.device}\n",
        f"  tasks     {', '.join(corpus.about for corpus in corpora)}\n",
        "  method    a Houlsby adapter each, trained one after the other; the backbone is never touched\n",
        f"  store     {Path(store).resolve()}\n",
    )


def one_line(done: Trained) -> Text:
    """What has just come of a task."""
    test = _scored(done.result)
    seconds = wording.seconds_in_words(done.result.train["seconds"])
    return Text.assemble(
        ("✓ ", "green"),
        (f"{done.about:<24}", "bold"),
        f"{test.metric} {test.score:.3f} after {seconds}, stored as {done.entry}",
    )


def scores(trained: Sequence[Trained]) -> Table:
    """The table of the demo."""
    numbers = ("classes", "train\n+ test", "adapter", "majority\nclass", "TF-IDF\n+ LR", "trained", "file", "time")
    table = console.grid("task", *numbers, right=numbers)
    for done in trained:
        test, train_rows = _scored(done.result), len(done.task.train)
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
        "Accuracy on held-out texts. TF-IDF + LR counts words and fits a logistic regression to the same training "
        "texts, in full where the adapter reads their first tokens."
    )
    table.caption_justify = "left"
    return table


def unchanged(trained: Sequence[Trained], before: Memory, after: Memory) -> Text:
    """Whether the first task's file and answers are what they were before the others came."""
    first, *others = trained
    yes, no = ("yes", "bold green"), ("NO", "bold red")
    same_answers = before.answers == after.answers
    bits = f"the probabilities of {len(before.answers)} held-out texts, bit for bit: "
    return Text.assemble(
        (f"\nIs {first.entry} what it was before {' and '.join(str(done.entry) for done in others)}? ", "bold"),
        yes if before == after else no,
        f"\n  its file     sha256 {before.sha256[:16]}… before, {after.sha256[:16]}… now",
        f"\n  its answers  {bits}",
        "equal\n" if same_answers else ("different\n", "bold red"),
    )


def classified(backbone: Backbone, adapters: Store, trained: Sequence[Trained]) -> Table:
    """Some sentences, answered by all tasks."""
    together = MultiTask(backbone, adapters)
    names = {done.task.name: str(done.entry) for done in trained}
    answers = {name: together.predict(SENTENCES, entry) for name, entry in names.items()}
    table = result_tables.answers(SENTENCES, answers)
    table.title = "Six sentences that no task has seen, each answered by all three"
    return table


def _test(task: Task) -> Rows:
    assert task.test is not None, "tasks of the demo have held-out rows"
    return task.test


def _scored(result: Result) -> Score:
    assert result.test is not None, "tasks of the demo have held-out rows"
    return result.test
