"""Three appliances without NICs that forward by a board, a host that claims nodes, and an operator who declares others;
and what the appliances' tables must hold whatever happens to the board. For scenarios that stop, change or replace it."""

import json
import pathlib
import shutil
import threading
import time

from .. import scenario
from ..lab import Failure, info
from ..lab.netns import Namespace
from ..lab.process import Process
from . import ron, stopover
from .board_churn import BoardChurn

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
BULK, LIVE = 100, 200  # networks: of declared nodes, and of claimed ones
DECLARED_HOSTS = 8
STEADY, TURNS = 40, 20
HISTORY = 200 if scenario.SHORT else 1000  # changes; a load, or a second of churn during a cut, has more
STALE_S = 5 if scenario.SHORT else 7  # longer than hosts wait between attempts to reach a board
EVERY_S = 0.3
WITHIN_S = 5
PATIENCE_S = 60


class Gateway(stopover.Appliance):
    """An appliance on devices that receive nothing: one for the underlay, one vif in each network."""

    def __init__(self, run, number):
        super().__init__(run.lab, f"gw-{number}", run.ns)
        self.number, self.board = number, run.board
        self.relay_socket, self.relay = run.lab.dir / f"r{number}.sock", None
        self.steady = {(LIVE, f"02:aa:00:00:00:{number:02x}"), (BULK, f"02:ab:00:00:00:{number:02x}")}
        self.config.update({
            "eal": ["--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64", "--lcores", "0@(0-1),1@(0-1)"],
            "mbufs": 4096, "mbcache": 32, "board": [f"unix:{self.relay_socket}"],
            "metrics": f"127.0.0.1:{9480 + number}", "stale_ms": STALE_S * 1000, "checkpoint_s": run.checkpoint_s,
            "idle": ron.tagged("adaptive", cap_us=2000, poll_us=10),
        })
        self.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=[f"10.0.0.{number}/24"]))
        for n, (vni, mac) in enumerate(sorted(self.steady), 1):
            self.port(f"vm{n}", f"net_null{n},no-rx=1", ron.tagged("vif", vni=vni, mac=mac,
                                                                   addresses=[f"192.168.{vni}.{number}"]))

    def connect(self):
        """Connects it to the board, by a relay."""
        self.relay = Process(self.lab, f"relay-{self.number}", ["/usr/bin/python3", TOOLS / "relay.py",
                                                               self.relay_socket, self.board.socket], ns=self.ns)
        self.relay.wait_socket(self.relay_socket)

    def cut(self):
        """Cuts the connection."""
        self.relay.kill()

    def start(self, **more):
        """Starts it, and connects it if it is not."""
        if self.relay is None or not self.relay.alive():
            self.connect()
        return super().start(**more)

    def state(self):
        return self.json("show", "board")

    def nodes(self, vni):
        """The nodes of a network in its tables: host and addresses by MAC."""
        rows = self.json("show", "nodes", "--vni", vni)
        return {r["mac"]: (r["host"], tuple(sorted(r["ips"]))) for r in rows}


class Look:
    """Looks at all tables again and again for what must be there whatever happens to the board."""

    def __init__(self):
        self.looks, self.swept, self.ended, self.why = 0, 0, False, None
        self.watched, self.steady, self.bulk = [], {}, 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def expect(self, watched, steady, bulk):
        """Sets the appliances to look at, the nodes that each must have, by host, and the number of declared ones."""
        with self.lock:
            self.watched, self.steady, self.bulk = list(watched), dict(steady), bulk

    def bulk_at_least(self, nodes):
        with self.lock:
            self.bulk = nodes

    def loop(self):
        while not self.ended:
            began = time.monotonic()
            try:
                with self.lock:
                    for a in self.watched:
                        self.look(a)
            except Exception as e:  # `end` raises it
                self.why = e
                return
            time.sleep(max(0, EVERY_S - (time.monotonic() - began)))

    def look(self, a):
        live, counts = a.nodes(LIVE), {r["vni"]: r["nodes"] for r in a.json("show", "networks")}
        self.looks += 1
        lost = [key for key, host in self.steady.items() if key[0] == LIVE and live.get(key[1], ("",))[0] != host]
        few = max(0, self.bulk - counts[BULK])
        if lost or few:
            info(f"{a.name} lacks {len(lost)} live nodes such as {lost[:2]}, and {few} of {self.bulk} declared ones")
            self.swept += len(lost) + few

    def end(self):
        self.ended = True
        self.thread.join(30)
        if self.why:
            raise Failure(f"looking at the tables failed: {self.why}")


class Run:
    """The board, the appliances, and what has been counted."""

    checkpoint_s = 0  # without a checkpoint an appliance knows nothing when it starts

    def __init__(self, lab, options):
        self.lab, self.options, self.ns = lab, options, Namespace(lab, "lineage")
        self.known_events = 0  # events of this kind in the store that the board is started with
        self.figures = {k: 0 for k in ("cases", "late", "diverged", "compared", "forwarded_early", "unsaid")}
        self.in_step_s, self.by_kind = 0.0, {}
        self.board = stopover.Board.configure(lab)
        self.board.lab, self.board.ns = lab, self.ns
        self.store = lab.dir / "bbs.redb"
        config = {"listen": [self.board.endpoint], "store": str(self.store), "history": HISTORY}
        self.board.config.write_text(ron.dumps(config) + "\n")
        self.gateways = [Gateway(self, n) for n in (1, 2, 3)]
        self.look = Look()
        self.turn = 0

    # ---- Setting up ------------------------------------------------------------------------------------------

    def build(self, size):
        """Makes a board with `size` declared nodes, and a copy of its store; then starts the hosts."""
        self.size = size
        self.board.init()
        self.board.start()
        self.load(size)
        self.board.process.stop()
        self.backup = self.lab.dir / "backup.redb"
        shutil.copyfile(self.store, self.backup)
        self.board.start()
        for a in self.gateways:
            a.start()
        # Not through a relay: only the appliances are cut off.
        self.churn = BoardChurn(self.lab, self.ns, self.board, LIVE, STEADY, TURNS, BULK, "lx-0")
        steady = {key: self.churn.host for key in self.churn.steady}
        steady |= {key: a.name for a in self.gateways for key in a.steady}
        live = {mac: host for (vni, mac), host in steady.items() if vni == LIVE}
        self.until("all appliances have all nodes", lambda: all(
            live.items() <= {mac: host for mac, (host, _) in a.nodes(LIVE).items()}.items() for a in self.gateways))
        self.steady = steady
        self.changes_since_backup(0)
        self.look.expect(self.gateways, steady, self.size)

    def load(self, size):
        hosts, nodes = self.lab.dir / "hosts.csv", self.lab.dir / "nodes.csv"
        hosts.write_text("name,vteps\n" + "".join(f"lx-{n},10.0.8.{n + 1}\n" for n in range(DECLARED_HOSTS)))
        with open(nodes, "w") as f:
            f.write("vni,mac,host\n")
            for n in range(size):
                f.write(f"{BULK},06:00:{n >> 24:02x}:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x},"
                        f"lx-{n % DECLARED_HOSTS}\n")
        self.board.cli("host", "load", hosts)
        self.board.cli("node", "load", nodes)

    def changes_since_backup(self, turn):
        """Makes changes that the copy of the store lacks: a host, a node of it, two nodes deleted and declared
        elsewhere."""
        self.board.cli("host", "add", f"late-{turn}", "--vtep", f"10.0.7.{turn + 1}")
        self.board.cli("node", "add", BULK, f"02:dd:00:00:00:{turn:02x}", f"late-{turn}")
        self.board.cli("member", "add", BULK, f"late-{turn}")
        # A declared node is deleted before it is declared elsewhere; the vifs of this network keep the number up.
        for n, host in ((0, f"lx-{1 + turn % 7}"), (1, "lx-2")):
            self.board.cli("node", "delete", BULK, f"06:00:00:00:00:{n:02x}")
            self.board.cli("node", "add", BULK, f"06:00:00:00:00:{n:02x}", host)

    # ---- Waiting and judging -----------------------------------------------------------------------------------

    def until(self, what, true, timeout=PATIENCE_S):
        end = time.monotonic() + timeout
        while not true():
            for a in self.gateways:
                if a.process:
                    a.process.check()
            if time.monotonic() > end:
                states = {a.name: a.state() for a in self.gateways if a.process and a.process.alive()}
                raise Failure(f"{what}: not within {timeout} s; {json.dumps(states)}; {self.watching()}")
            time.sleep(0.05)

    def watching(self):
        try:
            return self.board.json("show", "board")
        except Failure as e:
            return str(e)

    def in_step(self, kind, since, gateways=None):
        """Waits until all have acknowledged the revision that the board had when it first answered. Counts a case."""
        names = {a.name for a in gateways or self.gateways}
        first = None
        while first is None:
            try:
                # A new board has revision 0, which needs no acknowledgement: wait for the first registration at least.
                first = max(1, self.board.json("show", "board")["revision"])
            except Failure:
                time.sleep(0.02)

        def acked():
            rows = self.board.json("show", "board")["watching"]
            return names <= {r["name"] for r in rows if r["acked_revision"] >= first and r["sent_revision"] >= first}

        self.until(f"{kind}: in step at revision {first}", acked)
        took = time.monotonic() - since
        self.in_step_s = max(self.in_step_s, took)
        self.by_kind[kind] = max(self.by_kind.get(kind, 0), round(took, 2))
        self.figures["cases"] += 1
        self.figures["late"] += took > WITHIN_S
        return took

    def reports(self, what, true):
        if not true:
            info(f"not reported: {what}")
            self.figures["unsaid"] += 1

    def compare(self, everything=True):
        """Compares all tables with the board while nothing changes."""
        self.churn.pause()
        self.until("nothing stale is kept", lambda: all(a.state()["stale_ms"] is None for a in self.gateways))
        self.in_step_now()
        truth = {r["name"]: r for r in self.board.json("show", "hosts")}
        nodes = {vni: {r["mac"]: (r["host"], tuple(sorted(r["ips"])))
                       for r in self.board.json("show", "nodes", "--vni", vni)} for vni in (BULK, LIVE)}
        members = {vni: {r["host"] for r in self.board.json("member", "list", "--vni", vni)} for vni in (BULK, LIVE)}
        self.turn += 1
        for n, a in enumerate(self.gateways):
            wrong = []
            rows = {r["name"]: r for r in a.json("show", "hosts")}
            wrong += [f"host {h}" for h in rows.keys() ^ truth.keys()]
            wrong += [f"host {h}" for h in rows.keys() & truth.keys() if rows[h]["vteps"] != truth[h]["vteps"]]
            compared = len(truth)
            for vni in (LIVE, BULK):
                if vni == BULK and not everything and n != self.turn % len(self.gateways):
                    continue
                table = a.nodes(vni)
                compared += len(nodes[vni])
                wrong += [f"node {m}: {table.get(m)}, not {nodes[vni].get(m)}" for m in table.keys() | nodes[vni].keys()
                          if table.get(m) != nodes[vni].get(m)]
            for r in a.json("show", "networks"):
                wrong += [f"member {h} of {r['vni']}" for h in {m["host"] for m in r["members"]} ^ members[r["vni"]]]
                compared += len(members[r["vni"]])
            if wrong:
                info(f"{a.name} differs from the board in {len(wrong)}: {wrong[:4]}")
            self.figures["diverged"] += len(wrong)
            self.figures["compared"] += compared
        self.churn.go()

    def in_step_now(self):
        def still():
            view = self.board.json("show", "board")
            acked = {r["name"]: r["acked_revision"] for r in view["watching"]}
            return all(acked.get(a.name) == view["revision"] for a in self.gateways)
        self.until("all have acknowledged the last revision", still)

    # ---- What several kinds of cases do ---------------------------------------------------------------------

    def back(self, kind):
        since = time.monotonic()
        self.board.start()
        info(f"{kind}: in step after {self.in_step(kind, since):.2f} s")
        self.compare(everything=False)

    def in_step_now_or_churning(self):
        """Waits until all have the last declaration, though other changes go on."""
        revision = self.board.json("show", "board")["revision"]
        self.until("all have what was declared",
                   lambda: all(a.state()["acknowledged"] >= revision for a in self.gateways))

    def accept(self, kind):
        """Another board answers. Nothing changes until the operator accepts it."""
        self.until("all see that it is another board", lambda: all(a.state()["other_board"] for a in self.gateways))
        self.reports("by its metric", all("stopover_board_other 1" in self.metrics(a) for a in self.gateways))
        self.reports("an event at the board", self.lineage_events() > self.known_events)
        if any(r["name"].startswith("gw-") for r in self.board.json("show", "hosts") if r["up"]) and kind == "emptied":
            raise Failure("a host registered at a board that it does not follow")
        time.sleep(1)  # for some looks
        # From here on, declared nodes that the board in force does not know may go.
        self.look.bulk_at_least(0)
        self.until("board-churn sees that it is another board", self.churn.accept)
        since = time.monotonic()
        for a in self.gateways:
            a.cli("board", "accept")
        info(f"{kind}: in step after {self.in_step(kind, since):.2f} s")

    def lineage_events(self):
        return self.board.cli("events", "--json").count('"lineage"')

    def metrics(self, a):
        return self.ns.run("curl", "-s", f"http://{a.config['metrics']}/metrics")

    def end(self):
        """Ends all processes."""
        complaints = []
        self.look.expect([], {}, 0)
        self.churn.process.stop()
        for a in self.gateways:
            complaints += [why for why in (a.process.stop(),) if why]
            a.relay.stop()
        complaints += [why for why in (self.board.process.stop(),) if why]
        if complaints:
            raise Failure("; ".join(complaints))
        # The next board is another one: appliances begin without a checkpoint, too.
        checkpoints = [self.lab.dir / f"{a.name}.checkpoint" for a in self.gateways]
        for left in (self.store, self.backup, *checkpoints):
            left.unlink(missing_ok=left in checkpoints)


def run_cases(run, sizes, least):
    """Runs the cases of a `Run` for each number of declared nodes. Returns the figures; there must be `least` cases."""
    run.look.thread.start()
    for size in sizes:
        info(f"building a board with {size} declared nodes, three appliances and a host that claims {STEADY + TURNS}")
        run.build(size)
        run.cases()
        run.end()
    run.look.end()
    info(f"longest times until in step: {run.by_kind}")
    return {**run.figures, "in_step_s_max": round(run.in_step_s, 2), "swept_wrongly": run.look.swept,
            "looks": run.look.looks, "too_few_cases": max(0, least - run.figures["cases"])}
