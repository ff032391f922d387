"""Checks of a request before anything is computed for it, and the estimate of what it will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from polytask.adapters.store import Entry
from polytask.errors import DataError, RouteError
from polytask.evaluation.decision import Decision, DecisionOptions
from polytask.inference.inputs import Text, check_inputs
from polytask.serving.engine import DEFAULT_OPTIONS
from polytask.serving.faults import Fault
from polytask.serving.limits import Limits

CHARACTERS_PER_TOKEN = 3
"""For the estimate of a request's tokens before it is tokenized."""
CHARACTERS_TOKENIZED_PER_TOKEN = 512
"""Characters that are tokenized in about the time in which one token is computed."""


class Query(NamedTuple):
    """A text, and the tasks to run on it.

    ``param`` is the place of the text in the request, for error messages.
    """

    text: Text
    references: tuple[str, ...]
    param: str = "input"
    options: DecisionOptions = DEFAULT_OPTIONS


def check_num_rows(queries: Sequence[Query], limits: Limits) -> None:
    """Check the number of rows.

    Raises:
        Fault: there are too many for one request.
    """
    num_rows, limit = sum(len(query.references) for query in queries), limits.request_rows
    if num_rows > limit:
        problem = f"the request has {num_rows:,} rows (texts times tasks); the limit is {limit:,}"
        raise Fault("too_large", f"{problem}. Send several requests", param="input")


def check_num_tokens(num_tokens: int, limits: Limits) -> None:
    """Check the number of tokens, estimated or counted.

    Raises:
        Fault: the queue could never hold them.
    """
    if num_tokens > limits.queue_tokens:
        problem = f"the request has about {num_tokens:,} tokens; the limit is {limits.queue_tokens:,}"
        raise Fault("too_large", f"{problem}. Send several requests", param="input")


def check_queries(queries: Sequence[Query], entries: Mapping[str, Entry]) -> None:
    """Check that each task takes its texts and options.

    Args:
        entries: the version that each reference of the queries stands for.

    Raises:
        Fault: a task of pairs is asked about a single text or the reverse, or a threshold is set for a task without
            labels.
    """
    distinct: dict[object, Query] = {}
    for query in queries:
        distinct.setdefault((query.references, isinstance(query.text, tuple), query.options), query)
    for query in distinct.values():
        for reference in query.references:
            _check_takes(query, reference, entries[reference])
            _check_threshold(query, entries[reference])


def _check_takes(query: Query, reference: str, entry: Entry) -> None:
    takes = entry.header.takes
    if takes is None or isinstance(query.text, tuple) == (takes != "single"):
        return
    try:
        check_inputs([query.text], [reference], [str(entry)], [takes])
    except DataError as error:
        problem = str(error).partition(". ")[0]
        fix = "Send a text" if takes == "single" else "Send pairs: [[text, second text], …]"
        raise Fault("malformed", f"{problem}. {fix}", param=query.param) from None


def _check_threshold(query: Query, entry: Entry) -> None:
    if query.options.threshold is None:
        return
    try:
        query.options.apply(Decision(entry.header.head.kind, entry.labels))
    except RouteError:
        problem = f"{entry.task} has no labels, so a threshold has no meaning for it"
        raise Fault("malformed", f"{problem}. Leave threshold out", param="threshold") from None


def estimate_tokens(queries: Sequence[Query], max_tokens: Mapping[str, int | None]) -> int:
    """Tokens of all queries, estimated from the length of their texts.

    A long text is tokenized whole before it is truncated, which counts as work, too: otherwise a few huge texts would
    delay everybody unnoticed.

    Args:
        max_tokens: where each reference truncates a text; None if it reads all of it.
    """
    total = 0
    for query in queries:
        texts = query.text if isinstance(query.text, tuple) else (query.text,)
        length = sum(len(str(text)) for text in texts)
        total += length // CHARACTERS_TOKENIZED_PER_TOKEN
        for reference in query.references:
            total += min(length // CHARACTERS_PER_TOKEN + 8, max_tokens[reference] or length)
    return total
