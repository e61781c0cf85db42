"""Streams, connections and pings between guests (or namespaces): each runs in the background inside a guest as one
`guest-tools` (testbed/guest), and is asked for what it has counted.

    observer = Receiver(Shell(lab, station.ns))
    receiver = Receiver(x, observer=station.ips[0])
    sender = Sender(c, "192.168.0.1", stream=1, rate=2000)
    observer.mark()             what came since the last mark, and the longest gap in it
    sent = sender.stop()["sent"]
    receiver.tally({1: sent})   lost, duplicated, reordered
"""

import json
import time

from ..lab import Failure

PORT = 7007
TCP_PORT = 7008


def _to(ip, port):
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class Tool:
    """One of the tool's jobs in `where`, a Guest or a Shell."""

    def __init__(self, where, what, name, **options):
        self.where, self.name = where, name
        self.ctl, log = f"{where.tmp}/{name}.ctl", f"{where.tmp}/{name}.log"
        words = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in options.items() if v is not None)
        where.run(f"rm -f {self.ctl}; {where.tool} {what} {words} --ctl {self.ctl} < /dev/null > {log} 2>&1 &")
        status, said = where.run(f"for i in $(seq 600); do [ -S {self.ctl} ] && exit 0; usleep 20000; "
                                 f"[ $i -gt 5 ] && [ -s {log} ] && break; done; cat {log}; exit 1",
                                 timeout=30, check=False)
        if status:
            raise Failure(f"`{what} {words}` in {where.name} did not begin: {said.strip()}")

    def ask(self, word, timeout=20):
        """What it answers to a word, decoded."""
        said = self.where.run(f"{self.where.tool} ask {self.ctl} {word}", timeout=timeout).strip()
        try:
            answer = json.loads(said)
        except ValueError:
            raise Failure(f"{self.name} in {self.where.name}, asked for {word}, said: {said}") from None
        if isinstance(answer, str):
            raise Failure(f"{self.name} in {self.where.name}: {answer}")
        return answer

    def stats(self):
        """What it has counted so far."""
        return self.ask("stats")

    def stop(self):
        """Ends it; returns what it has counted."""
        return self.ask("stop")


class Sender(Tool):
    """A UDP stream, `rate` datagrams per second, in bursts every `tick_us`; or `flows` of them, numbered upwards from
    `stream`, which have that rate together. Counts: sent, sent_of (each flow), skipped (what it could not send in time,
    and did not number), errors, us."""

    def __init__(self, where, ip, stream, rate, size=64, tick_us=2000, port=PORT, flows=1):
        super().__init__(where, "send", f"send-{stream}", to=_to(ip, port), stream=stream, rate=rate, size=size,
                         tick_us=tick_us, flows=flows)


class Receiver(Tool):
    """Receives all streams that come to a port. Counts per stream: received, end (one past the highest number),
    missing, duplicated, reordered; of the period since the last mark: in_period, gap_us (the longest time
    without an arrival) and late_us (the most by which such a time exceeded that between the sendings);
    longest_gap_us of all periods. And overflown: lost at its own socket.

    The clock of a guest stands still while it is moved. For gaps in real time let it echo to an `observer`, an
    address at which another Receiver listens where nothing is moved: each stream's newest datagram of every
    batch goes there. The observer's gaps and trace are real; what it misses means nothing."""

    def __init__(self, where, port=PORT, observer=None):
        super().__init__(where, "receive", f"receive-{port}", port=port, echo_to=observer and _to(observer, port))

    def mark(self):
        """Ends a period; returns the streams' counts."""
        return {int(k): v for k, v in self.ask("mark")["streams"].items()}

    def trace(self, stream):
        """Arrivals of this period: (microseconds, sequence number)."""
        return [tuple(point) for point in self.ask(f"trace {stream}")]

    def tally(self, sent, patience=5):
        """Ends it once everything sent has arrived, or nothing more comes. `sent` is a number for each stream.
        Returns received, lost, duplicated, reordered, overflown and, per stream, what it had counted."""
        end, last = time.monotonic() + patience, None
        while time.monotonic() < end:
            got = {int(k): v["received"] for k, v in self.stats()["streams"].items()}
            if all(got.get(s, 0) >= n for s, n in sent.items()):
                break
            if got != last:
                end, last = time.monotonic() + patience, got
            time.sleep(0.2)
        told = self.stop()
        streams = {int(k): v for k, v in told["streams"].items()}
        total = {k: sum(s[k] for s in streams.values()) for k in ("received", "duplicated", "reordered")}
        lost = {s: n - streams.get(s, {"received": 0})["received"] for s, n in sent.items()}
        return {**total, "lost": sum(lost.values()), "lost_of": lost, "overflown": told["overflown"],
                "foreign": told["foreign"], "streams": streams}


class Pinger(Tool):
    """Pings an address. Counts: sent, received, lost, duplicated, reordered, longest_ms, errors."""

    def __init__(self, where, ip, rate=100):
        super().__init__(where, "ping", f"ping-{ip.replace(':', '.')}", to=ip, rate=rate)


class TcpServer(Tool):
    """Sends back what comes, having verified it. Counts for all connections together in `served`."""

    def __init__(self, where, port=TCP_PORT):
        super().__init__(where, "tcp-serve", f"serve-{port}", port=port)


class TcpClient(Tool):
    """Holds an `idle` connection, a byte a second, and a `busy` one; each counts sent, received (sent back),
    damaged, resets, longest_silence_ms. Of the whole kernel: retransmits, loss_probes and timeouts."""

    def __init__(self, where, ip, kib_s=256, port=TCP_PORT):
        super().__init__(where, "tcp-hold", f"hold-{ip.replace(':', '.')}", to=_to(ip, port), kib_s=kib_s)


def tcp_tally(client, server):
    """Ends both; returns resets, retransmits, loss_probes, timeouts (of both kernels), bytes that came back intact,
    damaged and missing ones, and the longest time in which the busy connection got nothing back."""
    c, s = client.stop(), server.stop()
    ways = (c["idle"], c["busy"], s["served"])
    total = {k: c[k] + s[k] for k in ("retransmits", "loss_probes", "timeouts")}
    return {**total, "resets": sum(w["resets"] for w in ways), "damaged": sum(w["damaged"] for w in ways),
            "missing": sum(w["sent"] - w["received"] for w in ways[:2]), "bytes": c["busy"]["received"],
            "longest_silence_ms": c["busy"]["longest_silence_ms"]}
