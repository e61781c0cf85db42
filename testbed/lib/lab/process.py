"""Processes of a run: started in a namespace, logged to target/testbed/<scenario>/NAME.log, and ended by SIGTERM, then
by SIGKILL."""

import os
import re
import signal
import socket
import subprocess
import time

from .run import Failure


def listens(path):
    """Whether a unix socket takes connections."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
        except OSError:
            return False
    return True


def free_port():
    """A port of TCP on loopback that nobody uses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A process. `ns` is a netns.Namespace, or None for the caller's namespace."""

    def __init__(self, lab, name, argv, ns=None, env=None, pipes=False):
        self.name = name
        self.log = lab.logs / f"{name}.log"
        self.ended_by_us = False
        command = [str(a) for a in argv]
        if ns is not None:
            command = ns.command(command)
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
                text=pipes or None,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.pid = self.popen.pid
        lab.processes.append(self)

    def tail(self, lines=8):
        """The last lines of its log, for an error message."""
        text = self.log.read_text(errors="replace").rstrip().splitlines()
        return "\n    ".join(text[-lines:])

    def alive(self):
        """Whether it runs."""
        return self.popen.poll() is None

    def check(self):
        """Raises if it has ended by itself."""
        if not self.alive() and not self.ended_by_us:
            status = self.popen.returncode
            how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise Failure(f"{self.name} {how}; the end of its log:\n    {self.tail()}")

    def wait_for(self, what, true, timeout):
        """Waits until `true()`; the process must stay alive meanwhile."""
        end = time.monotonic() + timeout
        while not true():
            self.check()
            if time.monotonic() > end:
                raise Failure(f"{self.name}: {what} did not come within {timeout} s; "
                              f"the end of its log:\n    {self.tail()}")
            time.sleep(0.02)

    def wait_line(self, pattern, timeout=15):
        """Waits for a line in its log that matches."""
        found = re.compile(pattern, re.M)
        self.wait_for(f"a line like /{pattern}/", lambda: found.search(self.log.read_text(errors="replace")), timeout)

    def wait_socket(self, path, timeout=15):
        """Waits until a process listens at a unix socket, whose file may be left from before."""
        self.wait_for(f"a listener at `{path}`", lambda: listens(path), timeout)

    def wait_end(self, timeout):
        """Waits until it ends by itself; returns the exit status."""
        self.ended_by_us = True
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {timeout} s") from None

    def kill(self):
        """Ends it by SIGKILL, as a crash would."""
        self.ended_by_us = True
        self.popen.kill()
        self.popen.wait()

    def stop(self, grace=10):
        """Ends it by SIGTERM, or by SIGKILL after `grace` seconds. Returns a complaint if it did not end in order, else
        None."""
        died = None if self.alive() or self.ended_by_us else self.popen.returncode
        self.ended_by_us = True
        if died is not None:
            return f"{self.name} had ended by itself with status {died}" if died != 0 else None
        if not self.alive():
            return None
        self.popen.terminate()
        self.popen.send_signal(signal.SIGCONT)  # it may be stopped
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return f"{self.name} did not end within {grace} s of SIGTERM"
        status = self.popen.returncode
        return None if status in (0, -signal.SIGTERM) else f"{self.name} answered SIGTERM with status {status}"
