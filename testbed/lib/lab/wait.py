"""Waiting for a condition."""

import time

from .run import Failure


def until(what, true, timeout=20, every=0.05, check=None):
    """Waits until `true()`; returns the seconds that took. `check`, if given, is called each time and may raise."""
    began = time.monotonic()
    while not true():
        if check:
            check()
        if time.monotonic() - began > timeout:
            raise Failure(f"{what}: not within {timeout} s")
        time.sleep(every)
    return time.monotonic() - began
