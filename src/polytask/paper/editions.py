"""What is run for each exhibit. An edition is data: caps, and for each exhibit tasks, seeds and grids.

Unusual here: a grid is a list in the order of importance, of which every method that an exhibit compares runs the first
``settings``. So all of them have the same number of trials, in whatever edition, on a backbone of whatever depth, and
when a budget cuts: a cut takes less of every list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.errors import UnknownName
from polytask.paper.edition import Axis, Edition, Part, Plan, Unit
from polytask.paper.grids import ABLATION, FIGURE_TASKS, GLUE_TASKS
from polytask.paper.ledger import TFIDF
from polytask.suites.text17 import TEXT17

MISSING_EXTENSIONS = (
    "normalisation inside the adapter",
    "deeper adapters",
    "adapters after attention only",
)
"""Tried by the authors and not offered by ``polytask.methods``. ``parallel`` is He et al.'s, beside the feed-forward
sub-layer only and without LayerNorms."""


def edition_named(name: str) -> Edition:
    """``paper``, ``cpu`` or ``claim``.

    Raises:
        UnknownName: there is no such edition.
    """
    if name not in EDITIONS:
        raise UnknownName("edition", name, EDITIONS)
    return EDITIONS[name]


SIZES = tuple(2**power for power in range(10))
TOPS = (1, 2, 3, 5, 7, 9, 11, 12)
RATES = (3e-5, 1e-4, 1e-5, 5e-5, 2e-5, 2e-4)
"""For fine-tuning the backbone itself."""

SMALL_BATCH, NO_WARMUP = ("batch_size", (32, 16)), ("warmup", (0.1, 0.0))
WORDS: tuple[Axis, ...] = (("C", (10.0, 1.0, 100.0, 0.1, 1000.0, 0.01)), ("ngrams", (2, 1, 3)))
MORE_WORDS: tuple[Axis, ...] = (("min_df", (2, 1)), ("sublinear", (True, False)))


def _points(
    adapters: tuple[Axis, ...],
    tuned: tuple[Axis, ...],
    norms: tuple[Axis, ...],
    sizes: Sequence[int],
    tops: Sequence[int],
) -> tuple[Unit, ...]:
    """Full fine-tuning, adapters of each size, top-n of each n, LayerNorms: the points of a figure, ends first."""
    by_size = [Unit("houlsby", (("size", (size,)), *adapters)) for size in sizes]
    by_top = [Unit("top", (("n", (n,)), *tuned)) for n in tops]
    of_norms = [Unit("layernorm", norms)] if norms else []
    return (Unit("full", tuned), *by_size[:2], *by_top[:1], *of_norms, *by_size[2:], *by_top[1:])


def _paper() -> Edition:
    """The grids as printed, other methods' filled up to the same number."""
    epochs, long = ("epochs", (3, 20)), ("epochs", (20, 50, 100))
    adapters = (("lr", (3e-4, 3e-3, 3e-5)), epochs)
    by_importance = (64, 2, 512, 8, 1, 256, 16, 128, 4, 32)
    squad = (("lr", (3e-4, 1e-3, 1e-4, 3e-5)), ("epochs", (10, 20, 3)))
    tuned_squad = (("lr", (3e-5, 5e-5, 1e-4, 2e-5)), ("epochs", (3, 2, 5)))
    return Edition(
        "paper",
        (
            Plan(
                "table1",
                GLUE_TASKS,
                (
                    Unit("houlsby", (("size", (64, 8, 256)), *adapters)),
                    Unit("full", (("lr", (*RATES, 3e-4, 7e-5, 5e-6)), epochs)),
                ),
                settings=18,
                seeds=5,
                least_units=2,
            ),
            Plan(
                "table2",
                tuple(TEXT17),
                (
                    Unit("houlsby", (("size", (64, 8, 32, 16, 4, 2)), ("lr", (1e-4, 3e-3, 3e-5, 1e-5)), long)),
                    Unit("full", (("lr", RATES), long), (SMALL_BATCH, NO_WARMUP)),
                    Unit("top", (("n", TOPS), ("lr", RATES[:3]), long), (SMALL_BATCH, NO_WARMUP)),
                    Unit(TFIDF, WORDS, MORE_WORDS),
                ),
                settings=72,
                seeds=3,
                least_units=4,
            ),
            Plan(
                "tradeoff",
                (*GLUE_TASKS, *TEXT17),
                _points(
                    adapters, (("lr", RATES[:3]), epochs), (("lr", (3e-3, 3e-4, 1e-2)), epochs), by_importance, TOPS
                ),
                settings=6,
                seeds=3,
                least_units=5,
            ),
            Plan(
                "squad",
                ("squad",),
                _points(squad, tuned_squad, (), (2, 64, 8, 256, 1, 16, 128, 4, 32), TOPS),
                settings=12,
                seeds=3,
                least_units=4,
            ),
            *_figures(
                adapters, ("lr", (2e-5, 1e-3, 1e-4, 5e-4, 5e-5, 2e-4)), 3, (("lr", (3e-4,)), ("epochs", (3,))), 3
            ),
        ),
    )


def _cpu() -> Edition:
    """What two cores do in a day with a small backbone; docs/design.md has the reasons for its numbers."""
    epochs = ("epochs", (3,))
    adapters = (("lr", (1e-3, 3e-4)), epochs)
    tuned = (("lr", (1e-4, 3e-5, 3e-4, 5e-5)), epochs)
    sized = Unit("houlsby", (("size", (64, 8)), *adapters))
    by_importance = (64, 1, 512, 8, 128, 2, 256, 16, 4, 32)
    few = ("crowdflower_corporate_messaging", "crowdflower_global_warming", "sms_spam")
    return Edition(
        "cpu",
        (
            Plan("table1", GLUE_TASKS, (sized, Unit("full", tuned)), settings=4, seeds=2, least_units=2),
            Plan(
                "table2",
                tuple(TEXT17),
                (sized, Unit("full", tuned), Unit("top", (("n", (1, 3)), *tuned)), Unit(TFIDF, WORDS, MORE_WORDS)),
                settings=4,
                seeds=2,
                least_units=4,
            ),
            Plan(
                "tradeoff",
                ("CoLA", "SST-2", "MRPC", "MNLI-m", *few),
                _points(adapters, tuned, (("lr", (3e-3, 1e-3)), epochs), by_importance, (1, 3)),
                settings=2,
                seeds=2,
                least_units=5,
            ),
            Plan(
                "squad",
                ("squad",),
                _points(adapters, tuned, (), (2, 64, 8), (1, 3)),
                settings=2,
                seeds=2,
                least_units=4,
            ),
            *_figures(adapters, ("lr", (2e-5, 1e-3, 1e-4, 5e-4, 5e-5, 2e-4)), 3, (("lr", (1e-3,)), epochs), 2),
        ),
        max_rows=2500,
        max_validation=500,
        max_test=2000,
        span_length=128,
        small_tasks=(1000, 8),
    )


def _claim() -> Edition:
    """Whether adapters of size 64 are level with full fine-tuning on every task there is, in about a day on two cores.

    Its parts are results by themselves, run one after the other: the two main methods with one seed come first.
    """
    epochs = ("epochs", (5,))
    adapters = (("lr", (1e-3, 3e-4)), epochs)
    tuned = (("lr", (1e-4, 3e-5)), epochs)
    norms = (("lr", (3e-3, 1e-3)), epochs)
    sized = Unit("houlsby", (("size", (64,)), *adapters))
    full, top, of_norms = Unit("full", tuned), Unit("top", (("n", (1,)), *tuned)), Unit("layernorm", norms)
    every = (sized, full, of_norms, top, Unit(TFIDF, WORDS))
    figures = _figures(adapters, ("lr", (2e-5, 1e-3, 1e-4, 5e-4, 5e-5, 2e-4)), 1, (("lr", (1e-3,)), epochs), 1)
    cheap = tuple(plan for plan in figures if plan.exhibit != "extensions")
    tradeoff = ("CoLA", "SST-2", "MRPC", "sms_spam")
    tables = ("table1", "table2")
    small = (5000, 3)
    return Edition(
        "claim",
        (
            Plan("table1", GLUE_TASKS, every, settings=2, seeds=2, least_units=2, small_tasks=small),
            Plan("table2", tuple(TEXT17), every, settings=2, seeds=2, least_units=2, small_tasks=small),
            Plan("squad", ("squad",), (sized, full, of_norms, top), settings=2, seeds=2, least_units=2),
            *cheap,
            Plan("tradeoff", tradeoff, _points(adapters, tuned, norms, (64, 1, 512, 8), (1, 3)), 2, 1, 5),
        ),
        max_rows=2500,
        max_validation=500,
        max_test=2000,
        span_length=128,
        small_tasks=(1000, 8),
        parts=(
            Part("first", tables, ("houlsby", "full"), 1),
            Part("methods", tables, (), 1),
            Part("seeds", tables),
            Part("squad", ("squad",)),
            Part("figures", (*(plan.exhibit for plan in cheap), "tradeoff")),
        ),
    )


def _figures(
    adapters: tuple[Axis, ...], rates: Axis, seeds: int, at: tuple[Axis, ...], seeds_of_grids: int
) -> tuple[Plan, ...]:
    """Ablation, initialisation, learning rates, extensions. ``at``: the rate, then the rest, where they are fixed."""
    size, rest = ("size", (64,)), at[1:]
    spreads = ("init_std", (1e-2, 1.0, 1e-7, 1e-1, 1e-4, 1e-3, 1e-5, 1e-6))
    variants = (
        Unit("houlsby", (size, *adapters)),
        Unit("houlsby", (size, *adapters), fixed=(("activation", "tanh"),)),
        Unit("parallel", (size, *adapters)),
    )
    of_grid = len(Unit("houlsby", (size, *adapters)).settings())
    return (
        Plan(ABLATION, FIGURE_TASKS, variants[:1], of_grid, 1, 1),
        Plan("init", FIGURE_TASKS, (Unit("houlsby", (spreads, *at)),), len(spreads[1]), seeds_of_grids, 1),
        Plan("lr", FIGURE_TASKS, (Unit("houlsby", (rates, *rest)), Unit("full", (rates, *rest))), 6, seeds, 2),
        Plan("extensions", FIGURE_TASKS, variants, of_grid, seeds_of_grids, 3),
    )


EDITIONS: Mapping[str, Edition] = {edition.name: edition for edition in (_paper(), _cpu(), _claim())}
EXHIBITS = tuple(plan.exhibit for plan in EDITIONS["paper"].plans)
