"""A live migration that advances phase by phase, so that a fault can be made in each of them. `finish` brings it to an
end after any fault, as an orchestrator would.

    move = Stepwise(guest, board, source, target)
    move.to("stopped")
    target.process.kill()      and start it again
    move.finish()              the place where the guest runs now, if any

The phases:

    before      nothing has begun
    copying     QEMU copies slowly while the guest runs; the source has locked it (if it has a board)
    stopped     the guest does not run: QEMU waits before the switchover; the source holds its frames
    loaded      the target has the whole guest, which does not run yet
    running     the guest has just started at the target
    committed   the board has the guest at the target
    forgotten   the source has sent on the held frames and has no migration record any more
"""

import functools
import time

from .. import lab
from ..lab import Failure
from .qmp import OVER, PRE_SWITCHOVER

PHASES = ("before", "copying", "stopped", "loaded", "running", "committed", "forgotten")
SLOW = 1 << 20  # bytes per second while copying: minutes for a guest of some 30 MB
PATIENCE = 10


until = functools.partial(lab.until, timeout=PATIENCE, every=0.005)


class Place:
    """Where a guest can be: an appliance and the socket of its port there."""

    def __init__(self, appliance, socket):
        self.appliance, self.socket = appliance, socket

    def state(self, mac):
        """The state of this MAC's migration at the appliance, or None."""
        nodes = self.appliance.json("show", "migrations")["nodes"]
        return next((n["state"] for n in nodes if n["mac"] == mac), None)


class Stepwise:
    """One migration of `guest` from its present place to another."""

    def __init__(self, guest, board, source, target):
        self.guest, self.board, self.source, self.target = guest, board, source, target
        self.old, self.new = guest.machine, None
        self.began = False
        self.phase = "before"

    def to(self, phase):
        """Advances to a phase, through all phases before it."""
        for name in PHASES[PHASES.index(self.phase) + 1:PHASES.index(phase) + 1]:
            getattr(self, f"_{name}")()
            self.phase = name

    def _prepare(self):
        """Starts the machine at the target, whose appliance must run."""
        if self.new is None:
            self.new = self.guest.target(self.target.socket, self.target.appliance.ns, paused=True)

    def _begin(self, bandwidth):
        self._prepare()
        self.old.qmp.prepare(bandwidth=bandwidth, pause=True)
        self.old.qmp.migrate(self.new.incoming)
        self.began = True

    def _copying(self):
        self._begin(SLOW)
        until("the source sees that the guest is leaving", lambda: self.source.state(self.guest.mac) == "leaving")
        if self.board.process.alive():
            until("the board has the lock", self.locks)

    def _stopped(self):
        self.old.qmp.limit()
        until("QEMU stops the guest", lambda: self.old.qmp.status() == PRE_SWITCHOVER)
        until("the source holds", lambda: self.source.state(self.guest.mac) == "paused")

    def _loaded(self):
        self.old.qmp.go_on()
        until("QEMU has sent the guest", lambda: self.old.qmp.status() == "completed")
        until("QEMU has taken the guest", lambda: self.new.state() in ("paused", "prelaunch"))

    def _running(self):
        self.new.qmp.run("cont")

    def _committed(self):
        until("the board ends the migration", lambda: not self.locks(), timeout=2)

    def _forgotten(self):
        until("the source forgets the guest", lambda: self.source.state(self.guest.mac) in ("away", None))

    def locks(self):
        """The active migrations at the board."""
        return self.board.json("migration", "list", "--active")

    def cancel(self):
        """Cancels it. QEMU lets the guest run at the source again."""
        self.old.qmp.cancel()
        until("QEMU cancels", lambda: self.old.qmp.status() in OVER)

    def finish(self):
        """Completes it if QEMU still can; else the guest continues at the source. Ends the other machine. Returns the
        place where the guest runs, or None if both machines are dead."""
        if not self.began and self.old.process.alive():
            self._begin(0)
        whole_at_target = PHASES.index(self.phase) >= PHASES.index("loaded")
        if whole_at_target or self.old.process.alive() and self._end() == "completed":
            self._run(self.new)
        place = self._where()
        if place is None and self.old.process.alive():
            if self.new.state() != "dead":
                self.new.kill()
            self._run(self.old)
            place = self._where()
        keep = {self.source: self.old, self.target: self.new}.get(place)
        if keep is not None:
            self.guest.moved(keep)
        for machine in (self.old, self.new):
            if machine not in (keep, None) and machine.state() != "dead":
                machine.quit()
        return place

    def _end(self, timeout=30):
        """Lets QEMU's migration end; returns its status."""
        end = time.monotonic() + timeout
        if self.old.qmp.status() not in OVER:
            self.old.qmp.limit()
        while (status := self.old.qmp.status()) not in OVER:
            if status == PRE_SWITCHOVER:
                self.old.qmp.go_on()
            if time.monotonic() > end:
                raise Failure(f"QEMU's migration is still `{status}` after {timeout} s")
            time.sleep(0.005)
        return status

    def _run(self, machine):
        """Lets the guest run there, if it does not."""
        end = time.monotonic() + PATIENCE
        while (state := machine.state()) not in ("running", "dead"):
            if state != "inmigrate":
                machine.qmp.run("cont")
            if time.monotonic() > end:
                raise Failure(f"guest {self.guest.name} does not run: it is `{state}`")
            time.sleep(0.005)

    def _where(self):
        """The place where the guest runs, or None."""
        runs = [p for p, m in ((self.source, self.old), (self.target, self.new)) if m and m.state() == "running"]
        if len(runs) > 1:
            raise Failure(f"guest {self.guest.name} runs at both hosts")
        return runs[0] if runs else None
