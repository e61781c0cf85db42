"""What every scenario has in common: a run of its own, a story in plain words, one line of JSON at the end, and
an exit status that says whether it passed."""

import json
import subprocess
import sys
import time
import traceback

from .lab import Failure, Lab, say


def main(name, body, must_be_zero, must_be_positive=()):
    """Runs `body(lab)`, which returns the figures. The scenario passes if nothing was raised, every figure of
    `must_be_zero` is 0, every one of `must_be_positive` above 0, and all processes ended well when asked to."""
    began, figures, why = time.monotonic(), {}, []
    try:
        with Lab(name) as lab:
            try:
                figures.update(body(lab))
            except Exception:
                for record in lab.post_mortem:
                    record()
                raise
            why += lab.stop()
    except Failure as e:
        why.append(str(e))
    except (subprocess.TimeoutExpired, RuntimeError, OSError) as e:
        why.append(f"{type(e).__name__}: {e}")
    except Exception:  # a mistake in the scenario itself: show where
        why.append(traceback.format_exc())
    except SystemExit as e:
        why.append(str(e))
    if figures or not why:
        why += [f"{k} is {figures.get(k, 'not known')}, 0 was expected" for k in must_be_zero if figures.get(k) != 0]
        why += [f"{k} is {figures.get(k, 'not known')}, more than 0 was expected"
                for k in must_be_positive if not figures.get(k, 0) > 0]
    for w in why:
        say(f"FAILED: {w}")
    print(json.dumps({"scenario": name, "pass": not why, **figures,
                      "seconds": round(time.monotonic() - began, 1)}), flush=True)
    sys.exit(1 if why else 0)
