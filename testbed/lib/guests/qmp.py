"""QEMU's machine protocol (docs/interop/qmp-spec): commands to a virtual machine, and its events with the host's time.
"""

import json
import re
import socket
import time

from ..lab import Failure

OVER = ("completed", "failed", "cancelled")
PRE_SWITCHOVER = "pre-switchover"


class Qmp:
    """A connection to a QMP socket, which must exist."""

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.received = b""
        self.events = []  # (name, data, seconds by the host's clock)
        self._next(time.monotonic() + 10)  # the greeting
        self.run("qmp_capabilities")

    def _next(self, end):
        """The next message; None if the connection is closed."""
        while b"\n" not in self.received:
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"QEMU of {self.name} did not answer in time")
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.received += more
        line, self.received = self.received.split(b"\n", 1)
        message = json.loads(line)
        if "event" in message:
            at = message["timestamp"]
            self.events.append((message["event"], message.get("data", {}), at["seconds"] + at["microseconds"] / 1e6))
        return message

    def run(self, command, timeout=10, **arguments):
        """Runs a command, returns the answer. Underscores in argument names stand for hyphens."""
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        try:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        except OSError as e:
            raise Failure(f"QEMU of {self.name}, {command}: {e}") from None
        end = time.monotonic() + timeout
        while True:
            message = self._next(end)
            if message is None:
                raise Failure(f"QEMU of {self.name} closed the connection during {command}")
            if "error" in message:
                raise Failure(f"QEMU of {self.name} refused {command}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def wait(self, what, true, timeout):
        """Waits for an event with `true(name, data)`, which may have come already; returns it."""
        end, looked = time.monotonic() + timeout, 0
        while True:
            for event in self.events[looked:]:
                if true(event[0], event[1]):
                    return event
            looked = len(self.events)
            try:
                closed = self._next(end) is None
            except Failure:
                raise Failure(f"QEMU of {self.name}: {what} did not come within {timeout} s; "
                              f"it reported {[e[0] for e in self.events[-5:]]}") from None
            if closed:
                raise Failure(f"QEMU of {self.name} ended before {what}")

    def seen(self, name):
        """The time of the last event of this name, or None. Does not wait."""
        self.run("query-status")
        return next((at for event, _, at in reversed(self.events) if event == name), None)

    # Migration.

    def prepare(self, bandwidth=0, downtime_ms=300, pause=False):
        """Sets the capabilities that both sides need, and the limits of the source: bytes per second (0: none) and the
        downtime to aim at. With the return path, which libvirt sets too, the source learns when the guest runs at the
        target, so the reported downtime is the whole pause. With `pause` the source stops the guest and waits for
        `go_on` before it sends the rest (PRE_SWITCHOVER)."""
        states = {"events": True, "return-path": True, "pause-before-switchover": pause}
        self.run("migrate-set-capabilities", capabilities=[{"capability": c, "state": s} for c, s in states.items()])
        self.limit(bandwidth, downtime_ms)

    def limit(self, bandwidth=0, downtime_ms=300):
        """At the source, also during the migration: bytes per second (0: none) and the downtime to aim at."""
        self.run("migrate-set-parameters", max_bandwidth=bandwidth, downtime_limit=downtime_ms)

    def go_on(self):
        """At the source, before the switchover: lets it go on."""
        self.run("migrate-continue", state=PRE_SWITCHOVER)

    def status(self):
        """The status of the migration, at either side; `none` if there is none."""
        return self.run("query-migrate").get("status", "none")

    def listen(self, path):
        """At the target: accepts a migration on a unix socket."""
        self.run("migrate-incoming", uri=f"unix:{path}")

    def migrate(self, path):
        """At the source: begins the migration. `ended` must follow."""
        self.events = []
        self.run("migrate", uri=f"unix:{path}")

    def cancel(self):
        """At the source: cancels the migration, if it is not too late; see `ended`."""
        self.run("migrate_cancel")

    def ended(self, timeout=30):
        """At the source: waits for the end of the migration; returns the answer of `query-migrate`."""
        self.wait("the migration's end", lambda n, d: n == "MIGRATION" and d.get("status") in OVER, timeout)
        end = time.monotonic() + 2
        # The figures come a moment after the event.
        while (report := self.run("query-migrate"))["status"] == "completed" and not report.get("total-time"):
            if time.monotonic() > end:
                raise Failure(f"QEMU of {self.name} does not report how long the migration took: {report}")
            time.sleep(0.001)
        return report

    def quit(self):
        """Ends this QEMU, which may have ended already."""
        try:
            self.run("quit")
        except Failure as e:
            if not re.search("closed the connection|Broken pipe|reset", str(e)):
                raise
        self.close()

    def close(self):
        """Closes the connection."""
        self.socket.close()
