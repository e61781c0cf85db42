"""What the parts of the bench share: a board with nodes, files of frames, and the DUTs that use them."""

from ..lab import sh
from ..lab.netns import Namespace
from ..product import ron, stopover
from ..traffic.frames import write_pcap
from . import workload
from .dut import Gateway, Ovs, Testpmd, pin_this_process

NODES, HOSTS, FRAMES = 1000, 100, 1024
NUMBERS = {"encap": 1, "decap": 2}


class Board(stopover.Board):
    """A board whose appliances may be stopped for minutes, and whose tables may take long to load. `tag` distinguishes
    several boards."""

    def __init__(self, lab, ns, tag=""):
        self.tag = tag
        super().__init__(lab, ns)

    def _configure(self, lab):
        name = f"bbs{self.tag}"
        self.socket, self.config = lab.dir / f"{name}.sock", lab.dir / f"{name}.ron"
        self.endpoint = f"unix:{self.socket}"
        self.config.write_text(ron.dumps({"listen": [self.endpoint], "store": f"{lab.dir}/{name}.redb",
                                          "host_timeout_ms": 600_000}) + "\n")

    def cli(self, *argv, timeout=60):
        return sh(stopover.program("stopover"), "--board", self.endpoint, *argv, timeout=timeout)


class Bench:
    """A namespace, a board with the nodes of a World, and the files of frames. `tag` distinguishes several of one run.
    """

    def __init__(self, lab, nodes=NODES, hosts=HOSTS, frames=FRAMES, sizes=(64,), tag="", kind=workload.Kind()):
        pin_this_process()
        self.lab, self.frames, self.sizes, self.tag = lab, frames, sizes, tag
        self.ns = Namespace(lab, f"bench{tag}")
        self.board = Board(lab, self.ns, tag)
        self.world = workload.World(nodes, hosts, kind)
        self.world.load(lab.dir, self.board)
        self.write_flows()

    def write_flows(self):
        self.flows = {d: self.lab.dir / f"{d}{self.tag}.pcap" for d in NUMBERS}
        write_pcap(self.flows["encap"], (f for _, f in workload.encap_frames(
            self.world, NUMBERS["encap"], self.frames, self.sizes)))
        write_pcap(self.flows["decap"], (f for _, f, _ in workload.decap_frames(
            self.world, NUMBERS["decap"], self.frames, self.sizes)))

    def testpmd(self, direction, mode="io"):
        return Testpmd(self.lab, self.ns, f"{mode}-{direction}", direction, self.flows[direction], self.frames, mode)

    def ovs(self, direction, tag="", **more):
        return Ovs(self.lab, f"ovs-{direction}{self.tag}{tag}", direction, NUMBERS[direction], self.world,
                   self.flows[direction], self.frames, **more)

    def gateway(self, direction, tag="", **more):
        return Gateway(self.lab, self.ns, f"stopover-{direction}{self.tag}{tag}", direction, NUMBERS[direction], self.world,
                       self.board, self.flows[direction], self.frames, **more)
