"""Streams, connections and pings between guests (or namespaces). Each runs in the background in a guest, as a process
of `guest-tools` (testbed/guest), which is asked for its counters.

    observer = Receiver(Shell(lab, station.ns))
    receiver = Receiver(x, observer=station.ips[0])
    sender = Sender(c, "192.168.0.1", stream=1, rate=2000)
    observer.mark()             what arrived since the last mark, and the longest gap
    sent = sender.stop()["sent"]
    receiver.tally({1: sent})   what was lost, duplicated, reordered
"""

import json
import time

from ..lab import Failure

PORT = 7007
TCP_PORT = 7008


def _to(ip, port):
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class Tool:
    """A job of guest-tools in `where`, a Guest or a Shell; on one of its CPUs, if that is given."""

    def __init__(self, where, what, name, cpu=None, **options):
        self.where, self.name = where, name
        program = where.tool if cpu is None else f"taskset {1 << cpu:x} {where.tool}"
        self.ctl, log = f"{where.tmp}/{name}.ctl", f"{where.tmp}/{name}.log"
        words = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in options.items() if v is not None)
        where.run(f"rm -f {self.ctl}; {program} {what} {words} --ctl {self.ctl} < /dev/null > {log} 2>&1 &")
        status, output = where.run(f"for i in $(seq 600); do [ -S {self.ctl} ] && exit 0; usleep 20000; "
                                 f"[ $i -gt 5 ] && [ -s {log} ] && break; done; cat {log}; exit 1",
                                 timeout=30, check=False)
        if status:
            raise Failure(f"`{what} {words}` in {where.name} did not start: {output.strip()}")

    def request(self, word, timeout=20):
        """The answer to a word, decoded."""
        output = self.where.run(f"{self.where.tool} ask {self.ctl} {word}", timeout=timeout).strip()
        try:
            answer = json.loads(output)
        except ValueError:
            raise Failure(f"{self.name} in {self.where.name} answered {word} with: {output}") from None
        if isinstance(answer, str):
            raise Failure(f"{self.name} in {self.where.name}: {answer}")
        return answer

    def stats(self):
        """Its counters."""
        return self.request("stats")

    def stop(self):
        """Ends it; returns its counters."""
        return self.request("stop")


class Sender(Tool):
    """A UDP stream of `rate` datagrams per second, in bursts every `tick_us`; or `flows` streams, numbered upwards from
    `stream`, with that rate in total. Counters: sent, sent_of (each flow), skipped (not sent in time, and not
    numbered), errors, us, began_unix_us."""

    def __init__(self, where, ip, stream, rate, size=64, tick_us=2000, port=PORT, flows=1, cpu=None):
        super().__init__(where, "send", f"send-{stream}", cpu, to=_to(ip, port), stream=stream, rate=rate, size=size,
                         tick_us=tick_us, flows=flows)


class Receiver(Tool):
    """Receives all streams to a port. Counters per stream: received, end (one more than the highest number), missing,
    duplicated, reordered, late (of the first reordered ones: time of sending in microseconds by the sender's clock, number,
    number of the one that overtook it); in the period since the last mark: in_period, gap_us (the longest time without an arrival)
    and late_us (the most by which such a time exceeds the time between the sendings); longest_gap_us of all periods.
    And overflown: lost at its own socket.

    The clock of a guest stands still during its migration. To measure gaps in real time, let it echo to an `observer`:
    the address of another Receiver, which does not migrate. The newest datagram of each stream in every batch goes
    there. The gaps and the trace of the observer are real; what it misses has no meaning."""

    def __init__(self, where, port=PORT, observer=None):
        super().__init__(where, "receive", f"receive-{port}", port=port, echo_to=observer and _to(observer, port))

    def mark(self):
        """Ends a period; returns the streams' counts."""
        return {int(k): v for k, v in self.request("mark")["streams"].items()}

    def trace(self, stream):
        """The arrivals of this period: (microseconds, sequence number)."""
        return [tuple(point) for point in self.request(f"trace {stream}")]

    def tally(self, sent, patience=5):
        """Ends it when everything has arrived, or no more arrives. `sent` is the number of datagrams of each stream.
        Returns received, lost, duplicated, reordered, overflown and the counters of each stream."""
        end, last = time.monotonic() + patience, None
        while time.monotonic() < end:
            got = {int(k): v["received"] for k, v in self.stats()["streams"].items()}
            if all(got.get(s, 0) >= n for s, n in sent.items()):
                break
            if got != last:
                end, last = time.monotonic() + patience, got
            time.sleep(0.2)
        report = self.stop()
        streams = {int(k): v for k, v in report["streams"].items()}
        total = {k: sum(s[k] for s in streams.values()) for k in ("received", "duplicated", "reordered")}
        lost = {s: n - streams.get(s, {"received": 0})["received"] for s, n in sent.items()}
        return {**total, "lost": sum(lost.values()), "lost_of": lost, "overflown": report["overflown"],
                "foreign": report["foreign"], "streams": streams}


class Pinger(Tool):
    """Pings an address. Counters: sent, received, lost, duplicated, reordered, longest_ms, errors."""

    def __init__(self, where, ip, rate=100):
        super().__init__(where, "ping", f"ping-{ip.replace(':', '.')}", to=ip, rate=rate)


class TcpServer(Tool):
    """Verifies what it receives and sends it back. `served` has the counters of all connections together."""

    def __init__(self, where, port=TCP_PORT):
        super().__init__(where, "tcp-serve", f"serve-{port}", port=port)


class TcpClient(Tool):
    """Has an `idle` connection with one byte per second and a `busy` one. Counters of each: sent, received (sent back),
    damaged, resets, longest_silence_ms. Counters of the kernel: retransmits, loss_probes and timeouts."""

    def __init__(self, where, ip, kib_s=256, port=TCP_PORT):
        super().__init__(where, "tcp-hold", f"hold-{ip.replace(':', '.')}", to=_to(ip, port), kib_s=kib_s)


def tcp_tally(client, server):
    """Ends both. Returns resets; retransmits, loss_probes and timeouts of both kernels; bytes that were echoed intact,
    damaged and missing ones; and the longest time without an echo on the busy connection."""
    c, s = client.stop(), server.stop()
    ways = (c["idle"], c["busy"], s["served"])
    total = {k: c[k] + s[k] for k in ("retransmits", "loss_probes", "timeouts")}
    return {**total, "resets": sum(w["resets"] for w in ways), "damaged": sum(w["damaged"] for w in ways),
            "missing": sum(w["sent"] - w["received"] for w in ways[:2]), "bytes": c["busy"]["received"],
            "longest_silence_ms": c["busy"]["longest_silence_ms"]}
