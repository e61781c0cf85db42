"""Load for the CPU beside the worker's. Two CPUs of a virtual machine may be the two threads of a core, and then each
is slower while the other works. For a fair comparison the other CPU must be equally busy."""

import os
import pathlib
import signal
import sys

from ..lab.process import Process
from .dut import WORKER_CPU


class CpuLoad:
    """A process that computes between `resume` and `pause`, at the lowest priority."""

    def __init__(self, lab):
        cpu = min(set(range(os.cpu_count())) - {WORKER_CPU})
        self.process = Process(lab, "cpu-load", ["taskset", "-c", cpu, "chrt", "--idle", "0", sys.executable, "-c",
                                                  "while True: pass"])
        # With autogroups the scheduler weighs sessions before processes.
        group = pathlib.Path(f"/proc/{self.process.pid}/autogroup")
        if group.exists():
            group.write_text("19")
        self.pause()

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)
