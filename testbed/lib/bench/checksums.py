"""Frames whose UDP checksum the guest left to its NIC, beside the same frames without that: busy cycles of the appliance
per frame, between two vhost-user rings, at the same rate. A part of `kinds`."""

import statistics

from ..lab import info
from ..traffic.frames import write_pcap
from . import sampling, workload
from .rings import NUMBER, RingBench, RingGateway

SIZES = (64, 1500)
PPS = {64: 3e6, 1500: 1e6}
SECONDS = 0.3
TRIALS = 3  # a round
MOST_CYCLES_PER_BYTE = 0.1


class ChecksumBench(RingBench):
    """With files of frames of these sizes towards the underlay."""

    def write_flows(self):
        self.flows = self.flows_of(NUMBER)
        for size in SIZES:
            self.flows[f"encap-{size}"] = self.lab.dir / f"checksum-{size}.pcap"
            write_pcap(self.flows[f"encap-{size}"],
                       (f for _, f in workload.encap_frames(self.world, NUMBER, self.frames, (size,))))


def measure(lab, rounds):
    """{figure: value} and lines of a table."""
    bench = ChecksumBench(lab)
    rig = bench.connect(RingGateway(lab, bench.ns, bench.world, bench.board), checksums=True)
    figures, lines = {"unfinished_lost": 0}, ["| Bytes | finished | unfinished | cycles per byte more |",
                                              "|---|---:|---:|---:|"]
    for size in SIZES:
        cycles = {False: [], True: []}
        for n in range(TRIALS * rounds):
            for unfinished in (False, True) if n % 2 == 0 else (True, False):
                one = rig.counted_trial("encap", f"encap-{size}", PPS[size], SECONDS, unfinished=unfinished)
                cycles[unfinished].append(one["cycles"])
                figures["unfinished_lost"] += one["lost"]
        figures[f"unfinished_{size}_per_byte"] = round(
            (statistics.median(cycles[True]) - statistics.median(cycles[False])) / size, 3)
        cells = ["{:.0f} ({:.0f} to {:.0f})".format(statistics.median(c), *sampling.interval(c)[:2])
                 for c in cycles.values()]
        lines.append(f"| {size} | {' | '.join(cells)} | {figures[f'unfinished_{size}_per_byte']:.3f} |")
        info(lines[-1])
    rig.quit()
    return figures, lines
