"""An entry of the ledger run again from its recipe alone: what tells that its scores follow from what it says."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from polytask.errors import DataError
from polytask.paper.ledger import Entry
from polytask.paper.worker import work


def rerun_entry(entry: Entry, data: str | None) -> Entry:
    """The same trial, trained by itself: with the entry's backbone, device and precision, in a folder of its own.

    Trained in company, its scores were the same but for the order in which numbers were summed.

    Args:
        entry: of a ledger.
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
    raise DataError(f"nothing came of the trial {entry.key}")
