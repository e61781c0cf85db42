"""What scenarios in which guests are live-migrated have in common: how their guests are numbered, and what the board
says of a migration.

Guest N has the MAC 52:54:00:00:00:N (in hexadecimal) and the addresses 192.168.0.N and fd01::N, in network VNI.
"""

import time

from ..lab import Failure
from ..product import ron

VNI = 100


def mac(number):
    return f"52:54:00:00:00:{number:02x}"


def ips(number):
    return [f"192.168.0.{number}", f"fd01::{number}"]


def cidrs(number):
    """The same with prefix length."""
    v4, v6 = ips(number)
    return [f"{v4}/24", f"{v6}/64"]


def port(host, number, name, **more):
    """A guarded vhost-user port for guest `number`; returns its socket."""
    socket = host.lab.dir / f"{name}.sock"
    role = ron.tagged("vif", vni=VNI, mac=mac(number), addresses=ips(number), guard=True)
    host.vhost(name, socket, role, **more)
    return socket


def percentile(values, p):
    """The smallest value that at least p percent of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)]


def reported(board, number, target):
    """Of migration `number`, once its target has reported it: the longest time in milliseconds for which the guest's
    NIC took no frame, at the source and then at the target; and how many frames were let go without their end marker."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        last = board.json("migration", "show", str(number))
        gaps = {r["host"]: r["longest_gap_us"] for r in last["reports"]}
        if last["state"] == "completed" and gaps.get(target.name, 0) > 0:
            return max(gaps.values()) / 1e3, sum(r["reordered"] for r in last["reports"])
        time.sleep(0.05)
    raise Failure(f"migration {number} was not reported by its target: {last}")


def locks_left(board, patience=5):
    """Migrations that are still under way at the board, though nobody migrates."""
    end = time.monotonic() + patience
    while (left := len(board.json("migration", "list", "--active"))) and time.monotonic() < end:
        time.sleep(0.2)
    return left
