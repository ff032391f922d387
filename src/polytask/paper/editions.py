"""The editions ``paper``, ``cpu`` and ``claim``: caps, and for each exhibit tasks, seeds and grids.

A grid is a list in the order of importance, of which every method that an exhibit compares runs the first ``settings``.
So all methods have the same number of trials, in every edition, on a backbone of any depth, and after a budget cut,
which shortens every list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.errors import UnknownName
from polytask.paper.edition import FIGURE_TASKS, Axis, Edition, Part, Plan, Unit
from polytask.paper.ledger import ABLATION, TFIDF
from polytask.suites.tasks import MISMATCHED, listed_tasks

GLUE_TASKS = tuple(task.name for task in listed_tasks("glue") if task.name != MISMATCHED)
TEXT_TASKS = tuple(task.name for task in listed_tasks("text17"))
TOPS = (1, 2, 3, 5, 7, 9, 11, 12)
RATES = (3e-5, 1e-4, 1e-5, 5e-5, 2e-5, 2e-4)
"""For fine-tuning the backbone itself."""

SWEPT_RATES: Axis = ("lr", (2e-5, 1e-3, 1e-4, 5e-4, 5e-5, 2e-4))
"""Of Figure 7."""

MORE_TUNED: tuple[Axis, ...] = (("batch_size", (32, 16)), ("warmup", (0.1, 0.0)))
WORDS: tuple[Axis, ...] = (("C", (10.0, 1.0, 100.0, 0.1, 1000.0, 0.01)), ("ngrams", (2, 1, 3)))
MORE_WORDS: tuple[Axis, ...] = (("min_df", (2, 1)), ("sublinear", (True, False)))


def edition_named(name: str) -> Edition:
    """``paper``, ``cpu`` or ``claim``.

    Raises:
        UnknownName: there is no such edition.
    """
    if name not in EDITIONS:
        raise UnknownName("edition", name, EDITIONS)
    return EDITIONS[name]


def _points(
    adapters: tuple[Axis, ...],
    tuned: tuple[Axis, ...],
    norms: tuple[Axis, ...],
    sizes: Sequence[int],
    tops: Sequence[int],
) -> tuple[Unit, ...]:
    """The points of a figure, the ends first: full fine-tuning, adapters of each size, top-n of each n, LayerNorms."""
    by_size = [Unit("houlsby", (("size", (size,)), *adapters)) for size in sizes]
    by_top = [Unit("top", (("n", (n,)), *tuned)) for n in tops]
    of_norms = [Unit("layernorm", norms)] if norms else []
    return (Unit("full", tuned), *by_size[:2], *by_top[:1], *of_norms, *by_size[2:], *by_top[1:])


def _figures(adapters: tuple[Axis, ...], lr: float, epochs: Axis, seeds: tuple[int, int]) -> tuple[Plan, ...]:
    """Ablation, initialisation, learning rates, extensions.

    Args:
        lr: and ``epochs``, of the exhibits that vary something else.
        seeds: of the learning rates, and of initialisations and extensions.
    """
    size: Axis = ("size", (64,))
    spreads = ("init_std", (1e-2, 1.0, 1e-7, 1e-1, 1e-4, 1e-3, 1e-5, 1e-6))
    plain = Unit("houlsby", (size, *adapters))
    variants = (plain, Unit("houlsby", plain.grid, fixed=(("activation", "tanh"),)), Unit("parallel", plain.grid))
    swept = tuple(Unit(method, (SWEPT_RATES, epochs)) for method in ("houlsby", "full"))
    of_spreads = Unit("houlsby", (spreads, ("lr", (lr,)), epochs))
    num_settings = len(plain.settings())
    return (
        Plan(ABLATION, FIGURE_TASKS, (plain,), num_settings, 1, 1),
        Plan("init", FIGURE_TASKS, (of_spreads,), len(spreads[1]), seeds[1], 1),
        Plan("lr", FIGURE_TASKS, swept, 6, seeds[0], 2),
        Plan("extensions", FIGURE_TASKS, variants, num_settings, seeds[1], 3),
    )


def _paper() -> Edition:
    """The grids as printed; those of other methods are filled up to the same number."""
    epochs, long = ("epochs", (3, 20)), ("epochs", (20, 50, 100))
    adapters = (("lr", (3e-4, 3e-3, 3e-5)), epochs)
    tuned, norms = (("lr", RATES[:3]), epochs), (("lr", (3e-3, 3e-4, 1e-2)), epochs)
    glue = (
        Unit("houlsby", (("size", (64, 8, 256)), *adapters)),
        Unit("full", (("lr", (*RATES, 3e-4, 7e-5, 5e-6)), epochs)),
    )
    text = (
        Unit("houlsby", (("size", (64, 8, 32, 16, 4, 2)), ("lr", (1e-4, 3e-3, 3e-5, 1e-5)), long)),
        Unit("full", (("lr", RATES), long), MORE_TUNED),
        Unit("top", (("n", TOPS), ("lr", RATES[:3]), long), MORE_TUNED),
        Unit(TFIDF, WORDS, MORE_WORDS),
    )
    squad = (("lr", (3e-4, 1e-3, 1e-4, 3e-5)), ("epochs", (10, 20, 3)))
    tuned_squad = (("lr", (3e-5, 5e-5, 1e-4, 2e-5)), ("epochs", (3, 2, 5)))
    points = _points(adapters, tuned, norms, (64, 2, 512, 8, 1, 256, 16, 128, 4, 32), TOPS)
    squad_points = _points(squad, tuned_squad, (), (2, 64, 8, 256, 1, 16, 128, 4, 32), TOPS)
    plans = (
        Plan("table1", GLUE_TASKS, glue, settings=18, seeds=5, least_units=2),
        Plan("table2", TEXT_TASKS, text, settings=72, seeds=3, least_units=4),
        Plan("tradeoff", (*GLUE_TASKS, *TEXT_TASKS), points, settings=6, seeds=3, least_units=5),
        Plan("squad", ("squad",), squad_points, settings=12, seeds=3, least_units=4),
    )
    return Edition("paper", (*plans, *_figures(adapters, 3e-4, ("epochs", (3,)), (3, 3))))


def _cpu() -> Edition:
    """What two cores do in a day with a small backbone; docs/design.md has the reasons for its numbers."""
    epochs = ("epochs", (3,))
    adapters, norms = (("lr", (1e-3, 3e-4)), epochs), (("lr", (3e-3, 1e-3)), epochs)
    tuned = (("lr", (1e-4, 3e-5, 3e-4, 5e-5)), epochs)
    sized, full = Unit("houlsby", (("size", (64, 8)), *adapters)), Unit("full", tuned)
    every = (sized, full, Unit("top", (("n", (1, 3)), *tuned)), Unit(TFIDF, WORDS, MORE_WORDS))
    few = ("crowdflower_corporate_messaging", "crowdflower_global_warming", "sms_spam")
    points = _points(adapters, tuned, norms, (64, 1, 512, 8, 128, 2, 256, 16, 4, 32), (1, 3))
    squad_points = _points(adapters, tuned, (), (2, 64, 8), (1, 3))
    plans = (
        Plan("table1", GLUE_TASKS, (sized, full), settings=4, seeds=2, least_units=2),
        Plan("table2", TEXT_TASKS, every, settings=4, seeds=2, least_units=4),
        Plan("tradeoff", ("CoLA", "SST-2", "MRPC", "MNLI-m", *few), points, settings=2, seeds=2, least_units=5),
        Plan("squad", ("squad",), squad_points, settings=2, seeds=2, least_units=4),
    )
    return _capped("cpu", (*plans, *_figures(adapters, 1e-3, epochs, (3, 2))))


def _claim() -> Edition:
    """Whether adapters of size 64 are level with full fine-tuning on all tasks, in about a day on two cores.

    Its parts are results by themselves, run one after the other: the two main methods with one seed come first.
    """
    epochs = ("epochs", (5,))
    adapters, norms = (("lr", (1e-3, 3e-4)), epochs), (("lr", (3e-3, 1e-3)), epochs)
    tuned = (("lr", (1e-4, 3e-5)), epochs)
    sized, full = Unit("houlsby", (("size", (64,)), *adapters)), Unit("full", tuned)
    trained = (sized, full, Unit("layernorm", norms), Unit("top", (("n", (1,)), *tuned)))
    every = (*trained, Unit(TFIDF, WORDS))
    figures = [plan for plan in _figures(adapters, 1e-3, epochs, (1, 1)) if plan.exhibit != "extensions"]
    points = _points(adapters, tuned, norms, (64, 1, 512, 8), (1, 3))
    tables = ("table1", "table2")
    plans = (
        Plan("table1", GLUE_TASKS, every, settings=2, seeds=2, least_units=2, small_tasks=(5000, 3)),
        Plan("table2", TEXT_TASKS, every, settings=2, seeds=2, least_units=2, small_tasks=(5000, 3)),
        Plan("squad", ("squad",), trained, settings=2, seeds=2, least_units=2),
        *figures,
        Plan("tradeoff", ("CoLA", "SST-2", "MRPC", "sms_spam"), points, settings=2, seeds=1, least_units=5),
    )
    parts = (
        Part("first", tables, ("houlsby", "full"), 1),
        Part("methods", tables, (), 1),
        Part("seeds", tables),
        Part("squad", ("squad",)),
        Part("figures", (*(plan.exhibit for plan in figures), "tradeoff")),
    )
    return _capped("claim", plans, parts)


def _capped(name: str, plans: tuple[Plan, ...], parts: tuple[Part, ...] = ()) -> Edition:
    """An edition with the caps for two cores."""
    caps = {"max_rows": 2500, "max_validation": 500, "max_test": 2000, "span_length": 128}
    return Edition(name, plans, **caps, small_tasks=(1000, 8), parts=parts)


EDITIONS: Mapping[str, Edition] = {edition.name: edition for edition in (_paper(), _cpu(), _claim())}
EXHIBITS = tuple(plan.exhibit for plan in EDITIONS["paper"].plans)
