"""Many vhost-user front ends in one process (testbed/front-ends): virtio drivers with sockets, memory and rings of
their own, without guests. They send frames to each other through the appliance and count what arrives.

    ends = FrontEnds(lab)
    ends.add([front_end(n, socket) for n, socket in enumerate(sockets)])
    report = ends.send(flows=[("v0", "v1")], pps=1e6, seconds=0.4)
"""

import json
import os
import select
import time

from ..lab import Failure
from ..lab.process import Process
from ..product.stopover import program

PATIENCE_S = 20
VNI = 100
HUGE_PAGE_MIB = 2
RING = 256  # QEMU's default
# Room for a frame, in an odd number of cache lines: so buffers use all sets of a cache, as those of DPDK's mempools do.
BUFFER = 25 * 64
PAGES = 256  # rings begin at one of these, as guests have them anywhere


def name(n):
    """The name of front end n."""
    return f"v{n}"


def mac(n):
    """Its MAC."""
    return f"02:76:00:00:{n >> 8:02x}:{n & 0xFF:02x}"


def ip(n):
    """Its address."""
    return f"10.118.{n >> 8}.{n & 0xFF}"


def front_end(n, socket, **more):
    """Front end n at a socket, as `add` takes it: with huge pages, as DPDK recommends for guests."""
    return {"name": name(n), "socket": str(socket), "mac": mac(n), "ip": ip(n), "ring": RING, "buffer": BUFFER,
            "page": n * 89 % PAGES, "huge": True, **more}


def memory_mib(pairs=1, ring=RING):
    """Memory of hugepages for a front end."""
    kib = pairs * 2 * ring * (BUFFER + 32) // 1024 + 4 * (1 + PAGES)
    return -(-kib // (HUGE_PAGE_MIB * 1024)) * HUGE_PAGE_MIB


class FrontEnds:
    """The process. `cpu` is the CPU that it is pinned to, if given."""

    def __init__(self, lab, ns=None, cpu=None):
        pinned = [] if cpu is None else ["taskset", "-c", cpu]
        self.process = Process(lab, "front-ends", [*pinned, program("front-ends")], ns=ns, pipes=True)
        self.buffer, self.answers = b"", []
        self.wait("ready")

    def request(self, command, **body):
        """Writes a command."""
        self.process.popen.stdin.write(json.dumps({command: body}) + "\n")
        self.process.popen.stdin.flush()

    def wait(self, kind, of=None, patience=PATIENCE_S):
        """Waits for an answer, of the front end `of` if that is given. Raises if an error is reported."""
        end = time.monotonic() + patience
        while True:
            for n, answer in enumerate(self.answers):
                if answer["answer"] == "error":
                    raise Failure(f"front end {answer.get('name', '')}: {answer['error']}")
                if answer["answer"] == kind and of in (None, answer.get("name")):
                    return self.answers.pop(n)
            self._read(kind, end)

    def _read(self, kind, end):
        pipe = self.process.popen.stdout.fileno()
        ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
        part = os.read(pipe, 1 << 16) if ready else b""
        if not part:
            self.process.check()
            raise Failure(f"{self.process.name}: no answer `{kind}` in time; the end of its log:\n"
                          f"    {self.process.tail()}")
        *lines, self.buffer = (self.buffer + part).split(b"\n")
        self.answers += [json.loads(line) for line in lines]

    def add(self, front_ends, patience=PATIENCE_S):
        """Adds them all at once; returns their answers, in this order, when all links are up."""
        for one in front_ends:
            self.request("add", **one)
        return [self.wait("added", one["name"], patience) for one in front_ends]

    def remove(self, of, abrupt=False):
        """Ends a front end; `abrupt` as if its VMM crashed."""
        self.request("remove", name=of, abrupt=abrupt)
        return self.wait("removed", of)

    def enable(self, of, pairs):
        """Has a front end use so many of its queue pairs."""
        self.request("enable", name=of, pairs=pairs)
        return self.wait("enabled", of)

    def send(self, flows, pps, seconds, **more):
        """Sends so long; returns the report."""
        self.request("send", flows=flows, pps=pps, seconds=seconds, **more)
        return self.wait("sent", patience=seconds + PATIENCE_S)

    def start(self, flows, pps, **more):
        """Sends until `stop`."""
        self.request("send", flows=flows, pps=pps, **more)

    def stop(self):
        """Ends sending; returns the report."""
        self.request("stop")
        return self.wait("sent")

    def stats(self):
        """The counters since the start, in sum and by front end."""
        self.request("stats")
        return self.wait("stats")
