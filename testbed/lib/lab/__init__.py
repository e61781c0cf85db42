"""One run of a scenario: its directories, namespaces and processes. When it ends, none of them is left."""

from .run import CACHE, OUTPUT, REPO, RUNS, TARGET, Failure, Lab, info, sh
from .wait import until

__all__ = ["CACHE", "OUTPUT", "REPO", "RUNS", "TARGET", "Failure", "Lab", "info", "sh", "until"]
