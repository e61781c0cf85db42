//! A front end of the vhost-user protocol: what QEMU is for a guest.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
pub const FEATURES: u64 = 1 << 15 | 1 << 32;
pub const LOG_ALL: u64 = 1 << 26;
pub const GUEST_CSUM: u64 = 1 << 1;
pub const EVENT_IDX: u64 = 1 << 29;

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
pub struct FrontEnd {
    line: UnixStream,
    memory: File,
    /// Ends of pipes instead of event descriptors: neither is read.
    signals: Vec<OwnedFd>,
    given: u16,
}

impl FrontEnd {
    pub fn connect(path: &Path) -> Self {
        Self::on(UnixStream::connect(path).unwrap())
    }

    /// On this connection.
    pub fn on(line: UnixStream) -> Self {
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

    pub fn features(&self, features: u64) {
        self.send(SET_FEATURES, &features.to_ne_bytes(), None);
        self.sync();
    }

    fn sync(&self) {
        self.request(GET_FEATURES, &[], 8);
    }

    /// Starts both rings: 0 is the one the guest receives from.
    pub fn start(&self) {
        self.start_pairs(1);
    }

    /// Starts so many pairs of rings.
    pub fn start_pairs(&self, pairs: u32) {
        for ring in 0..2 * pairs {
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
    pub fn stop(&self) -> u32 {
        let state = self.request(GET_VRING_BASE, &[0_u32, 0].map(u32::to_ne_bytes).concat(), 8);
        (state >> 32) as u32
    }

    /// Whether the other side has hung up.
    pub fn is_closed(&self) -> bool {
        (&self.line).read(&mut [0]).unwrap() == 0
    }

    /// Gives the port one more buffer to fill.
    pub fn give(&mut self) {
        let slot = u64::from(self.given) % u64::from(RING_SIZE);
        let descriptor =
            [&(BUFFERS + slot * 0x1000).to_ne_bytes()[..], &0x1000_u32.to_ne_bytes(), &[2, 0, 0, 0]].concat();
        self.memory.write_all_at(&descriptor, slot * 16).unwrap();
        self.memory.write_all_at(&(slot as u16).to_ne_bytes(), 0x1000 + 4 + slot * 2).unwrap();
        self.given += 1;
        self.memory.write_all_at(&self.given.to_ne_bytes(), 0x1000 + 2).unwrap();
    }

    /// Asks to be notified of this entry of ring 0, as a driver does that has seen all before it.
    pub fn wait_for(&self, entry: u16) {
        self.memory.write_all_at(&entry.to_ne_bytes(), 0x1000 + 4 + u64::from(RING_SIZE) * 2).unwrap();
    }

    /// How many buffers the port filled.
    pub fn used(&self) -> u16 {
        let mut index = [0; 2];
        self.memory.read_exact_at(&mut index, 0x2000 + 2).unwrap();
        u16::from_ne_bytes(index)
    }

    pub fn received(&self, slot: u64, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len];
        self.memory.read_exact_at(&mut frame, BUFFERS + slot * 0x1000 + NET_HEADER).unwrap();
        frame
    }
}
