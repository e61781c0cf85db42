"""A live migration that goes from phase to phase as told, so that something can go wrong in each of them; and that is
brought to an end whatever went wrong, as an orchestrator would.

    move = Stepwise(guest, source, target)
    move.to("stopped")
    target.process.kill()      ... and start it again
    move.finish()              the machine in which the guest runs now, if any

The phases, as the source, the target and the board see them:

    before      nothing has begun
    copying     QEMU copies slowly while the guest runs; the source has locked it (or would, had it a board)
    stopped     the guest does not run: QEMU waits before the switchover; the source holds its frames
    loaded      the target has all of it and does not let it run yet
    running     the target has just let it run
    committed   the board says that it is there
    forgotten   the source has sent on what it held, and knows it no more
"""

import time

from ..lab import Failure
from .qmp import OVER, PRE_SWITCHOVER

PHASES = ("before", "copying", "stopped", "loaded", "running", "committed", "forgotten")
SLOW = 1 << 20  # bytes per second while copying: minutes for a guest of some 30 MB
PATIENCE = 10


def until(what, true, timeout=PATIENCE, every=0.005):
    """Waits until `true()`; returns the seconds that took."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout:
            raise Failure(f"{what}: not within {timeout} s")
        time.sleep(every)
    return time.monotonic() - began


class Place:
    """Where a guest can be: an appliance and the socket of its port there."""

    def __init__(self, appliance, socket):
        self.appliance, self.socket = appliance, socket

    def state(self, mac):
        """What the appliance says of this MAC: a state of migration, or None."""
        nodes = self.appliance.json("show", "migrations")["nodes"]
        return next((n["state"] for n in nodes if n["mac"] == mac), None)


class Stepwise:
    """One migration of `guest` from the place it is in to another."""

    def __init__(self, guest, board, source, target):
        self.guest, self.board, self.source, self.target = guest, board, source, target
        self.old, self.new = guest.machine, None
        self.began = False
        self.phase = "before"

    def to(self, phase):
        """On to a phase, one after the other."""
        for name in PHASES[PHASES.index(self.phase) + 1:PHASES.index(phase) + 1]:
            getattr(self, f"_{name}")()
            self.phase = name

    def _prepare(self):
        """The machine at the target, which must have an appliance by now."""
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
        """Migrations that are under way at the board."""
        return self.board.json("migration", "list", "--active")

    def cancel(self):
        """Calls it off. QEMU lets the guest run at the source again."""
        self.old.qmp.cancel()
        until("QEMU cancels", lambda: self.old.qmp.status() in OVER)

    def finish(self):
        """Brings it to an end: completes it if QEMU still can, else has the guest go on at the source. Returns the
        place where the guest runs; None if both machines are dead. The other machine is ended."""
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
        """Drives QEMU's migration to an end; returns which."""
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
        """Lets the guest run there, unless it does."""
        end = time.monotonic() + PATIENCE
        while (state := machine.state()) not in ("running", "dead"):
            if state != "inmigrate":
                machine.qmp.run("cont")
            if time.monotonic() > end:
                raise Failure(f"guest {self.guest.name} does not run, but is `{state}`")
            time.sleep(0.005)

    def _where(self):
        """The place where the guest runs."""
        runs = [p for p, m in ((self.source, self.old), (self.target, self.new)) if m and m.state() == "running"]
        if len(runs) > 1:
            raise Failure(f"guest {self.guest.name} runs twice")
        return runs[0] if runs else None
