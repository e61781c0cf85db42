//! A vhost-user port as the other side sees it: a front end that speaks the protocol (QEMU's
//! docs/interop/vhost-user.rst) sets up rings in a file, has their memory logged, stops them, starts them again and
//! hangs up, and the port must report each at once. EAL starts once per process, so this is one test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dpdk::*;

/// Requests.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const GET_VRING_BASE: u32 = 11;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;

/// Features: mergeable receive buffers, so that there is one header size; virtio 1.
const FEATURES: u64 = 1 << 15 | 1 << 32;
const LOG_ALL: u64 = 1 << 26;

const MEMORY: u64 = 1 << 20;
/// Where the front end's memory would be in its own address space.
const USER: u64 = 0x7000_0000_0000;
/// Offsets in it: each ring has a page for descriptors, one for what is available, one for what is used.
const RING: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;
const RING_SIZE: u32 = 8;
/// struct virtio_net_hdr_mrg_rxbuf
const NET_HEADER: u64 = 12;

/// The other side of a port: what QEMU is for a guest.
struct FrontEnd {
    line: UnixStream,
    memory: File,
    /// Ends of pipes instead of event descriptors: neither is read.
    signals: Vec<OwnedFd>,
    given: u16,
}

impl FrontEnd {
    fn connect(path: &Path) -> Self {
        let line = UnixStream::connect(path).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let end = Self { line, memory, signals: vec![reader.into(), writer.into()], given: 0 };
        end.send(SET_OWNER, &[], None);
        assert_eq!(end.request(GET_FEATURES, &[], 8) & (FEATURES | LOG_ALL), FEATURES | LOG_ALL);
        end.features(FEATURES);
        let words = [1, 0, MEMORY, USER, 0];
        end.send(SET_MEM_TABLE, &words.map(u64::to_ne_bytes).concat(), Some(end.memory.as_raw_fd()));
        end
    }

    fn send(&self, request: u32, payload: &[u8], fd: Option<RawFd>) {
        let head = [request, 1, payload.len() as u32].map(u32::to_ne_bytes).concat();
        let mut bytes = [&head[..], payload].concat();
        let Some(fd) = fd else { return (&self.line).write_all(&bytes).unwrap() };
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = [0_u64; 4];
        // SAFETY: all zeroes is a value of it; what it points to afterwards are live locals of the stated sizes, and
        // the control buffer is aligned and has room for one descriptor.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let first = libc::CMSG_FIRSTHDR(&message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(fd);
            libc::sendmsg(self.line.as_raw_fd(), &message, 0)
        };
        assert_eq!(sent as usize, bytes.len());
    }

    /// Sends a request and waits for its answer, of 8 bytes: all earlier requests are done by then.
    fn request(&self, request: u32, payload: &[u8], size: usize) -> u64 {
        self.send(request, payload, None);
        let mut answer = vec![0; 12 + size];
        (&self.line).read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], request as u8);
        u64::from_ne_bytes(answer[12..20].try_into().unwrap())
    }

    fn features(&self, features: u64) {
        self.send(SET_FEATURES, &features.to_ne_bytes(), None);
        self.sync();
    }

    fn sync(&self) {
        self.request(GET_FEATURES, &[], 8);
    }

    /// Starts both rings: 0 is the one the guest receives from.
    fn start(&self) {
        for ring in 0..2_u32 {
            let state = |n: u32| [ring, n].map(u32::to_ne_bytes).concat();
            let at = USER + RING * u64::from(ring);
            self.send(SET_VRING_NUM, &state(RING_SIZE), None);
            self.send(SET_VRING_BASE, &state(u32::from(if ring == 0 { self.used() } else { 0 })), None);
            let places = [u64::from(ring), at, at + 0x2000, at + 0x1000, 0];
            self.send(SET_VRING_ADDR, &places.map(u64::to_ne_bytes).concat(), None);
            let ring = u64::from(ring).to_ne_bytes();
            self.send(SET_VRING_CALL, &ring, Some(self.signals[1].as_raw_fd()));
            self.send(SET_VRING_KICK, &ring, Some(self.signals[0].as_raw_fd()));
        }
        self.sync();
    }

    /// Stops the ring that the guest receives from.
    fn stop(&self) -> u32 {
        let state = self.request(GET_VRING_BASE, &[0_u32, 0].map(u32::to_ne_bytes).concat(), 8);
        (state >> 32) as u32
    }

    /// Gives the port one more buffer to fill.
    fn give(&mut self) {
        let slot = u64::from(self.given) % u64::from(RING_SIZE);
        let descriptor =
            [&(BUFFERS + slot * 0x1000).to_ne_bytes()[..], &0x1000_u32.to_ne_bytes(), &[2, 0, 0, 0]].concat();
        self.memory.write_all_at(&descriptor, slot * 16).unwrap();
        self.memory.write_all_at(&(slot as u16).to_ne_bytes(), 0x1000 + 4 + slot * 2).unwrap();
        self.given += 1;
        self.memory.write_all_at(&self.given.to_ne_bytes(), 0x1000 + 2).unwrap();
    }

    /// How many buffers the port filled.
    fn used(&self) -> u16 {
        let mut index = [0; 2];
        self.memory.read_exact_at(&mut index, 0x2000 + 2).unwrap();
        u16::from_ne_bytes(index)
    }

    fn received(&self, slot: u64, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len];
        self.memory.read_exact_at(&mut frame, BUFFERS + slot * 0x1000 + NET_HEADER).unwrap();
        frame
    }
}

/// Waits until the port reports a link change.
fn wait_for_link_event(events: &Receiver<PortEvent>) {
    loop {
        if events.recv_timeout(Duration::from_secs(10)).expect("an event") == PortEvent::Link {
            return;
        }
    }
}

fn assert_no_link_event(events: &Receiver<PortEvent>) {
    assert!(events.try_iter().all(|event| event != PortEvent::Link));
}

const DETACHED: VhostState = VhostState { attached: false, logs_dirty: false };
const ATTACHED: VhostState = VhostState { attached: true, logs_dirty: false };
const MIGRATING: VhostState = VhostState { attached: true, logs_dirty: true };

/// Arguments for a port at each socket, and one that is no vhost-user port.
fn eal_args(sockets: &[PathBuf]) -> Vec<String> {
    let mut args: Vec<String> =
        ["--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", "--lcores", "0@0"]
            .map(str::to_owned)
            .into();
    args.push("--log-level=lib.vhost.config:warning".into());
    args.push("--vdev=net_null0".into());
    for (i, socket) in sockets.iter().enumerate() {
        args.push(format!("--vdev=net_vhost{i},iface={}", socket.display()));
    }
    args
}

#[test]
fn attach_migrate_and_detach() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = [dir.path().join("0"), dir.path().join("1")];
    let eal = Eal::init(&eal_args(&sockets)).unwrap();
    let pool = Mempool::create(&eal, "pool", 1023, 0, 2176, None).unwrap();
    let port = |name| Device::find(&eal, name).unwrap().configure(&PortConfig::default(), &pool).unwrap();
    assert!(port("net_null0").vhost().is_none());

    // A port that was not started yet is not attached although a front end is connected: the driver's queues name
    // device 0, which is another port's.
    let (other, port) = (port("net_vhost0"), port("net_vhost1"));
    let (other_vhost, vhost) = (other.vhost().unwrap(), port.vhost().unwrap());
    let other_queues = other.start().unwrap();
    let first = FrontEnd::connect(&sockets[0]);
    first.start();
    assert_eq!((other_vhost.state(), vhost.state()), (ATTACHED, DETACHED));

    first.features(FEATURES | LOG_ALL);
    let (sender, events) = channel();
    port.on_event(move |event| _ = sender.send(event)).unwrap();
    let second = FrontEnd::connect(&sockets[1]);
    second.start();
    wait_for_link_event(&events);
    assert_eq!((other_vhost.state(), vhost.state(), port.link().up), (MIGRATING, DETACHED, true));
    let mut queues = port.start().unwrap();
    assert_eq!(vhost.state(), ATTACHED);
    drop(second);
    wait_for_link_event(&events);
    first.features(FEATURES);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));

    attach_and_migrate(&sockets[1], &port, &vhost, &events, &mut queues, &pool);
    assert_eq!(other_vhost.state(), ATTACHED, "nothing of this was the other port's");
    first.features(FEATURES | LOG_ALL);
    assert_eq!((other_vhost.state(), vhost.state()), (MIGRATING, DETACHED));

    // The handle does not keep the port from being stopped, started and closed.
    drop(queues);
    port.stop().unwrap();
    assert_eq!(vhost.state(), DETACHED);
    let queues = port.start().unwrap();
    assert_eq!(
        (vhost.state(), vhost.clone().state(), port.vhost().unwrap().state()),
        (DETACHED, DETACHED, DETACHED)
    );

    attach_and_detach_while_polled(&sockets[1], &vhost, &events);

    assert_eq!(format!("{vhost:?}"), "VhostPort(net_vhost1)");
    drop((queues, port));
    assert_eq!(vhost.state(), DETACHED, "closed");
    assert_eq!(events.recv().ok(), None, "the handler was dropped with the port");
    drop((other_queues, other));
    assert_eq!(other_vhost.state(), DETACHED);
    assert_eq!(pool.in_use(), 0);
}

fn attach_and_migrate(
    socket: &Path,
    port: &Port,
    vhost: &VhostPort,
    events: &Receiver<PortEvent>,
    queues: &mut Queues,
    pool: &Mempool,
) {
    let mut burst = Burst::new();
    let frame = |i: u8| {
        let mut m = Mbuf::from_slice(pool, &[i; 60]).unwrap();
        // Not even headers: what a driver writes into a frame that it then does not take would be seen.
        m.mark_unfinished(Unfinished { gso: None });
        m
    };
    (0..4).for_each(|i| burst.push(frame(i)).unwrap());
    assert_eq!((queues.tx[0].burst(&mut burst), burst.len()), (0, 4), "no front end");

    let mut guest = FrontEnd::connect(socket);
    assert_eq!(vhost.state(), DETACHED, "no rings yet");
    assert_no_link_event(events);
    guest.start();
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (ATTACHED, true));

    refused_by_a_guest_without_checksums(&mut queues.tx[0], pool);

    // The ring takes as many as it has buffers; the others do not change.
    assert_eq!(queues.tx[0].burst(&mut burst), 0, "a full ring is like none");
    guest.give();
    assert_eq!((queues.tx[0].burst(&mut burst), burst.len(), guest.used()), (1, 3, 1));
    assert_eq!(guest.received(0, 60), [0; 60]);
    for (m, i) in burst.iter().zip(1..) {
        assert_eq!((m.head(), m.unfinished()), (&[i; 60][..], Some(Unfinished { gso: None })));
    }

    migrate_and_fail(&mut guest, port, vhost, events, &mut queues.tx[0], &mut burst);

    assert_no_link_event(events);
    drop(guest);
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));
}

/// A migration that fails, with three frames in `burst`. What is written is logged; then the rings stop. The state is
/// new when the answer is there.
fn migrate_and_fail(
    guest: &mut FrontEnd,
    port: &Port,
    vhost: &VhostPort,
    events: &Receiver<PortEvent>,
    tx: &mut TxQueue,
    burst: &mut Burst,
) {
    assert_no_link_event(events);
    guest.features(FEATURES | LOG_ALL);
    assert_eq!(vhost.state(), MIGRATING);
    assert_no_link_event(events);
    guest.give();
    guest.give();
    assert_eq!((tx.burst(burst), burst.len(), guest.used()), (2, 1, 3), "it still receives");
    guest.give();
    assert_eq!(guest.stop(), 3, "what was taken is what was delivered");
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));
    assert_eq!((tx.burst(burst), guest.used()), (0, 3), "a stopped ring takes nothing");

    // It failed: the rings start again, and what waited is delivered.
    guest.start();
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (MIGRATING, true));
    guest.features(FEATURES);
    assert_eq!(vhost.state(), ATTACHED);
    assert_eq!((tx.burst(burst), guest.used()), (1, 4));
    assert_eq!(guest.received(3, 60), [3; 60]);
}

/// Ones' complement sum of 16-bit words (RFC 1071); all ones over what carries its own right checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Our guest takes no unfinished frames. The ring is full, so the driver returns ours; it must not return as one
/// whose checksum is neither complete nor requested.
fn refused_by_a_guest_without_checksums(tx: &mut TxQueue, pool: &Mempool) {
    let mut frame = vec![0_u8; 14 + 20 + 20 + 10];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..].iter_mut().zip(1..).for_each(|(byte, i)| *byte = i);
    frame[46] = 0x50;
    let mut m = Mbuf::from_slice(pool, &frame).unwrap();
    let ip = IpHeader::V4 { checksum: false };
    assert!(m.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ip,
        l4: L4Offload::Tcp,
        tso_segsz: 0
    }));
    let mut burst = Burst::new();
    burst.push(m).unwrap();
    for _ in 0..2 {
        assert_eq!((tx.burst(&mut burst), burst.len()), (0, 1));
        let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 30];
        let complete = sum(&[&pseudo, &burst[0].head()[34..]]) == 0xffff;
        assert_eq!(burst[0].unfinished(), (!complete).then_some(Unfinished { gso: None }));
        assert_eq!((&burst[0].head()[..50], &burst[0].head()[52..]), (&frame[..50], &frame[52..]));
    }
}

/// Reading the state must not touch a device that is being freed. The result is always a possible state: never "logs".
fn attach_and_detach_while_polled(socket: &Path, vhost: &VhostPort, events: &Receiver<PortEvent>) {
    let done = Arc::new(AtomicBool::new(false));
    let poller = std::thread::spawn({
        let (vhost, done) = (vhost.clone(), done.clone());
        move || {
            let (mut attached, mut detached) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) {
                match vhost.state() {
                    ATTACHED => attached += 1,
                    DETACHED => detached += 1,
                    other => panic!("{other:?}"),
                }
            }
            (attached, detached)
        }
    });
    for _ in 0..50 {
        let guest = FrontEnd::connect(socket);
        guest.start();
        wait_for_link_event(events);
        while vhost.state() != ATTACHED {
            std::thread::yield_now();
        }
        drop(guest);
        wait_for_link_event(events);
    }
    done.store(true, Ordering::Relaxed);
    let (attached, detached) = poller.join().unwrap();
    assert!(attached > 0 && detached > 0);
}
