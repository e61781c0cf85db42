#!/usr/bin/python3
"""Packets per second and cycles per frame of the appliance, beside testpmd and OVS-DPDK, on the same ports, flows
and core: 64-byte frames, a thousand nodes on a hundred hosts.

    testbed/run bench --quick        in under a minute, when nobody else uses the machine
    testbed/run bench                the same with more rounds, for narrower intervals
    testbed/run bench --rounds N     with so many
    testbed/run bench --scale        the appliance alone with a thousand, a million and ten million nodes, instead:
                                     cycles, memory and synchronisation; some four minutes and 12 GiB
    testbed/run bench --scale --most 1000000   without the ten million

docs/performance.md tells how it is measured. Results stay in target/bench/.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import bench_quick, bench_scale, scenario

o = argparse.ArgumentParser(prog="testbed/run bench")
o.add_argument("--quick", action="store_true")
o.add_argument("--rounds", type=int)
o.add_argument("--scale", action="store_true")
o.add_argument("--most", type=int, default=max(bench_scale.SIZES))
chosen = o.parse_args()
if chosen.scale:
    scenario.main("bench", lambda lab: bench_scale.body(lab, chosen.rounds or 10, chosen.most),
                  must_be_zero=["lost", "floors_missed"])
rounds = chosen.rounds or (6 if chosen.quick else 30)
scenario.main("bench", lambda lab: bench_quick.body(lab, rounds),
              must_be_zero=["wrong_frames", "lost", "floors_missed"])
