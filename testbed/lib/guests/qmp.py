"""QEMU's machine protocol (docs/interop/qmp-spec): commands to one virtual machine, and the events it reports, with
the host's time. Waiting costs nothing: everything waited for comes as an event."""

import json
import re
import socket
import time

from ..lab import Failure

OVER = ("completed", "failed", "cancelled")
PRE_SWITCHOVER = "pre-switchover"


class Qmp:
    """A connection to a QEMU's QMP socket, which must be there."""

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.heard = b""
        self.events = []  # (name, data, seconds by the host's clock)
        self._next(time.monotonic() + 10)  # the greeting
        self.run("qmp_capabilities")

    def _next(self, end):
        """The next message; None if the connection was closed."""
        while b"\n" not in self.heard:
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"QEMU of {self.name} said nothing in time")
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.heard += more
        line, self.heard = self.heard.split(b"\n", 1)
        message = json.loads(line)
        if "event" in message:
            at = message["timestamp"]
            self.events.append((message["event"], message.get("data", {}), at["seconds"] + at["microseconds"] / 1e6))
        return message

    def run(self, command, timeout=10, **arguments):
        """Runs a command, returns what it answers. Underscores in names of arguments stand for hyphens."""
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        try:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        except OSError as e:
            raise Failure(f"QEMU of {self.name}, asked for {command}: {e}") from None
        end = time.monotonic() + timeout
        while True:
            message = self._next(end)
            if message is None:
                raise Failure(f"QEMU of {self.name} hung up when asked for {command}")
            if "error" in message:
                raise Failure(f"QEMU of {self.name} refused {command}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def wait(self, what, true, timeout):
        """Waits for an event for which `true(name, data)`, be it one that has come before; returns it."""
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
        """When an event came last; None if it did not. Reads what has arrived, waits for nothing."""
        self.run("query-status")
        return next((at for event, _, at in reversed(self.events) if event == name), None)

    # Migration.

    def prepare(self, bandwidth=0, downtime_ms=300, pause=False):
        """Sets what both sides must agree on, and the source's limits: bytes per second (0: none), and the
        pause that it may expect. With the return path the source learns when the target runs, so that the
        downtime it reports is the whole pause; libvirt sets it too. With `pause` the source waits, the guest stopped,
        for `go_on` before it sends the last of it (PRE_SWITCHOVER)."""
        states = {"events": True, "return-path": True, "pause-before-switchover": pause}
        self.run("migrate-set-capabilities", capabilities=[{"capability": c, "state": s} for c, s in states.items()])
        self.limit(bandwidth, downtime_ms)

    def limit(self, bandwidth=0, downtime_ms=300):
        """At the source, also while it migrates: bytes per second (0: none), and the pause that it may expect."""
        self.run("migrate-set-parameters", max_bandwidth=bandwidth, downtime_limit=downtime_ms)

    def go_on(self):
        """At the source, before the switchover: goes on."""
        self.run("migrate-continue", state=PRE_SWITCHOVER)

    def status(self):
        """How far a migration is, at either end; `none` if there is none."""
        return self.run("query-migrate").get("status", "none")

    def listen(self, path):
        """At the target: takes the migration that comes to a unix socket."""
        self.run("migrate-incoming", uri=f"unix:{path}")

    def migrate(self, path):
        """At the source: begins. `ended` must follow."""
        self.events = []
        self.run("migrate", uri=f"unix:{path}")

    def cancel(self):
        """At the source: calls it off, if it is not too late. `ended` tells."""
        self.run("migrate_cancel")

    def ended(self, timeout=30):
        """At the source: waits until the migration is over; returns what `query-migrate` says of it."""
        self.wait("the migration's end", lambda n, d: n == "MIGRATION" and d.get("status") in OVER, timeout)
        end = time.monotonic() + 2
        # The event comes a moment before the figures.
        while (told := self.run("query-migrate"))["status"] == "completed" and not told.get("total-time"):
            if time.monotonic() > end:
                raise Failure(f"QEMU of {self.name} does not say how long its migration took: {told}")
            time.sleep(0.001)
        return told

    def quit(self):
        """Ends this QEMU; it may be gone already."""
        try:
            self.run("quit")
        except Failure as e:
            if not re.search("hung up|Broken pipe|reset", str(e)):
                raise
        self.close()

    def close(self):
        """Hangs up."""
        self.socket.close()
