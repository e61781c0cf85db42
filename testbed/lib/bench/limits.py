"""The limits of figures."""

from ..lab import info


def above(figures, most):
    """The figures above their limits, in words. A missing figure is not judged.

    >>> above({"a": 1.06, "b": 1.05}, {"a": 1.05, "b": 1.05, "c": 1})
    ['a is 1.06, at most 1.05 is wanted']
    """
    return [f"{k} is {figures[k]}, at most {v} is wanted" for k, v in most.items() if figures.get(k, v) > v]


def record(figures, missed):
    """Prints the missed limits, and adds their number to the figures."""
    for why in missed:
        info(why)
    figures["floors_missed"] = len(missed)
