#!/usr/bin/python3
"""UDP streams with sequence numbers from one station to many others: sends them, and counts lost, duplicated, late and
foreign datagrams that arrive. Runs in the namespace of a tenant.

    streams.py '{"id": 1, "network": 100, "dev": "eth0", "rate": 500, "count": 200, "groups": ["239.1.1.1"],
                 "to": [[2, "192.168.0.2"], [0, "255.255.255.255"], ...]}'

Each destination gets `count` datagrams of varying size; id 0 is all stations. `rate` is the total of the station per
second. It prints `ready`; on the line `go` it sends all and prints `sent`; on `stop` it prints its counters as JSON and
ends. It receives all the time.

A datagram: magic, network, sender id, receiver id, stream number, sequence number, padding. The magic is long enough to
be looked for in a capture.

Of each stream that arrives it counts different numbers (`unique`), datagrams (`copies`), those that came after a later one
(`late`); `highest` is the highest number, `jump` when the last one came (time.time()) before which numbers are missing.
"""

import json
import select
import socket
import struct
import sys
import time

PORT = 7007
HEAD = struct.Struct("!16sIHHHI")
MAGIC = b"stopover-streams"
SIZES = [HEAD.size, 64, 200, 512, 1000, 1400, 1452]  # 1452: the largest UDP payload over IPv6 at MTU 1500
SO_RCVBUFFORCE = 33


def open_socket(family, dev, groups):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
    index = socket.if_nametoindex(dev)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))
    s.bind(("", PORT))
    for g in groups:
        if (":" in g) != (family == socket.AF_INET6):
            continue
        packed = socket.inet_pton(family, g)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("=i", index))
        else:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + struct.pack("=4si", b"", index))
    s.setblocking(False)
    return s


class Station:
    def __init__(self, job):
        self.job = job
        self.me = job["id"]
        groups = job.get("groups", [])
        self.v4 = open_socket(socket.AF_INET, job["dev"], groups)
        self.v6 = open_socket(socket.AF_INET6, job["dev"], groups)
        scope = socket.if_nametoindex(job["dev"])
        self.to = []
        for stream, (peer, ip) in enumerate(job["to"]):
            where = (ip, PORT, 0, scope) if ":" in ip else (ip, PORT)
            self.to.append((self.v6 if ":" in ip else self.v4, where, peer, stream))
        self.sent = [0] * len(self.to)
        self.send_errors = 0
        self.seen = {}  # (sender, stream) -> [counts per sequence number, highest, late, jump]
        self.leaked = self.astray = self.damaged = 0

    def send(self, n):
        """Sends the n-th datagram of all; the destinations take turns."""
        sock, where, peer, stream = self.to[n % len(self.to)]
        seq = n // len(self.to)
        body = HEAD.pack(MAGIC, self.job["network"], self.me, peer, stream, seq)
        body = body.ljust(SIZES[seq % len(SIZES)], bytes([seq & 0xFF]))
        try:
            sock.sendto(body, where)
            self.sent[stream] += 1
        except OSError as e:
            self.send_errors += 1
            print(f"sending to {where[0]}: {e}", file=sys.stderr)

    def receive(self, sock):
        for _ in range(64):
            try:
                data = sock.recv(2048)
            except BlockingIOError:
                return
            if len(data) < HEAD.size or not data.startswith(MAGIC):
                self.damaged += 1
                continue
            _, network, src, dst, stream, seq = HEAD.unpack_from(data)
            if network != self.job["network"]:
                self.leaked += 1
            elif dst not in (self.me, 0):
                self.astray += 1
            elif src == self.me:
                continue  # its own broadcast, looped back by the kernel
            elif len(data) != SIZES[seq % len(SIZES)] or data[HEAD.size:].strip(bytes([seq & 0xFF])):
                self.damaged += 1
            else:
                entry = self.seen.setdefault((src, stream), [{}, -1, 0, None])
                entry[0][seq] = entry[0].get(seq, 0) + 1
                if seq < entry[1]:
                    entry[2] += 1
                elif seq > entry[1] + 1:
                    entry[3] = time.time()
                entry[1] = max(entry[1], seq)

    def run(self):
        total = len(self.to) * self.job["count"]
        began, done, reported = None, 0, False
        print("ready", flush=True)
        while True:
            if began is not None and done < total:
                due = min(total, int((time.monotonic() - began) * self.job["rate"]) + 1)
                while done < due:
                    self.send(done)
                    done += 1
            if done == total and began is not None and not reported:
                print("sent", flush=True)
                reported = True
            ready, _, _ = select.select([self.v4, self.v6, sys.stdin], [], [], 0.5 if reported or not began else 0.004)
            for r in ready:
                if r is not sys.stdin:
                    self.receive(r)
                    continue
                line = sys.stdin.readline()
                if line.strip() == "go":
                    began = time.monotonic()
                else:
                    return self.report()

    def report(self):
        print(json.dumps({
            "id": self.me,
            "sent": self.sent,
            "send_errors": self.send_errors,
            "leaked": self.leaked,
            "astray": self.astray,
            "damaged": self.damaged,
            "from": [
                {"id": src, "stream": stream, "unique": len(counts), "copies": sum(counts.values()), "late": late,
                 "highest": highest, "jump": jump}
                for (src, stream), (counts, highest, late, jump) in self.seen.items()
            ],
        }), flush=True)


Station(json.loads(sys.argv[1])).run()
