"""A guest that gets no CPU time for a while, again and again, as on a busy hypervisor: its QEMU is stopped by a signal.
The appliance and the traffic go on.

    stalls = Stalls(guest)
    stalls.start()
    ...                         the guest runs, and is migrated
    stalls.stop()               how often it was stopped
"""

import contextlib
import os
import random
import signal
import threading

# Shorter than an appliance waits for a guest that takes nothing (1.5 s), with room for a machine that is busy itself.
STALL_S = (0.02, 0.2)
BETWEEN_S = (0.1, 0.5)


class Stalls(threading.Thread):
    """Stops the QEMU in which the guest is now, and the one to which it migrates."""

    def __init__(self, guest, seed=1):
        super().__init__(daemon=True)
        self.guest, self.dice, self.count = guest, random.Random(seed), 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(self.dice.uniform(*BETWEEN_S)):
            processes = [m.process for m in (self.guest.machine, self.guest.incoming) if m is not None]
            for process in processes:
                send(process, signal.SIGSTOP)
            self.done.wait(self.dice.uniform(*STALL_S))
            for process in processes:
                send(process, signal.SIGCONT)
            self.count += 1

    def stop(self):
        """Ends it; returns how often it stopped the guest."""
        self.done.set()
        self.join()
        return self.count


def send(process, number):
    """Sends a signal, if the process runs."""
    if process.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
