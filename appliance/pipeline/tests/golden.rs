//! Golden captures: the same input gives the same output, byte for byte, whatever is optimised. A few thousand bursts
//! of every kind of frame, valid and damaged, alone and mixed, enter every port of two appliances, one at rest and
//! one with migrating nodes. `golden.txt` has a digest of the output of each block of bursts, and the number of
//! frames by result. `BLESS=1` writes the file again: only after an intended change of behaviour.

use super::{
    frames::{FROM_1, FROM_2, Tunnel},
    properties::seeds,
    *,
};
use crate::migration::record::{EndMarkerBarrier, RecordMode, RedirectTarget};
use crate::pipeline::MAX_BURST;
use std::fmt::Write;
use stopover_net::marker::{self, Kind, Marker};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/appliance/pipeline/tests/golden.txt");
const BURSTS_PER_BLOCK: usize = 16;
const BLOCKS: usize = 16;

/// The frames of the golden captures one by one, for other tests.
pub(super) struct Frames {
    all: Vec<Vec<u8>>,
    numbers: Numbers,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { all: frames(), numbers: Numbers(2) }
    }

    /// A frame and the port at which it is received; nearly always one at which it is plausible.
    pub(super) fn one(&mut self, lab: &Lab) -> (u16, VecPacket) {
        loop {
            let port = self.numbers.below(lab.ports.len()) as u16;
            let packet = packet(&self.all, &mut self.numbers);
            if is_for(port, packet.head()) || self.numbers.one_in(16) {
                return (port, packet);
            }
        }
    }
}

/// Steele and Vigna's SplitMix64: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// FNV-1a.
struct Digest(u64);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Frames that are not among the seeds: end markers, and ordinary frames.
fn frames() -> Vec<Vec<u8>> {
    let marker = |relayed, host| Marker {
        kind: Kind::End,
        relayed,
        ends: false,
        sender_queue: 0,
        sender_queues: 1,
        port: 0,
        ports: 1,
        source_port: 0,
        host,
        generation: 7,
        node: A.mac,
        paused_us: 5,
    };
    let tcp = |from: Station, to: Station, len| {
        let l4 = frames::tcp(from.ip4.into(), to.ip4.into(), 1, 0x18, &frames::data(len));
        frames::eth(to.mac, from.mac, frames::IPV4, &frames::ip4(from.ip4, to.ip4, frames::TCP, 0xb8, &l4))
    };
    let between = [(A, R1), (A, R2), (A, R3), (A, B), (S, R1), (S, A), (R1, A), (R2, A), (R1, B), (R2, S)];
    let plain: Vec<_> = between
        .into_iter()
        .chain([(R1, T), (R1, R2), (A, NOBODY), (NOBODY, A), (B, R1), (T, R1)])
        .flat_map(|(from, to)| {
            [
                frames::udp4(from, to, 18),
                frames::udp4_tos(from, to, 1, 300),
                frames::udp6(from, to, 2, 18),
                tcp(from, to, 0),
                tcp(from, to, 700),
            ]
        })
        .collect();
    let marked = [(0, 0), (1, 0), (4, 0), (8, 0), (0, 3), (0, 1)].into_iter().flat_map(|(flags, tos)| {
        [
            Tunnel { flags, tos, ..FROM_1 },
            Tunnel { flags, tos, ..FROM_2 },
            Tunnel { checksum: true, ..FROM_1 },
        ]
    });
    let tunnelled: Vec<_> =
        marked.flat_map(|tunnel| plain.iter().map(move |inner| tunnel.around(inner))).collect();
    let markers = [marker(false, 1), marker(true, 2)].map(|marker| {
        Tunnel { flags: 2 | u8::from(marker.relayed), ..FROM_1 }.around(&marker::build(&marker))
    });
    // The same number of each kind.
    let often = tunnelled.len() / plain.len();
    let plain: Vec<_> = (0..often).flat_map(|_| plain.clone()).collect();
    [plain, tunnelled, markers.to_vec(), seeds()].concat()
}

fn spoil(frame: &mut Vec<u8>, numbers: &mut Numbers) {
    match numbers.below(6) {
        0 => frame.truncate(numbers.below(frame.len() + 1)),
        1 => frame.extend(std::iter::repeat_n(0, numbers.below(40))),
        _ if frame.is_empty() => {}
        _ => {
            let at = numbers.below(frame.len().min(110));
            frame[at] = match numbers.below(3) {
                0 => numbers.next() as u8,
                1 => frame[at] ^ 1 << numbers.below(8),
                _ => 0,
            };
        }
    }
}

fn packet(frames: &[Vec<u8>], numbers: &mut Numbers) -> VecPacket {
    let mut frame = frames[numbers.below(frames.len())].clone();
    if numbers.one_in(3) {
        spoil(&mut frame, numbers);
    }
    let mut packet = VecPacket::new(&frame);
    packet.unfilled = numbers.one_in(12);
    packet.gso = numbers.one_in(20).then(|| 200 + numbers.below(1200) as u16);
    packet.stripped = numbers.one_in(20).then(|| VlanId::new(10 + numbers.below(11) as u16).unwrap());
    packet
}

/// Whether a frame is plausible at this port.
fn is_for(port: u16, frame: &[u8]) -> bool {
    let mac = |at: usize, mac: Mac| frame.get(at..at + 6) == Some(&mac.octets()[..]);
    match port {
        UNDERLAY | UNDERLAY_30 => mac(0, OUR_MAC),
        VM_A | VM_200 => mac(6, A.mac),
        VM_B => mac(6, B.mac),
        SEGMENT => mac(6, S.mac),
        _ => mac(6, T.mac),
    }
}

/// A leaves for host 2, B has a window, S arrives from host 1, and R1 was here before.
pub(super) fn is_migrating(lab: &mut Lab) {
    let bd = lab.net100;
    let record = |mac, port, mode| MigrationRecord {
        bd,
        vni: vni(100),
        mac,
        port,
        vlan: 0,
        stand_in: None,
        mode,
        counters: std::sync::Arc::default(),
    };
    lab.tables.set_migrating(record(A.mac, VM_A, RecordMode::Forward(RedirectTarget::Host(2)))).unwrap();
    lab.tables.set_migrating(record(B.mac, VM_B, RecordMode::Window { cycles: 1000 })).unwrap();
    let arrival = std::sync::Arc::new(EndMarkerBarrier::new(9, 0, Some(1), [2]));
    lab.tables.set_migrating(record(S.mac, SEGMENT, RecordMode::Arriving(arrival))).unwrap();
    lab.tables.set_departed(bd, R1.mac);
    lab.publish();
}

/// The digests contain the names of some types as they were first; this restores them.
fn with_original_names(text: String) -> Vec<u8> {
    text.replace("bd: Bd(", "net: Net(").replace("Bd(", "Net(").into_bytes()
}

/// The output of one block of bursts.
struct Block {
    digest: Digest,
    sent: usize,
    dropped: usize,
    punted: usize,
    learned: usize,
}

impl Block {
    fn new() -> Self {
        Self { digest: Digest(0xcbf2_9ce4_8422_2325), sent: 0, dropped: 0, punted: 0, learned: 0 }
    }

    /// Adds the output of a burst, and removes its events.
    fn add(&mut self, out: &Out, exits: &mut Exits) {
        for ((port, frame), packet) in out.sent.iter().zip(&out.packets) {
            self.digest.add(&port.to_be_bytes());
            self.digest.add(frame);
            let offload = format!("{} {:?} {:?}", packet.unfilled, packet.gso, packet.requested);
            self.digest.add(offload.as_bytes());
        }
        let results = format!("{:?} {:?} {:x?}", out.dropped, out.learned, out.punted);
        self.digest.add(&with_original_names(results));
        let events = format!("{:?} {:x?} {:x?}", exits.routers, exits.held, exits.relayed);
        self.digest.add(&with_original_names(events));
        self.digest.add(&with_original_names(format!("{:?}", exits.arrived)));
        exits.routers.clear();
        exits.held.clear();
        exits.relayed.clear();
        exits.arrived.clear();
        self.sent += out.sent.len();
        self.dropped += out.dropped.len();
        self.punted += out.punted.len();
        self.learned += out.learned.len();
    }
}

/// A line for each block: appliance, port, digest, number of frames by result.
fn run() -> String {
    let all = frames();
    let fitting: Vec<Vec<_>> =
        (0..7).map(|port| all.iter().filter(|frame| is_for(port, frame)).cloned().collect()).collect();
    let mut numbers = Numbers(1);
    let mut text = String::new();
    for state in ["at_rest", "moving"] {
        let mut lab = Lab::new();
        if state == "moving" {
            is_migrating(&mut lab);
        }
        for number in 0..BLOCKS {
            for port in 0..lab.ports.len() as u16 {
                let mut block = Block::new();
                for _ in 0..BURSTS_PER_BLOCK {
                    lab.exits.pool.left = 100;
                    let len =
                        if numbers.one_in(4) { 1 + numbers.below(MAX_BURST) } else { 1 + numbers.below(6) };
                    let burst = (0..len)
                        .map(|_| {
                            let frames = if numbers.one_in(8) { &all } else { &fitting[usize::from(port)] };
                            packet(frames, &mut numbers)
                        })
                        .collect();
                    let out = lab.burst(port, burst);
                    block.add(&out, &mut lab.exits);
                }
                let Block { digest, sent, dropped, punted, learned } = block;
                writeln!(
                    text,
                    "{state} {number} port {port}: {:016x} sent {sent} dropped {dropped} punted {punted} learned {learned}",
                    digest.0
                )
                .unwrap();
            }
        }
    }
    text
}

#[test]
fn output_matches_the_golden_digests() {
    let now = run();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(GOLDEN, &now).unwrap();
    }
    let golden = include_str!("golden.txt");
    for (now, golden) in now.lines().zip(golden.lines()) {
        assert_eq!(now, golden);
    }
    assert_eq!(now.lines().count(), golden.lines().count());
}
