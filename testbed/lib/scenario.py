"""The frame of every scenario: a run of its own, one line of JSON at the end, and an exit status."""

import json
import os
import subprocess
import sys
import time
import traceback

from .lab import Failure, Lab, info

# `testbed/run all` sets it, as `make test` does: scenarios are shorter and figures about time are not judged. A
# scenario that is run by its name is judged by all its figures.
SHORT = os.environ.get("STOPOVER_TIMES") == "reported"


def cpu_time():
    """Of all CPUs, in clock ticks since boot: (stolen by the hypervisor, in all)."""
    with open("/proc/stat", encoding="ascii") as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return ticks[7], sum(ticks)


def main(name, body, must_be_zero, must_be_positive=(), must_be_zero_alone=()):
    """Runs `body(lab)`, which returns the figures. The scenario passes if nothing was raised, all figures of
    `must_be_zero` are 0, all of `must_be_positive` are above 0, and all processes ended cleanly. The figures of
    `must_be_zero_alone` depend on time; they must be 0, too, but are not judged among all scenarios: `make test` must
    pass on a busy machine. Beside the figures stands how much of the CPUs' time a hypervisor took away."""
    began, figures, why, cpu_before = time.monotonic(), {}, [], cpu_time()
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
    except Exception:  # an error in the scenario itself
        why.append(traceback.format_exc())
    except SystemExit as e:
        why.append(str(e))
    if figures or not why:
        late = [k for k in must_be_zero_alone if figures.get(k) != 0]
        if SHORT and figures:
            for k in late:
                info(f"not judged among all scenarios: {k} is {figures.get(k, 'not known')}, not 0")
            late = []
        why += [f"{k} is {figures.get(k, 'not known')}, 0 was expected" for k in must_be_zero if figures.get(k) != 0]
        why += [f"{k} is {figures.get(k, 'not known')}, 0 was expected" for k in late]
        why += [f"{k} is {figures.get(k, 'not known')}, more than 0 was expected"
                for k in must_be_positive if not figures.get(k, 0) > 0]
    for w in why:
        info(f"FAILED: {w}")
    stolen, total = (now - before for now, before in zip(cpu_time(), cpu_before))
    print(json.dumps({"scenario": name, "pass": not why, **figures, "stolen_percent": round(100 * stolen / max(total, 1), 1),
                      "seconds": round(time.monotonic() - began, 1)}), flush=True)
    sys.exit(1 if why else 0)
