"""The output of programs that the documents show, made anew by the programs in the state that the documents describe.
"""

import json
import pathlib
import re
import struct
import textwrap
import time

from ..lab import Failure
from .stopover import program

VM, FAR_VM, VNI = "52:54:00:00:00:01", "52:54:00:00:00:02", 100
WIDTH = 110
# The programs print these as one line; the documents wrap it.
MESSAGES = ("bad-ron", "bad-csv")


def shape(text):
    """The lines of a text without what differs from run to run: numbers, MACs, keys, column widths, names of folders."""
    text = re.sub(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "KEY", text)
    text = re.sub(r"/\S*/", "", text)
    text = re.sub(r"0x[0-9a-f]+|\d+(?:\.\d+)?", "N", text)
    return [re.sub(r" +", " ", line).strip() for line in text.strip().split("\n")]


def same(name, shown, made):
    """Whether a sample has the shape of the output."""
    if name in MESSAGES:
        shown, made = " ".join(shown.split()), " ".join(made.split())
    return shape(shown) == shape(made)


class Samples:
    """`run(command)` runs a command as the reader would, and returns its output of both streams. `board` is the board's
    process, which logs JSON lines."""

    def __init__(self, lab, run, folder, appliance_file, far, board):
        self.lab, self.run, self.folder, self.file, self.far, self.board = lab, run, folder, appliance_file, far, board

    def make(self, block):
        """The text of a sample block, made anew."""
        name = block.hint.split()[1]
        maker = getattr(self, name.replace("-", "_"), None)
        if maker is None:
            raise Failure(f"{block.place}: no sample is called {name}; expected a method in "
                          "testbed/lib/product/doc_samples.py")
        typed = [line[2:] for line in block.lines if line.startswith("$ ")]
        output = maker(*typed)
        if name in MESSAGES:
            output = textwrap.fill(" ".join(output.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
        return "\n".join([*(f"$ {line}" for line in typed), output.rstrip("\n")])

    def port_stats(self, command):
        self.to_vm(20)
        return self.run(command)

    def trace(self, command):
        return self.run(command)

    def host_show(self, command):
        return self.run(command)

    def refused(self, command):
        rows = [f"{VNI},52:54:00:00:01:{n:02x},nobody,\n" for n in (1, 2)]
        (self.folder / "nodes.csv").write_text("vni,mac,host,ips\n" + "".join(rows))
        lines = self.run(command).splitlines(keepends=True)
        return "".join(lines[next(n for n, line in enumerate(lines) if line.startswith("stopover:")):])

    def migrations(self, command):
        node = f"{VNI}/{VM}"
        self.run(f"stopover migration begin --node {node} --from hv-a --to hv-b")
        try:
            end = time.monotonic() + 5
            while "leaving" not in self.run(command) and time.monotonic() < end:
                time.sleep(0.05)
            self.to_vm(20)
            return self.run(command)
        finally:
            self.run(f"stopover migration abort --node {node}")

    def reload(self, command):
        text = self.file.read_text()
        changed = text.replace('"10.0.0.1/24"]', '"10.0.0.1/24"], gateways: ["10.0.0.254"]').replace("role: vif", "rxq: 2, role: vif")
        self.file.write_text(changed)
        try:
            return self.run(command)
        finally:
            self.file.write_text(text)

    def json_log(self):
        self.board.wait_line("declared host hv-b")
        lines = self.board.log.read_text().splitlines()
        for line in lines:
            json.loads(line)
        return next(line for line in lines if "declared host hv-b" in line)

    def bad_ron(self):
        path = self.folder / "gw.ron"
        path.write_text(self.file.read_text().replace(VM, VM[:-3]))
        return self.run(f"stopover-appliance --check {path.name}").removeprefix("stopover-appliance: ")

    def bad_csv(self):
        row = "1,52:54:00:00:00:01,hv-a,\n"
        (self.folder / "nodes.csv").write_text("vni,mac,host,ips\n" + row + "1,52:54:00:00:00:02,hv-a,\n" + row)
        return self.run("stopover node load nodes.csv").removeprefix("stopover: ")

    def to_vm(self, count):
        """The far host sends frames to the VM."""
        inner = bytes.fromhex((VM + FAR_VM).replace(":", "")) + b"\x88\xb5" + bytes(986)
        packet = struct.pack("!II", 0x0800_0000, VNI << 8) + inner
        path = pathlib.Path(self.lab.dir / "vxlan.bin")
        path.write_bytes(packet)
        self.far.run("/usr/bin/python3", "-c", f"""if True:
            import socket, time
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for _ in range({count}):
                s.sendto(open("{path}", "rb").read(), ("10.0.0.1", 4789))
                time.sleep(0.001)""")


def programs_of(words):
    """The words of a command, with the path of our binary instead of its name."""
    return [str(program(words[0])), *words[1:]]
