"""``polytask multitask``: trains one adapter on several tasks at once, to start others from."""

from __future__ import annotations

from pathlib import Path

import typer

from polytask.cli import console, live_progress, options, train_several
from polytask.cli.option_groups import BackboneOptions, RecipeOptions, TaskOptions
from polytask.cli.options import ARGUMENTS, INTERRUPTED, app, error_exit, examples
from polytask.errors import DataError, RecipeError


@app.command(
    epilog=examples(
        "polytask multitask mnli.csv qqp.csv sst2.csv",
        "polytask multitask corpora/ --size 64 --epochs 3",
    )
)
def multitask(
    context: typer.Context,
    *,
    files: train_several.SourceFiles = None,
    data: TaskOptions,
    model: BackboneOptions,
    training: RecipeOptions,
    size: options.Size = None,
    epochs: options.Epochs = None,
    lr: options.LearningRate = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    checkpoint: options.CheckpointFile = None,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Train one adapter on several tasks at once, with a head for each, and put it in the store for each task.

    Batches are drawn from tasks in proportion to the square root of their rows. The adapters of the tasks differ in
    their heads only; start trainings of other tasks from any of them (train --start).
    """
    from polytask.adapters.store import Store
    from polytask.training.to_store import checkpoint_path, interrupted_setting, train_multitask_to_store

    recipe, start = training.recipe(size=size, lr=lr, epochs=epochs, seed=seed), training.start_from
    Store(store)  # refuse an address that cannot be used before any work is done
    if start == "auto":
        raise RecipeError("--start auto chooses for one task. Name the adapter to start from")
    train_several.check_single_task_options({"--task": data.task, "--validation": data.validation, "--test": data.test})
    sources = train_several.files_in(files)
    if len(sources) < 2:
        raise DataError("multi-task training needs several files", fix="One task is trained by: polytask train FILE")
    tasks = [data.read(source, seed) for source in sources]
    train_several.check_names([task.name for task in tasks], sources)
    path = Path(checkpoint or checkpoint_path(store, *(task.name for task in tasks)))
    model = model.resuming(interrupted_setting(path)) if resume else model
    err = console.terminal(stderr=True)
    try:
        with live_progress.watching(err) as shown:
            runs = train_multitask_to_store(
                model.load(),
                tasks,
                recipe,
                store,
                checkpoint=checkpoint,
                resume=resume,
                start=start,
                progress=shown,
                notify=lambda note: console.notes(err, [note]),
            )
    except KeyboardInterrupt:
        from polytask.cli.train import how_to_resume

        raise error_exit(how_to_resume(path, context.meta[ARGUMENTS]), INTERRUPTED) from None
    train_several.show_runs(runs, tasks, as_json=as_json)
    if not as_json:
        console.hint(console.terminal(), f"polytask train other.csv --start {next(iter(runs.values())).entry}")
