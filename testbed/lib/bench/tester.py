"""The tester of the bench (testbed/tester): a process on CPU 0 with virtio-user ports to the two vhost-user sockets of
a DUT. It sends at a constant rate and accounts for every frame."""

import contextlib
import json
import os
import select
import time

from ..lab import Failure
from ..lab.process import Process
from ..product import stopover

DESCRIPTORS = 1024  # of each ring: a quarter of a millisecond at 4 Mpps
CPU = 0
MEMORY_MIB = 128
PATIENCE_S = 20


@contextlib.contextmanager
def preferred(threads):
    """Gives these threads real-time priority in its context. The kernel takes the CPU from them for the rest of any
    second of which they have had 0.95 s (sched_rt_runtime_us), so a trial must be shorter and a pause must follow. A
    thread that is not in a trial must not poll with this priority: the other threads of its CPU would not run, not even
    to end."""
    for t in threads:
        os.sched_setscheduler(t, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        for t in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(t, os.SCHED_OTHER, os.sched_param(0))


class Tester:
    """Connects to the sockets `vm` and `underlay` of a running DUT. `flows` are {name: pcap file}. With `checksums` trials
    can leave checksums to the DUT."""

    def __init__(self, lab, name, vm, underlay, flows, ns=None, checksums=False):
        self.name = name
        ports = [f"net_virtio_user{n},path={path},queues=1,queue_size={DESCRIPTORS},mrg_rxbuf=0,in_order=1"
                 for n, path in enumerate((vm, underlay))]
        argv = [stopover.program("tester", "tools"), "--descriptors", DESCRIPTORS, *["--checksums"] * checksums,
                *[w for p in ports for w in ("--port", p)],
                *[w for k, v in flows.items() for w in ("--flows", f"{k}={v}")],
                "--", "--no-pci", "--in-memory", "--single-file-segments", "--no-telemetry",
                f"--file-prefix=so{lab.pid}{name}", "-m", MEMORY_MIB, "--lcores", f"0@{CPU}"]
        self.process = Process(lab, name, argv, ns=ns, pipes=True)
        self._answer()

    def _answer(self, patience=PATIENCE_S):
        ready, _, _ = select.select([self.process.popen.stdout], [], [], patience)
        line = self.process.popen.stdout.readline() if ready else ""
        if not line:
            time.sleep(0.1)
            self.process.check()
            raise Failure(f"{self.name} does not answer; the end of its log:\n    {self.process.tail()}")
        return json.loads(line)

    def trial(self, direction, flows, pps, seconds, warm_seconds=0.01, **more):
        """A trial with so many frames per second towards the DUT. Returns its report."""
        request = {"from": 0 if direction == "encap" else 1, "flows": flows, "pps": pps, "seconds": seconds,
                 "warm_seconds": warm_seconds, **more}
        self.process.popen.stdin.write(json.dumps(request) + "\n")
        self.process.popen.stdin.flush()
        return self._answer(PATIENCE_S + seconds)
