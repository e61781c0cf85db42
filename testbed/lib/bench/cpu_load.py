"""Work for the CPU beside the worker's whenever that has no other: it computes, and shares nothing with anybody. Two
CPUs of a virtual machine may be halves of one core, and then each is slower while the other works: what is compared
must find the other CPU equally busy."""

import os
import pathlib
import signal
import sys

from ..lab.process import Process
from .dut import WORKER_CPU


class Companion:
    """A process that computes for ever between `resume` and `pause`, and gives way to every other."""

    def __init__(self, lab):
        cpu = min(set(range(os.cpu_count())) - {WORKER_CPU})
        self.process = Process(lab, "companion", ["taskset", "-c", cpu, "chrt", "--idle", "0", sys.executable, "-c",
                                                  "while True: pass"])
        # The scheduler weighs sessions against each other, where it does that at all, before it looks at processes.
        group = pathlib.Path(f"/proc/{self.process.pid}/autogroup")
        if group.exists():
            group.write_text("19")
        self.pause()

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)
