#!/usr/bin/python3
"""A board comes back with an older store, with none, or another board does, while appliances are restarted.

Three appliances without NICs forward by the board and keep checkpoints. A host without a packet path claims nodes, some for
good and some by turns, and declares and deletes others all the time. The cases:

    restored  a backup is made of the running board, more is declared, and the backup is restored
    older     an older copy of the store replaces the store
    emptied   the store is missing and a new board is made; it must not be followed before `stopover board accept`
    returned  the first store is back after that: again another board, and an older store

Each is tried with a large and a small number of declared nodes, and in three ways: no appliance is restarted; one is stopped
and started while the board is away; one is killed and started. A restarted one has nothing but its checkpoint, which is ahead
of the board that answers next, or of another board.

`cases`: the number of these. All tables are looked at every 0.3 s, `looks` times, also those of an appliance that has just
been started. `swept_wrongly`: how often a node was missing though its host was up and claimed it all the time, and how often
tables had fewer declared nodes than the board had throughout. `diverged`: nodes, hosts and memberships in which an appliance
differs from the board at the end of a case; `compared` is how many were compared. `unsaid`: how often one did not report
that another board answers, that its history is another, or that it started with a checkpoint. `late`: cases after which an
appliance was not in step within 5 s.

Options: --sizes 300000,3 --ways none,stopped,killed
"""

import argparse
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, info, sh
from lib.product import lineage, stopover

WAYS = ["none", "stopped", "killed"]
KINDS = ["restored", "older", "emptied"]


class Run(lineage.Run):
    """The cases."""

    checkpoint_s = 1

    def restart(self, way, gateway):
        """Ends an appliance and starts it again while no board answers."""
        if way == "none":
            return
        others = [g for g in self.gateways if g is not gateway]
        self.look.expect(others, self.steady_of(others), self.look.bulk)
        if way == "killed":
            gateway.process.kill()
        elif why := gateway.process.stop():
            raise Failure(why)
        gateway.start()
        state = gateway.state()
        self.reports(f"that {gateway.name} started with its checkpoint: {state}",
                     state["stale"] and "stale" in gateway.cli("show", "board"))
        self.look.expect(self.gateways, self.steady_of(others, also=gateway), self.look.bulk)

    def steady_of(self, gateways, also=None):
        """Nodes that every table must have: the vifs of a restarted appliance are its own, which may come a moment later."""
        gone = {g.name for g in self.gateways if g not in gateways and g is not also}
        return {key: host for key, host in self.steady.items() if host not in gone}

    def has_checkpoints(self):
        """Waits until the checkpoint of each has what is known now: a kill must not lose what was before it."""
        def are_new():
            states = [a.state() for a in self.gateways]
            return all(s["checkpoint"] and s["checkpoint"]["revision"] >= revision for s in states)
        revision = self.board.json("show", "board")["revision"]
        self.until("all have new checkpoints", are_new)

    def case_restored(self, n, way):
        backup = self.lab.dir / "online.redb"
        backup.unlink(missing_ok=True)
        sh(stopover.program("stopover-bbs"), "backup", self.board.config, "--to", backup)
        self.go_back("restored", n, way, lambda: sh(
            stopover.program("stopover-bbs"), "restore", self.board.config, "--from", backup, "--replace"))
        for left in self.lab.dir.glob("*.replaced*"):
            left.unlink()

    def case_older(self, n, way):
        self.go_back("older", n, way, lambda: shutil.copyfile(self.backup, self.store))

    def go_back(self, kind, n, way, replace):
        """More is declared, the board goes away, and returns with what it had before."""
        self.changes_since_backup(n)
        self.in_step_now_or_churning()
        self.has_checkpoints()
        branches = [a.state()["other_branches"] for a in self.gateways]
        self.board.process.kill()
        restarted = self.gateways[n % 3]
        self.restart(way, restarted)
        replace()
        since = time.monotonic()
        self.board.start()
        info(f"{kind}, {way}: in step after {self.in_step(kind, since):.2f} s")
        after = [a.state()["other_branches"] for a in self.gateways]
        # The counter of a restarted one begins at 0.
        before = [0 if a is restarted and way != "none" else b for a, b in zip(self.gateways, branches)]
        self.reports(f"that the history is another: {before}, then {after}", all(x < y for x, y in zip(before, after)))
        self.reports("an event at the board", self.lineage_events() > 0)
        self.compare()

    def case_emptied(self, n, way):
        kept, known = self.lab.dir / "kept.redb", self.lineage_events()
        self.has_checkpoints()
        self.known_events = 0
        self.board.process.kill()
        self.store.rename(kept)
        self.board.init()
        self.restart(way, self.gateways[n % 3])
        self.board.start()
        self.accept("emptied")
        self.compare()
        self.has_checkpoints()
        self.board.process.kill()
        kept.replace(self.store)
        self.known_events = known
        self.restart(way, self.gateways[(n + 1) % 3])
        self.board.start()
        self.accept("returned")
        self.look.bulk_at_least(self.size)
        self.compare()

    def cases(self):
        for n, way in enumerate(self.options.ways):
            for kind in KINDS:
                info(f"-- {kind}, {self.size} nodes, restarted: {way}")
                time.sleep(0.5)  # of churn
                getattr(self, f"case_{kind}")(n, way)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="3000" if scenario.SHORT else "300000,3")
    parser.add_argument("--ways", default="none,killed" if scenario.SHORT else ",".join(WAYS))
    read = parser.parse_args()
    read.ways, read.sizes = read.ways.split(","), [int(n) for n in read.sizes.split(",")]
    return read


def body(lab):
    read = options()
    figures = lineage.run_cases(Run(lab, read), read.sizes, 8 if scenario.SHORT else 20)
    figures.pop("forwarded_early")  # all have checkpoints
    return figures


scenario.main("board-restore", body, must_be_zero=["swept_wrongly", "diverged", "unsaid", "too_few_cases"],
              must_be_positive=["cases", "looks", "compared"], must_be_zero_alone=["late"])
