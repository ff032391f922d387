"""Runs the trial of an entry again from its recipe alone, to check its scores."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from polytask.errors import DataError
from polytask.paper.ledger import Entry
from polytask.paper.worker import work


def rerun_entry(entry: Entry, data: str | None) -> Entry:
    """The entry of the same trial, trained by itself with the entry's backbone, device and precision.

    The scores are equal up to the order in which numbers are summed when jobs train together.

    Args:
        entry: the result to check.
        data: the folder of the suites, or None for the hub.

    Raises:
        DataError: rows or backbone are not those that the entry was made of.
    """
    with TemporaryDirectory() as folder:
        pack = {
            "trials": {entry.key: entry.trial.to_json()},
            "folder": folder,
            "data": data,
            "backbone": entry.backbone["name"],
            "device": entry.environment["device"],
            "dtype": entry.environment["dtype"],
            "share": 1.0,
            "adapters": False,
        }
        for message in work(pack):
            if message["what"] == "entry":
                return Entry.from_json(message["entry"])
    raise DataError(f"the trial {entry.key} ended without a result")
