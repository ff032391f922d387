"""``polytask paper``: reproduce the paper, one file per verb."""

from polytask.cli.paper import all, plan, report, rerun, run, show, submit
from polytask.cli.paper.arguments import app

__all__ = ["all", "app", "plan", "report", "rerun", "run", "show", "submit"]
