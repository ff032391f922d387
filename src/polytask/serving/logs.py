"""Structured logs: one line of JSON for each thing that happened, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """A record, and whatever was given with it as ``extra``, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        said = {"time": at, "level": record.levelname.lower(), "event": record.getMessage()}
        said |= {name: value for name, value in vars(record).items() if name not in ORDINARY}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def configure(level: int | str = logging.INFO) -> None:
    """Send the logs of the server, and what uvicorn warns of, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, own in (("polytask.serving", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(own)
        logger.propagate = False
