"""Writes the tables of ``docs/serving.md`` from the CSV files that ``serving.py`` and ``serving_memory.py`` wrote.

    python benchmarks/serving_tables.py [docs/serving.md] [--results results/speed]

A table stands between ``<!-- serving: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from documents import rewrite, with_tables

Row = dict[str, str]
ONE_THREAD, TWO_THREADS = (f"amd-epyc-17-{number}threads-torch2.13.0" for number in (1, 2))


def table(*rows: Sequence[object]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def throughput(rows: Sequence[Row]) -> str:
    """HTTP against the engine."""
    head = ("tasks", "engine, texts/s", "HTTP, texts/s", "share", "lowest share", "processors of the load generator")
    fields = ("engine_rows_per_s", "http_rows_per_s", "share", "lowest_share", "generator_cores")
    return table(head, *((tasks_of(row), *(row[field] for field in fields)) for row in rows))


def latency(rows: Sequence[Row]) -> str:
    """The closed loop, by the number of clients."""
    closed = {(row["tasks"], row["clients"]): row for row in rows if row["loop"] == "closed"}
    clients = dict.fromkeys(number for _, number in closed)
    head = ("clients", "1 task: p50, p99 in ms, requests/s", "26 tasks mixed")
    return table(head, *((number, *(times_of(closed[tasks, number]) for tasks in ("1", "26"))) for number in clients))


def overload(rows: Sequence[Row]) -> str:
    """The open loop, by its rate."""
    head = ("tasks", "rate", "answered", "p50, p99 in ms", "429", "failed")
    chosen = [row for row in rows if row["loop"] == "open"]
    cells = [
        (
            tasks_of(row),
            row["rate"],
            row["answered"],
            f"{row['p50_ms']}, {row['p99_ms']}",
            row["status_429"],
            row["failed"],
        )
        for row in chosen
    ]
    return table(head, *cells)


def eight(rows: Sequence[Row]) -> str:
    """Eight classifiers on one text of 12 and of 96 words."""
    ways: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        ways.setdefault((row["way"], row["layers"]), {})[row["words"]] = row
    cells = [
        (*way, percentiles_of(own["12"]), percentiles_of(own["96"]), megabytes_of(own["12"]))
        for way, own in ways.items()
    ]
    return table(("way", "layers with adapters", "12 words", "96 words", "memory"), *cells)


def loads(fields: Sequence[str], rows: Sequence[Row]) -> str:
    """Texts per second and p50 of each system under each load, and its most memory; ``fields`` tell systems apart."""
    kinds = dict.fromkeys((row["texts_a_request"], row["clients"]) for row in rows)
    systems: dict[tuple[str, ...], dict[tuple[str, str], Row]] = {}
    for row in rows:
        systems.setdefault(tuple(row[field] for field in fields), {})[row["texts_a_request"], row["clients"]] = row
    titles = (f"{texts}, {clients} client{'s' * (clients != '1')}" for texts, clients in kinds)
    cells = [
        (
            *system,
            *(rate_of(own[kind]) for kind in kinds),
            megabytes_of(max(own.values(), key=lambda row: float(row["memory_mb"]))),
        )
        for system, own in systems.items()
    ]
    return table((*fields, *titles, "memory"), *cells)


def memory(rows: Sequence[Row]) -> str:
    """Memory at the start, and after all requests of each series."""
    head = ("precision", "environment", "at the start", "requests", "at the end")
    return table(head, *((*key, *ends_of(own)) for key, own in series(rows)))


def series(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    """The rows of each setting."""
    for key in dict.fromkeys((row["dtype"], row["settings"]) for row in rows):
        yield key, [row for row in rows if (row["dtype"], row["settings"]) == key]


def ends_of(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Memory at the start, the number of requests, memory at the end."""
    return f"{float(rows[0]['memory_mb']):.0f} MB", rows[-1]["requests"], f"{float(rows[-1]['memory_mb']):.0f} MB"


def tasks_of(row: Row) -> str:
    """The number of tasks in words."""
    return "1" if row["tasks"] == "1" else f"{row['tasks']} mixed"


def percentiles_of(row: Row) -> str:
    """p50 and p99 in ms."""
    return f"{float(row['p50_ms']):.0f}, {float(row['p99_ms']):.0f}"


def rate_of(row: Row) -> str:
    """Texts per second, and p50 in ms."""
    return f"{float(row['rows_per_s']):.0f}, {float(row['p50_ms']):.0f}"


def megabytes_of(row: Row) -> str:
    """Resident memory."""
    return f"{float(row['memory_mb']):,.0f} MB"


def times_of(row: Row) -> str:
    """Latencies and throughput."""
    p50, p99, rate = (f"{float(row[field]):.0f}" for field in ("p50_ms", "p99_ms", "requests_per_s"))
    return f"{p50}, {p99}, {rate}"


TABLES: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "eight": (f"{TWO_THREADS}/serving-eight.csv", eight),
    "processes": (f"{TWO_THREADS}/serving-processes.csv", partial(loads, ("system",))),
    "peers": (f"{TWO_THREADS}/serving-peers.csv", partial(loads, ("system", "dtype"))),
    "throughput": (f"{TWO_THREADS}/serving-throughput.csv", throughput),
    "latency": (f"{TWO_THREADS}/serving-latency.csv", latency),
    "overload": (f"{TWO_THREADS}/serving-latency.csv", overload),
    "memory": (f"{ONE_THREAD}/serving-memory.csv", memory),
}


def written(results: Path, name: str) -> str:
    """A table from its file."""
    file, of_rows = TABLES[name]
    with (results / file).open(encoding="utf-8", newline="") as stream:
        return of_rows(list(csv.DictReader(stream)))


def document(text: str, results: Path) -> str:
    """The text with every table replaced."""
    return with_tables(text, "serving", {name: partial(written, results, name) for name in TABLES})


if __name__ == "__main__":
    rewrite(__doc__, document, "docs/serving.md", "results/speed")
