#!/usr/bin/python3
"""The board stops and returns in all ways, and three appliances must be in step with it again.

Three appliances without NICs and without checkpoints forward by the board. A host without a packet path claims nodes, some for good and some by
turns, and declares and deletes others all the time. Each kind of case is tried with a large and a small number of
declared nodes, several times:

    kill      the board is killed and started again
    restart   it ends in order and is started again
    older     an older copy of the store replaces the store: it lacks a host with its nodes, later declarations, and
              later places of nodes
    emptied   the store is missing. The board must refuse to start; a new board is made; the appliances must keep what
              they have until the operator runs `stopover board accept`
    returned  the first store is back after that: again another board, and an older store
    cut       the appliances' connections are cut for longer than the board's history reaches
    away      an appliance starts while the board is away
    refused   an appliance starts and the board refuses its registration

`cases`: the number of these. `in_step_s_max`: the longest time from the start of the board's process (or the operator's
acceptance, or the repair of the connection) until each appliance has acknowledged the revision that the board had when
it first answered. `late`: cases that took more than 5 s.

All tables are looked at every 0.3 s, `looks` times, from the first case to the last. `swept_wrongly`: how often a node
was missing at an appliance though its host was up and claimed it all the time, and how often tables had fewer declared
nodes than the board had throughout. A declared node that the board in force does not know (an older store, a new board)
may go: no host claims it.

`diverged`: nodes, hosts and memberships in which an appliance differs from the board at the end of a case, when nothing
changes and nothing stale is kept; `compared` is how many were compared. `forwarded_early`: how often an appliance
without a snapshot ran its ports. `unsaid`: how often one did not report in `show board`, its metrics or the board's
events that another board answers, that it has no snapshot, or that its history is another.

Options: --sizes 300000,3 --rounds 3 --kinds kill,older,...
"""

import argparse
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, info
from lib.lab.process import Process
from lib.product import lineage, stopover

WAIT_S = 3 if scenario.SHORT else 12  # an earlier version gave up, or forwarded without a snapshot, after 10 s
KINDS = ["kill", "restart", "older", "cut", "emptied"]


class Run(lineage.Run):
    """The cases."""

    def case_kill(self, n):
        self.board.process.kill()
        self.back("kill")

    def case_restart(self, n):
        why = self.board.process.stop()
        if why:
            raise Failure(why)
        self.back("restart")

    def case_older(self, n):
        self.changes_since_backup(n)
        self.in_step_now_or_churning()
        branches = [a.state()["other_branches"] for a in self.gateways]
        self.board.process.kill()
        shutil.copyfile(self.backup, self.store)
        since = time.monotonic()
        self.board.start()
        info(f"older: in step after {self.in_step('older', since):.2f} s")
        after = [a.state()["other_branches"] for a in self.gateways]
        self.reports(f"that the history is another: {branches}, then {after}",
                     all(x < y for x, y in zip(branches, after)))
        self.reports("an event at the board", '"lineage"' in self.board.cli("events", "--json"))
        self.compare()

    def case_cut(self, n):
        for a in self.gateways:
            a.cut()
        view = self.board.json("show", "board")
        self.until("the history has been left behind",
                   lambda: self.board.json("show", "board")["oldest_resumable"] > view["revision"] + 10)
        since = time.monotonic()
        for a in self.gateways:
            a.connect()
        info(f"cut: in step after {self.in_step('cut', since):.2f} s")
        self.compare(everything=n == 0)

    def case_emptied(self, n):
        kept, known = self.lab.dir / "kept.redb", self.lineage_events()
        self.known_events = 0
        self.board.process.kill()
        self.store.rename(kept)
        if n % 2:
            self.store.touch()
        refused = Process(self.lab, "bbs-refused", [stopover.program("stopover-bbs"), self.board.config], ns=self.ns)
        status = refused.wait_end(20)
        self.reports("that the store is missing", status == 1 and "stopover-bbs init" in refused.tail(3))
        self.store.unlink(missing_ok=True)
        self.board.init()
        self.board.start()
        self.accept("emptied")
        self.compare()
        self.board.process.kill()
        kept.replace(self.store)
        self.known_events = known
        self.board.start()
        self.accept("returned")
        self.look.bulk_at_least(self.size)
        self.compare()

    def case_away(self, n):
        a = self.gateways[0]
        self.look.expect(self.gateways[1:], {k: h for k, h in self.steady.items() if h != a.name}, self.size)
        a.process.kill()
        self.board.process.kill()
        a.start(forwards=False)
        self.waits(a, WAIT_S)
        since = time.monotonic()
        self.board.start()
        info(f"away: in step after {self.in_step('away', since):.2f} s")
        a.wait_forwarding()
        self.compare()
        self.look.expect(self.gateways, self.steady, self.size)

    def case_refused(self, n):
        a = self.gateways[1]
        self.look.expect([g for g in self.gateways if g is not a],
                         {k: h for k, h in self.steady.items() if h != a.name}, self.size)
        a.process.stop()
        self.board.cli("host", "delete", a.name, "--cascade")
        self.board.cli("host", "add", "squatter", "--vtep", f"10.0.0.{a.number}")
        a.start(forwards=False)
        self.waits(a, WAIT_S)
        self.reports("why it waits", "squatter" in (a.state()["last_error"] or ""))
        self.board.cli("host", "delete", "squatter")
        since = time.monotonic()
        info(f"refused: in step after {self.in_step('refused', since):.2f} s")
        a.wait_forwarding()
        self.compare()
        self.look.expect(self.gateways, self.steady, self.size)

    def waits(self, a, seconds):
        """Checks that it runs, answers, and forwards nothing."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            a.process.check()
            state = a.state()
            early = state["forwarding"] or a.json("show", "lcores") or a.json("show", "port", "info", "all")
            self.figures["forwarded_early"] += bool(early)
            time.sleep(0.2)
        self.reports("that it waits", "nothing is forwarded" in a.process.log.read_text(errors="replace")
                  and "nothing is forwarded" in a.cli("show", "board"))

    def cases(self):
        for n in range(self.options.rounds):
            for kind in self.options.kinds:
                info(f"-- {kind}, {self.size} nodes, round {n + 1}")
                time.sleep(0.5)  # of churn
                getattr(self, f"case_{kind}")(n)
        if self.options.waits:
            for kind in ("away", "refused"):
                info(f"-- {kind}, {self.size} nodes")
                getattr(self, f"case_{kind}")(0)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="3000,3" if scenario.SHORT else "300000,3")
    parser.add_argument("--rounds", type=int, default=1 if scenario.SHORT else 3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--no-waits", dest="waits", action="store_false")
    read = parser.parse_args()
    read.kinds, read.sizes = read.kinds.split(","), [int(n) for n in read.sizes.split(",")]
    return read


def body(lab):
    read = options()
    return lineage.run_cases(Run(lab, read), read.sizes, 12 if scenario.SHORT else 40)


scenario.main("board-lineage", body,
              must_be_zero=["swept_wrongly", "diverged", "forwarded_early", "unsaid", "too_few_cases"],
              must_be_positive=["cases", "looks", "compared"],
              must_be_zero_alone=["late"])
