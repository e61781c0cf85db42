#!/usr/bin/python3
"""Packets per second and cycles per frame of the appliance, beside testpmd and OVS-DPDK, on the same ports, flows
and core: 64-byte frames, a thousand nodes on a hundred hosts.

    testbed/run bench --quick        in under a minute, when nobody else uses the machine
    testbed/run bench                the same with more rounds, for narrower intervals
    testbed/run bench --rounds N     with so many

docs/performance.md tells how it is measured. Results stay in target/bench/.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import bench_quick, scenario

o = argparse.ArgumentParser(prog="testbed/run bench")
o.add_argument("--quick", action="store_true")
o.add_argument("--rounds", type=int)
chosen = o.parse_args()
rounds = chosen.rounds or (6 if chosen.quick else 30)
scenario.main("bench", lambda lab: bench_quick.body(lab, rounds),
              must_be_zero=["wrong_frames", "lost", "floors_missed"])
