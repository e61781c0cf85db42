"""DPDK's testpmd, controlled by its prompt: a virtual machine without an operating system, or a data path to measure
beside ours."""

import os
import re
import select
import time

from ..lab import Failure
from ..lab.process import Process

PATIENCE_S = 30


class Console:
    """A running testpmd. `argv` has the rest of its options, among them `-i`."""

    def __init__(self, lab, name, argv, ns=None):
        self.name = name
        # testpmd writes its prompt unbuffered, and the rest by stdio, which must not buffer it for longer.
        self.process = Process(lab, name, ["stdbuf", "-oL", "dpdk-testpmd", "--no-pci", "--in-memory", *argv], ns=ns,
                               pipes=True)
        self.log = open(lab.logs / f"{name}-console.log", "a")
        self.answer()

    def answer(self, expected=""):
        """What it prints, up to the prompt after `expected`."""
        text, end = "", time.monotonic() + PATIENCE_S
        while not (re.search(expected, text, re.S) and text.rstrip("\n").endswith("testpmd> ")):
            pipe = self.process.popen.stdout.fileno()
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            part = os.read(pipe, 1 << 16).decode(errors="replace") if ready else ""
            if not part:
                self.process.check()
                raise Failure(f"{self.name}: no answer within {PATIENCE_S} s; so far: {text[-2000:]}")
            text += part
        self.log.write(text)
        self.log.flush()
        return text

    def command(self, line, expected=""):
        """Types a line, returns the answer."""
        self.process.popen.stdin.write(line + "\n")
        self.process.popen.stdin.flush()
        return self.answer(expected)

    def quit(self):
        """Types `quit` and waits for the end."""
        self.process.popen.stdin.write("quit\n")
        self.process.popen.stdin.flush()
        self.process.wait_end(10)
