"""What scenarios with live migrations share: the numbering of guests, and the board's report of a migration.

Guest N is in network VNI and has the MAC 52:54:00:00:00:N (in hexadecimal) and the addresses 192.168.0.N and fd01::N.
"""

import time

from ..lab import Failure
from ..lab.fabric import ips
from ..product import ron

VNI = 100


def mac(number):
    return f"52:54:00:00:00:{number:02x}"


def port(host, number, name, **more):
    """A guarded vhost-user port for guest `number`; returns its socket."""
    socket = host.lab.dir / f"{name}.sock"
    role = ron.tagged("vif", vni=VNI, mac=mac(number), addresses=ips(number), guard=True)
    host.vhost(name, socket, role, **more)
    return socket


def percentile(values, p):
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)]


def reported(board, number, target):
    """The report of migration `number`, when its target has sent it: the longest time in milliseconds in which the
    guest's NIC took no frame, at the source or the target; and how many frames were released without their end marker.
    """
    end = time.monotonic() + 3
    while time.monotonic() < end:
        last = board.json("migration", "show", str(number))
        gaps = {r["host"]: r["longest_gap_us"] for r in last["reports"]}
        if last["state"] == "completed" and gaps.get(target.name, 0) > 0:
            return max(gaps.values()) / 1e3, sum(r["reordered"] for r in last["reports"])
        time.sleep(0.05)
    raise Failure(f"the target has not reported migration {number}: {last}")


def locks_left(board, patience=5):
    """How many migrations are still active at the board after the last has ended."""
    end = time.monotonic() + patience
    while (left := len(board.json("migration", "list", "--active"))) and time.monotonic() < end:
        time.sleep(0.2)
    return left
