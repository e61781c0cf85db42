#!/usr/bin/python3
"""Somebody on the underlay attacks the encrypted tunnels of three hosts while stations send to each other through them.

Alice is at gw-a, Bob at gw-b, Carol at gw-c. Eve reads what the hosts send, keeps datagrams from arriving, and sends in any
host's name; she has no keys, but knows the public ones. Most attacks are on datagrams that have not arrived yet: so it is not
the replay window alone that refuses what is altered. Afterwards Eve lets the genuine one arrive, which must be accepted, once.
The kinds of `cases`:

    replayed              datagrams that have arrived; and all datagrams of a handshake
    reordered_within      held back, and sent in reverse order, all within the window: each must be accepted, but no copy
    reordered_beyond      held back until more frames than the window has have arrived
    truncated             at every length; with the right length in the UDP header, or that of before
    bit_flipped           every bit of an ESP datagram
    bit_flipped_1, _2, _3 of the handshake's initiation, response, and confirmation
    tampered              bits of the handshake's sealed contents, among them cipher and queues, with MACs that are right
    forged_spi            unknown indexes, other generations, and random ESP
    flood                 initiations from many addresses with and without the right MAC; a handshake must succeed meanwhile
    old_keys              ESP that never arrived, of keys that have been replaced twice
    swapped               ESP for one host sent to another, or back to its sender; handshakes sent on in another host's name
    stolen_mac            Carol sends from Bob's MAC, through the tunnel of gw-c
    downgrade             plain VXLAN in a host's name

`accepted_wrongly`: frames that arrived at a station and should not, or twice; handshakes that were answered or confirmed because
of an altered datagram. `refused_wrongly`: datagrams lost of the streams between Alice and Bob that run all the time (`streams`
of them were sent), and genuine datagrams and handshakes that failed after an attack. `uncounted`: cases that the host did not
count as drops for a reason of their kind.
"""

import contextlib
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests.guest import Shell
from lib.lab import Failure, fabric, info, until
from lib.product import ron, stopover
from lib.traffic import forgeries, probes, wiretap
from lib.traffic.stream import PORT, Receiver, Sender
from lib.traffic.wiretap import CONTROL, INITIATION, RESPONSE, handshakes

VNI = 100
A, B, C = 1, 2, 3  # the hosts' numbers
TENTH = 10 if scenario.SHORT else 1
LEAST, LEAST_IN_ALL = 100 // TENTH, 10_000 // TENTH
STREAM_RATE = 200
WINDOW = 2_048
BEYOND = 2 * WINDOW + 200  # frames after which what was before is beyond it: the window is longer than asked for
GRACE_S = 7  # longer than old keys live after they were replaced
UNREADABLE = 15  # responses; after 20 a host waits for the end of its attempt
CONFIRMATION_LENGTH = 28 + 16 + 8 + 1 + 4 + 16  # of its IPv4 datagram, between hosts with one sending queue
ALTERED = ("bad_seal", "replayed", "unknown_spi", "plain_refused", "bad_vxlan", "outer_malformed", "outer_unexpected")
# What a handshake can be counted as, beside going to the control thread.
TO_CONTROL = (*ALTERED, "control_full", "to_control")
KINDS = ("replayed", "reordered_within", "reordered_beyond", "truncated", "bit_flipped", "bit_flipped_1", "bit_flipped_2",
         "bit_flipped_3", "tampered", "forged_spi", "flood", "old_keys", "swapped", "stolen_mac", "downgrade")


def some(n):
    """So many cases; of a short run a tenth."""
    return max(1, n // TENTH)


class Run:
    """Hosts, stations, Eve, and what has been counted."""

    def __init__(self, lab):
        self.lab, self.rng = lab, forgeries.seeded(20261128)
        self.board, net, self.hosts = fabric.three_hosts(
            lab, v6=False, tunnels={"mode": ron.word("required"), "rekey_s": 3600, "window": WINDOW})
        self.a, self.b, self.c = self.hosts
        stations = [fabric.Tenant.numbered(lab, name, VNI, n).plug_vif(host, guard=name != "carol")
                    for n, (name, host) in enumerate(zip(("alice", "bob", "carol"), self.hosts), 1)]
        self.alice, self.bob, self.carol = stations
        self.eve = wiretap.Eve(lab, net)
        self.taps = {host: wiretap.Wiretap(net, host) for host in self.hosts}
        self.probes = probes.Probes()
        self.sockets = {s: s.ns.packet_socket("eth0") for s in stations}
        self.watches = {s: probes.Watch(s, self.probes, {PORT}) for s in stations}
        self.cases = dict.fromkeys(KINDS, 0)
        self.figures = {"accepted_wrongly": 0, "refused_wrongly": 0, "uncounted": 0, "crashes": 0, "flood_ms_max": 0}
        self.forbidden = []  # (station, numbers of probes that must not arrive there)

    def start(self):
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 3)
        self.keys = {host: bytes.fromhex(self.board.json("host", "show", host.name)["public_key"]) for host in self.hosts}
        at = {s: Shell(self.lab, s.ns) for s in (self.alice, self.bob)}
        self.receivers = {s: Receiver(shell) for s, shell in at.items()}
        self.senders = {self.bob: Sender(at[self.alice], self.bob.ips[0], 1, STREAM_RATE),
                        self.alice: Sender(at[self.bob], self.alice.ips[0], 2, STREAM_RATE)}
        for host, other in ((self.a, "gw-b"), (self.b, "gw-a")):
            until(f"{host.name} has a tunnel to {other}", lambda: host.tunnels()[other]["state"] == "up")

    # What the stations send.

    def send(self, station, numbers, rate=2_500):
        """Sends probes from a station."""
        began = time.monotonic()
        for n, number in enumerate(numbers, 1):
            self.sockets[station].send(self.probes.frames[number])
            time.sleep(max(0, n / rate - (time.monotonic() - began)))

    def held(self, count, source=None, to=None):
        """Probes that do not arrive: their numbers and their datagrams."""
        source, to = source or self.bob, to or self.alice
        host = self.host_of(source)
        tap = self.taps[host]
        mark, numbers = tap.mark(), self.probes.make(count, source, to)
        mine = lambda: [d.payload for d in tap.since(mark, self.host_of(to).number) if d.length == probes.HELD_LENGTH]
        with tap.hold(probes.HELD_LENGTH):
            self.send(source, numbers)
            until(f"{count} datagrams of {host.name} are held", lambda: len(mine()) >= count, timeout=5)
        return numbers, mine()

    def host_of(self, station):
        return self.hosts[(self.alice, self.bob, self.carol).index(station)]

    def arrive(self, what, numbers, station=None):
        """Waits until genuine probes have arrived, or are late."""
        watch = self.watches[station or self.alice]
        with contextlib.suppress(Failure):
            until(what, lambda: not watch.missing(numbers), timeout=3)
        if missing := watch.missing(numbers):
            info(f"{what}: {missing} of {len(numbers)} genuine datagrams were refused")
            self.figures["refused_wrongly"] += missing

    def release(self, what, numbers, payloads, source=B, to=A, station=None):
        """Lets genuine datagrams arrive after an attack."""
        self.eve.send(source, to, payloads)
        self.arrive(f"after {what}", numbers, station)

    def must_not_arrive(self, station, numbers):
        self.forbidden.append((station, numbers))

    # What Eve sends.

    def attack(self, kind, victim, frames, reasons=TO_CONTROL, rate=2_500):
        """Sends frames, each a case, and waits until the host has counted them for these reasons."""
        before = self.counters(victim)
        n = self.eve.send_frames(frames, rate)
        self.count(kind, n, victim, before, reasons)

    @staticmethod
    def counters(host):
        """Its drops by reason, and what went to its control thread."""
        return {**host.drops(), "to_control": host.counter("to_control")}

    def count(self, kind, n, victim, before, reasons):
        self.cases[kind] += n
        counted = lambda: {r: d - before.get(r, 0) for r, d in self.counters(victim).items()
                           if d > before.get(r, 0) and r in reasons}
        with contextlib.suppress(Failure):
            until("they are counted", lambda: sum(counted().values()) >= n, timeout=2)
        found = counted()
        info(f"{kind}: {n} cases at {victim.name}: {found}")
        self.figures["uncounted"] += max(0, n - sum(found.values()))

    def frames(self, payloads, source=B, to=A):
        return [self.eve.frame(source, to, p) for p in payloads]

    # Handshakes.

    def sessions(self, host, other):
        return host.tunnels()[other.name]["sessions"]

    def new_session(self, what, before, timeout=25):
        """Waits for the end of a genuine handshake between gw-a and gw-b. Returns how long it took."""
        try:
            return until(what, lambda: self.sessions(self.a, self.b) > before[0] and self.sessions(self.b, self.a) > before[1],
                         timeout)
        except Failure as e:
            info(f"a genuine handshake failed: {e}")
            self.figures["refused_wrongly"] += 1
            return timeout

    def both(self):
        return self.sessions(self.a, self.b), self.sessions(self.b, self.a)

    def rekey(self):
        """A handshake between gw-b and gw-a. Returns its datagrams: of gw-b, of gw-a."""
        before, marks = self.both(), [self.taps[h].mark() for h in (self.b, self.a)]
        self.b.cli("tunnel", "rekey", "gw-a")
        self.new_session("new keys", before)
        time.sleep(0.2)
        return [[d.payload for d in self.taps[h].since(mark, to) if d.payload[:4] == wiretap.MARKER]
                for h, mark, to in zip((self.b, self.a), marks, (A, B))]

    def pieces(self, tap, mark, to, kind):
        """The two pieces of a message, in their order."""
        found = lambda: {p[6]: p for p in handshakes(tap.since(mark, to), kind)}
        until("both pieces of a message are held", lambda: len(found()) == 2, timeout=5)
        return [found()[n] for n in (0, 1)]

    def flips_of(self, pieces, most):
        """Bits of what the first MAC covers, and of that MAC. The second one means nothing to a host that is not busy."""
        all_of = [(n, bit) for n, p in enumerate(pieces) for bit in range(8 * (len(p) - forgeries.MAC))]
        chosen = all_of if len(all_of) <= most else self.rng.sample(all_of, most)
        return [next(forgeries.bit_flips(pieces[n], [bit])) for n, bit in chosen]

    def tamper(self, count, pieces, way, key):
        """Both pieces, so many times, with a bit of the contents changed and MACs that are right. `way`: from, to."""
        victim = self.hosts[way[1] - 1]
        for _ in range(count):
            n = self.rng.randrange(2)
            end = 8 * (len(pieces[n]) - 2 * forgeries.MAC)
            changed = next(forgeries.bit_flips(pieces[n], [self.rng.randrange(8 * forgeries.HEADER, end)]))
            both = [forgeries.with_mac(changed if i == n else p, key) for i, p in enumerate(pieces)]
            self.eve.send(*way, both, rate=200)
        self.cases["tampered"] += count
        info(f"tampered: {count} cases at {victim.name}")

    def initiations(self):
        """Alters initiations of gw-b before one arrives."""
        tap, at_a = self.taps[self.b], self.taps[self.a]
        before, mark, mark_a = self.both(), tap.mark(), at_a.mark()
        with tap.hold():
            self.b.cli("tunnel", "rekey", "gw-a")
            pieces = self.pieces(tap, mark, A, INITIATION)
            self.attack("bit_flipped_1", self.a, self.frames(self.flips_of(pieces, 20_000 // TENTH ** 2)))
            self.attack("truncated", self.a, self.frames(forgeries.cut(pieces[1])))
            self.attack("tampered", self.a, self.frames(forgeries.broken_headers(pieces[0], self.rng, some(100))))
            self.tamper(some(200), pieces, (B, A), self.keys[self.a])
            answered = len(handshakes(at_a.since(mark_a, B), RESPONSE))
        self.accepted("initiations that were altered were answered", answered)
        self.new_session("a handshake after altered initiations", before)

    def responses(self):
        """Alters responses of gw-a before one arrives."""
        tap = self.taps[self.a]
        before, mark = self.both(), tap.mark()
        with tap.hold():
            self.b.cli("tunnel", "rekey", "gw-a")
            pieces = self.pieces(tap, mark, B, RESPONSE)
            self.attack("bit_flipped_2", self.b, self.frames(self.flips_of(pieces, some(2_000)), A, B))
            self.tamper(UNREADABLE, pieces, (A, B), self.keys[self.b])
            accepted = self.sessions(self.b, self.a) - before[1]
        self.accepted("a response that was altered was accepted", accepted)
        self.new_session("a handshake after altered responses", before)

    def relayed(self):
        """Handshakes that Eve takes from gw-b and gw-a, and sends on in the name of gw-c: the tunnel must not stay with her."""
        for host, other, way, kind in ((self.b, self.a, (C, A), INITIATION), (self.a, self.b, (C, B), RESPONSE)):
            tap, before = self.taps[host], self.both()
            mark = tap.mark()
            with tap.hold():
                self.b.cli("tunnel", "rekey", "gw-a")
                pieces = self.pieces(tap, mark, other.number, kind)
                self.attack("swapped", other, self.frames(pieces, *way))
                time.sleep(0.3)
            self.new_session("a handshake after one that was relayed", before)
            before = self.both()
            self.a.cli("tunnel", "rekey", "gw-b")
            self.new_session("a handshake of gw-a after one that was relayed", before)

    def confirmations(self):
        """Alters confirmations of gw-b before one arrives."""
        tap = self.taps[self.b]
        before, mark = self.both(), tap.mark()
        with tap.hold(CONFIRMATION_LENGTH):
            self.b.cli("tunnel", "rekey", "gw-a")
            until("a confirmation is held", lambda: handshakes(tap.since(mark, A), CONTROL), timeout=5)
            confirmation = handshakes(tap.since(mark, A), CONTROL)[0]
            self.attack("bit_flipped_3", self.a, self.frames(self.flips_of([confirmation + bytes(forgeries.MAC)], 1_000)))
            self.attack("truncated", self.a, self.frames(forgeries.cut(confirmation)))
            accepted = self.sessions(self.a, self.b) - before[0]
        self.accepted("a confirmation that was altered was accepted", accepted)
        self.new_session("a handshake after altered confirmations", before)

    def accepted(self, what, n):
        if n:
            info(f"accepted wrongly: {what}: {n}")
            self.figures["accepted_wrongly"] += n

    # The kinds.

    def replayed(self):
        mark, numbers = self.taps[self.b].mark(), self.probes.make(some(100), self.bob, self.alice)
        self.send(self.bob, numbers)
        self.arrive("before replays", numbers)
        sent = [d.payload for d in self.taps[self.b].since(mark, A) if d.length == probes.HELD_LENGTH]
        for _ in range(3):
            self.attack("replayed", self.a, self.frames(sent), ("replayed",))
        of_b, of_a = self.rekey()
        before = self.both()
        for payloads, victim, way in ((of_b, self.a, (B, A)), (of_a, self.b, (A, B))):
            self.attack("replayed", victim, self.frames(payloads * some(50), *way), rate=1_000)
        time.sleep(0.5)
        self.accepted("replayed handshakes made sessions", sum(self.both()) - sum(before))

    def reordered(self):
        numbers, payloads = self.held(some(200))
        self.release("reordering within the window", numbers, payloads[::-1])
        self.cases["reordered_within"] += len(numbers)
        self.attack("reordered_within", self.a, self.frames(payloads), ("replayed",))
        for _ in range(3):
            numbers, payloads = self.held(some(200))
            between = self.probes.make(BEYOND, self.bob, self.alice, size=200)
            mark = self.taps[self.b].mark()
            self.send(self.bob, between, rate=4_000)
            self.arrive("reordering beyond the window", between)
            last = [d.payload for d in self.taps[self.b].since(mark, A) if d.payload[0] >= 0xC0][-1]
            if forgeries.spi_of(last) == forgeries.spi_of(payloads[0]):
                self.must_not_arrive(self.alice, numbers)
                return self.attack("reordered_beyond", self.a, self.frames(payloads), ("replayed",))
            info("keys were replaced meanwhile; once more")
        raise Failure("keys were replaced each time: no attempt was beyond a window")

    def altered(self):
        """Truncated, and with each bit flipped."""
        for _ in range(1 if scenario.SHORT else 5):
            numbers, (payload,) = self.held(1)
            self.attack("truncated", self.a, self.frames(forgeries.cut(payload)), ALTERED)
            self.attack("truncated", self.a, [self.eve.frame(B, A, p, length=len(payload)) for p in forgeries.cut(payload)],
                        ALTERED)
            self.release("truncation", numbers, [payload])
            numbers, (payload,) = self.held(1)
            self.attack("bit_flipped", self.a, self.frames(forgeries.bit_flips(payload)), ALTERED)
            self.release("flipped bits", numbers, [payload])

    def forged(self):
        numbers, (payload,) = self.held(1)
        self.attack("forged_spi", self.a, self.frames(forgeries.other_generations(payload, some(500), self.rng)), ALTERED)
        self.attack("forged_spi", self.a, self.frames(forgeries.other_indexes(payload, some(500), self.rng)), ALTERED)
        self.release("forged SPIs", numbers, [payload])
        self.attack("forged_spi", self.a, self.frames(forgeries.random_esp(some(1_000), self.rng)), ALTERED)

    def flood(self):
        """Floods gw-a while gw-b begins handshakes with it."""
        made, seconds = [], 2 if scenario.SHORT else 10
        for n in range(3_000 * seconds):
            piece = forgeries.initiation(self.rng, n % 2)
            if n % 4 < 3:
                piece = forgeries.with_mac(piece, self.keys[self.a])
            source = B if n % 50 == 0 else f"10.0.{self.rng.randrange(1, 255)}.{self.rng.randrange(1, 255)}"
            made.append(self.eve.frame(source, A, piece, port=self.rng.randrange(1_024, 65_536)))
        thread = threading.Thread(target=lambda: self.eve.send_frames(made, 3_000))
        thread.start()
        time.sleep(0.5)
        succeeded = 0
        while thread.is_alive():
            before = self.both()
            self.b.cli("tunnel", "rekey", "gw-a")
            took = self.new_session("a handshake during a flood", before)
            succeeded += 1
            self.figures["flood_ms_max"] = max(self.figures["flood_ms_max"], round(took * 1e3))
        thread.join()
        self.cases["flood"] += len(made)
        info(f"flood: {len(made)} cases at gw-a; {succeeded} handshakes meanwhile took {self.figures['flood_ms_max']} ms at most")

    def swapped(self):
        numbers, payloads = self.held(some(100))
        self.must_not_arrive(self.carol, numbers)
        self.attack("swapped", self.c, self.frames(payloads, B, C), ALTERED)
        self.attack("swapped", self.c, self.frames(payloads, A, C), ALTERED)
        self.release("datagrams for gw-a at gw-c", numbers, payloads)
        numbers, payloads = self.held(some(100), self.alice, self.bob)
        self.must_not_arrive(self.alice, numbers)
        self.attack("swapped", self.a, self.frames(payloads, B, A), ALTERED)
        self.release("datagrams sent back to gw-a", numbers, payloads, A, B, self.bob)

    def stolen(self):
        """Carol uses Bob's MAC. gw-c does not guard her port."""
        before, numbers = self.counters(self.a), self.probes.make(some(200), self.bob, self.alice, size=100)
        self.must_not_arrive(self.alice, numbers)
        self.send(self.carol, numbers)
        self.count("stolen_mac", len(numbers), self.a, before, ("not_its_node",))

    def downgrade(self):
        for source, station in ((B, self.bob), (C, self.carol)):
            numbers = self.probes.make(some(200), station, self.alice, size=100)
            self.must_not_arrive(self.alice, numbers)
            plain = [forgeries.plain_vxlan(self.probes.frames[n], VNI, self.rng) for n in numbers]
            self.attack("downgrade", self.a, self.frames(plain, source), ("plain_refused", "bad_vxlan"))

    def all_kinds(self):
        old, old_payloads = self.held(some(200))
        self.must_not_arrive(self.alice, old)
        self.rekey()
        self.rekey()
        replaced = time.monotonic()
        self.replayed()
        self.reordered()
        self.altered()
        self.swapped()
        self.stolen()
        self.downgrade()
        self.initiations()
        for _ in range(1 if scenario.SHORT else 3):
            self.responses()
        self.confirmations()
        self.forged()
        self.flood()
        self.relayed()
        time.sleep(max(0, GRACE_S - (time.monotonic() - replaced)))
        self.attack("old_keys", self.a, self.frames(old_payloads), ALTERED)

    # Judgement.

    def judge(self):
        """Counts what arrived, and what did not."""
        time.sleep(1)
        sent = {s: sender.stop()["sent"] for s, sender in self.senders.items()}
        for station, stream in ((self.bob, 1), (self.alice, 2)):
            got = self.receivers[station].tally({stream: sent[station]})
            info(f"the stream to {station.name}: {sent[station]} sent, lost {got['lost']}, duplicated {got['duplicated']}, "
                 f"reordered {got['reordered']}")
            self.figures["refused_wrongly"] += got["lost"]
            self.accepted(f"of the stream to {station.name}", got["duplicated"] + got["foreign"])
        for station, numbers in self.forbidden:
            self.accepted(f"probes at {station.name} that must not arrive", self.watches[station].never(numbers))
        for station, watch in self.watches.items():
            self.accepted(f"copies at {station.name}", watch.twice())
            self.accepted(f"frames at {station.name} that nobody sent", watch.damaged + watch.strange)
        for process in (self.board.process, *(h.process for h in self.hosts)):
            if not process.alive() or "panicked at" in process.log.read_text(errors="replace"):
                info(f"{process.name} did not survive; its last output:\n    {process.tail()}")
                self.figures["crashes"] += 1
        return sum(sent.values())


def body(lab):
    info("building three hosts with a station each, and Eve on the underlay")
    run = Run(lab)
    run.start()
    run.all_kinds()
    streams = run.judge()
    figures = {} if run.figures["crashes"] else stopover.accounting(run.hosts, hostile=True)
    few = [kind for kind, n in run.cases.items() if n < LEAST]
    in_all = sum(run.cases.values())
    for kind in few:
        info(f"too few cases: {kind} {run.cases[kind]}")
    return {**run.figures, **figures, "streams": streams, "cases": run.cases, "cases_in_all": in_all,
            "too_few": len(few) + (in_all < LEAST_IN_ALL)}


scenario.main("tunnel-attacks", body,
              must_be_zero=["accepted_wrongly", "refused_wrongly", "crashes", "unaccounted", "too_few"],
              must_be_positive=["streams", "cases_in_all"], must_be_zero_alone=["uncounted"])
