"""One run of a scenario: its directories, namespaces and processes, and that nothing of it is left behind."""

from .run import CACHE, OUTPUT, REPO, RUNS, TARGET, Failure, Lab, say, sh

__all__ = ["CACHE", "OUTPUT", "REPO", "RUNS", "TARGET", "Failure", "Lab", "say", "sh"]
