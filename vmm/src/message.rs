//! One message of the vhost-user protocol (QEMU's docs/interop/vhost-user.rst): a header of twelve bytes, its payload, and
//! file descriptors beside it. Enters: bytes of a VMM or of librte_vhost. Leaves: a message, or why it is none; of a VMM's,
//! what it changes. Integers have the byte order of the machine.

/// Bytes of a header: the request, flags, the length of the payload.
pub const HEADER: usize = 12;
/// Most bytes behind a header. The longest of a NIC, a table of eight regions, has 264.
pub const MAX_PAYLOAD: usize = 4096;
/// Most descriptors beside a message: one for each region of memory (`VHOST_MEMORY_BASELINE_NREGIONS`).
pub const MAX_FDS: usize = 8;

/// The version of the protocol, and its bits among the flags.
const VERSION: u32 = 1;
const VERSION_BITS: u32 = 3;
/// The sender waits for a reply, if `VHOST_USER_PROTOCOL_F_REPLY_ACK` was negotiated.
const NEEDS_REPLY: u32 = 1 << 3;

/// Numbers of requests.
pub(crate) mod request {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_LOG_FD: u32 = 7;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SEND_RARP: u32 = 19;
    pub const NET_SET_MTU: u32 = 20;
    pub const SET_BACKEND_REQ_FD: u32 = 21;
    pub const GET_CONFIG: u32 = 24;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
    pub const SET_STATUS: u32 = 39;
    pub const GET_STATUS: u32 = 40;
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Of another version of the protocol.
    #[error(
        "found version {0} of the vhost-user protocol; expected {VERSION}; hint: use a VMM that speaks it"
    )]
    Version(u32),
    /// Its payload is too long.
    #[error("found a payload of {0} bytes; expected at most {MAX_PAYLOAD}; hint: the VMM must be for a NIC")]
    Length(u32),
    /// It has too many descriptors.
    #[error(
        "found more than {MAX_FDS} descriptors beside a message; expected one per region of memory at most; hint: give the guest fewer regions"
    )]
    Descriptors,
    /// It is cut off.
    #[error("found {found} bytes; expected {expected}; hint: both processes must be of this version")]
    Cut {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

/// A header with a length that can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which request.
    pub request: u32,
    /// Version and others.
    pub flags: u32,
    /// Of the payload.
    len: usize,
}

impl Header {
    /// # Errors
    /// It cannot be the header of a message.
    pub fn parse(bytes: [u8; HEADER]) -> Result<Self, MessageError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let (request, flags) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let len = u32::from_ne_bytes([i, j, k, l]);
        if flags & VERSION_BITS != VERSION {
            return Err(MessageError::Version(flags & VERSION_BITS));
        }
        let fits = usize::try_from(len).ok().filter(|len| *len <= MAX_PAYLOAD);
        let len = fits.ok_or(MessageError::Length(len))?;
        Ok(Self { request, flags, len })
    }

    /// Bytes of the whole message.
    #[must_use]
    pub const fn total(&self) -> usize {
        HEADER + self.len
    }
}

/// A message with descriptors of type `F`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<F> {
    /// Which request it is, or answers.
    pub request: u32,
    flags: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    payload: Vec<u8>,
    /// At most [`MAX_FDS`].
    fds: Vec<F>,
}

impl<F> Message<F> {
    /// The message that these bytes are.
    ///
    /// # Errors
    /// They are none, or more or less than one.
    pub fn parse(bytes: &[u8], fds: Vec<F>) -> Result<Self, MessageError> {
        let cut = |expected| MessageError::Cut { found: bytes.len(), expected };
        let (head, payload) = bytes.split_first_chunk::<HEADER>().ok_or(cut(HEADER))?;
        let header = Header::parse(*head)?;
        if payload.len() != header.len {
            return Err(cut(header.total()));
        }
        if fds.len() > MAX_FDS {
            return Err(MessageError::Descriptors);
        }
        Ok(Self { request: header.request, flags: header.flags, payload: payload.to_vec(), fds })
    }

    /// A request of ours. Nobody waits for a reply that it does not have anyway.
    pub(crate) fn new(request: u32, payload: &[u8], fds: Vec<F>) -> Self {
        Self { request, flags: VERSION, payload: payload.to_vec(), fds }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let head = [self.request, self.flags, self.payload.len() as u32];
        let mut bytes = head.map(u32::to_ne_bytes).concat();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// What is behind the header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The descriptors beside it.
    #[must_use]
    pub fn fds(&self) -> &[F] {
        &self.fds
    }

    /// The same, of the descriptors of another.
    pub(crate) fn borrowed(&self) -> Message<&F> {
        Message {
            request: self.request,
            flags: VERSION,
            payload: self.payload.clone(),
            fds: self.fds.iter().collect(),
        }
    }

    /// Its sender waits for a reply, if that was negotiated.
    pub(crate) const fn needs_reply(&self) -> bool {
        self.flags & NEEDS_REPLY != 0
    }

    /// A payload that is one integer.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.payload.as_slice().try_into().ok()?))
    }

    /// A payload that is a ring and an integer.
    pub(crate) fn ring_state(&self) -> Option<(u8, u32)> {
        let (ring, value) = self.payload.split_first_chunk::<4>()?;
        let ring = u8::try_from(u32::from_ne_bytes(*ring)).ok()?;
        Some((ring, u32::from_ne_bytes(value.try_into().ok()?)))
    }

    /// What it changes, if it is a VMM's.
    #[must_use]
    pub fn change(&self) -> Change {
        use request::*;
        let state = |change: fn(u32) -> RingChange| {
            self.ring_state().map(|(ring, value)| Change::Ring(ring, change(value)))
        };
        let change = match self.request {
            GET_FEATURES
            | GET_PROTOCOL_FEATURES
            | GET_QUEUE_NUM
            | GET_CONFIG
            | GET_MAX_MEM_SLOTS
            | GET_STATUS
            | SEND_RARP => Some(Change::Nothing),
            // What is logged to matters while it is logged (`VHOST_F_LOG_ALL`).
            SET_LOG_BASE | SET_LOG_FD => return Change::Nothing,
            SET_OWNER => Some(Change::Owner),
            RESET_OWNER => Some(Change::Reset),
            SET_FEATURES => self.number().map(Change::Features),
            SET_PROTOCOL_FEATURES => self.number().map(Change::Protocol),
            NET_SET_MTU => self.number().map(|_| Change::Mtu),
            SET_STATUS => self.number().map(|_| Change::Status),
            SET_VRING_NUM => state(RingChange::Num),
            SET_VRING_BASE => state(RingChange::Base),
            SET_VRING_ENABLE => state(RingChange::Enable),
            GET_VRING_BASE => state(|_| RingChange::Stop),
            SET_VRING_ADDR => self.address().map(|ring| Change::Ring(ring, RingChange::Addr)),
            _ => return self.change_by_fds().unwrap_or(Change::Unknown),
        };
        change.filter(|_| self.fds.is_empty()).unwrap_or(Change::Unknown)
    }

    /// The same of a message that may have descriptors.
    fn change_by_fds(&self) -> Option<Change> {
        use request::*;
        let ring = |change| {
            // Bits 0 to 7 are the ring, bit 8: there is no descriptor.
            let word = self.number()?;
            let has_fd = word & 1 << 8 == 0;
            let fits = word >> 9 == 0 && self.fds.len() == usize::from(has_fd);
            fits.then_some(Change::Ring((word & 0xff) as u8, change))
        };
        let has_one = self.fds.len() == 1;
        match self.request {
            SET_VRING_KICK => ring(RingChange::Kick),
            SET_VRING_CALL => ring(RingChange::Call),
            SET_VRING_ERR => ring(RingChange::Err),
            SET_MEM_TABLE => {
                let regions = u32::from_ne_bytes(*self.payload.first_chunk()?) as usize;
                (regions == self.fds.len()).then_some(Change::Memory)
            }
            ADD_MEM_REG => has_one.then_some(Change::AddRegion),
            // Some VMMs give the descriptor again.
            REM_MEM_REG => (self.payload.len() == REGION).then_some(Change::RemoveRegion),
            SET_BACKEND_REQ_FD => has_one.then_some(Change::Channel),
            _ => None,
        }
    }

    /// The ring of its addresses.
    fn address(&self) -> Option<u8> {
        let (ring, _) = self.payload.split_first_chunk::<4>().filter(|_| self.payload.len() == ADDRESS)?;
        u8::try_from(u32::from_ne_bytes(*ring)).ok()
    }
}

impl<F: Clone> Message<&F> {
    /// The same, of its own descriptors.
    #[cfg(any(test, feature = "exercise"))]
    pub(crate) fn cloned(&self) -> Message<F> {
        let fds = self.fds.iter().map(|fd| (*fd).clone()).collect();
        Message { request: self.request, flags: self.flags, payload: self.payload.clone(), fds }
    }
}

/// Bytes of the addresses of a ring: its number, flags, four addresses.
const ADDRESS: usize = 40;
/// Bytes of a single region: eight that are unused, its address, its length, the VMM's address, the offset.
pub(crate) const REGION: usize = 40;

/// What a message of a VMM changes at the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that stays.
    Nothing,
    /// The VMM owns the session.
    Owner,
    /// All is as at the beginning.
    Reset,
    /// Virtio features.
    Features(u64),
    /// Features of the protocol.
    Protocol(u64),
    /// The MTU.
    Mtu,
    /// How far the guest's driver is.
    Status,
    /// All memory.
    Memory,
    /// One more region of memory.
    AddRegion,
    /// One region less.
    RemoveRegion,
    /// The channel by which the back end asks the VMM.
    Channel,
    /// Something of this ring.
    Ring(u8, RingChange),
    /// It is of no kind that this program knows for a NIC.
    Unknown,
}

/// What a message changes of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingChange {
    /// How many entries it has.
    Num(u32),
    /// Where it continues.
    Base(u32),
    /// Where it is.
    Addr,
    /// It starts; its notifications come here.
    Kick,
    /// Notifications go there.
    Call,
    /// Errors go there.
    Err,
    /// It is enabled, or not.
    Enable(u32),
    /// It stops.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(request: u32, payload: &[u8], fds: usize) -> Message<usize> {
        Message::new(request, payload, (0..fds).collect())
    }

    #[test]
    fn what_a_message_changes_depends_on_its_payload_and_descriptors() {
        let ring = |ring: u32, value: u32| [ring, value].map(u32::to_ne_bytes).concat();
        let table = |regions: u32| [regions, 0].map(u32::to_ne_bytes).concat();
        for (request, payload, fds, change) in [
            (1, vec![], 0, Change::Nothing),
            (1, vec![], 1, Change::Unknown),
            (2, 7_u64.to_ne_bytes().to_vec(), 0, Change::Features(7)),
            (2, vec![0; 7], 0, Change::Unknown),
            (8, ring(3, 256), 0, Change::Ring(3, RingChange::Num(256))),
            (8, ring(256, 256), 0, Change::Unknown),
            (9, [ring(4, 0), vec![0; 32]].concat(), 0, Change::Ring(4, RingChange::Addr)),
            (9, ring(4, 0), 0, Change::Unknown),
            (11, ring(255, 0), 0, Change::Ring(255, RingChange::Stop)),
            (12, 5_u64.to_ne_bytes().to_vec(), 1, Change::Ring(5, RingChange::Kick)),
            (12, 5_u64.to_ne_bytes().to_vec(), 0, Change::Unknown),
            (13, 0x105_u64.to_ne_bytes().to_vec(), 0, Change::Ring(5, RingChange::Call)),
            (13, 0x105_u64.to_ne_bytes().to_vec(), 1, Change::Unknown),
            (14, 0x205_u64.to_ne_bytes().to_vec(), 1, Change::Unknown),
            (5, table(2), 2, Change::Memory),
            (5, table(2), 1, Change::Unknown),
            (6, vec![0; 16], 1, Change::Nothing),
            (21, vec![0; 8], 1, Change::Channel),
            (21, vec![0; 8], 0, Change::Unknown),
            (38, vec![0; 40], 0, Change::RemoveRegion),
            // Post-copy, the shared state of requests, and whatever comes later.
            (28, vec![], 0, Change::Unknown),
            (31, vec![0; 24], 0, Change::Unknown),
            (1000, vec![], 0, Change::Unknown),
        ] {
            assert_eq!(message(request, &payload, fds).change(), change, "{request} {payload:?} {fds}");
        }
    }

    #[test]
    fn errors_tell_what_was_found() {
        let head = |words: [u32; 3]| words.map(u32::to_ne_bytes).concat();
        for (bytes, fds, part) in [
            (head([1, 2, 0]), 0, "version 2"),
            (head([1, 1, 4097]), 0, "4097 bytes"),
            (head([1, 1, 1]), 0, "found 12 bytes; expected 13"),
            (head([1, 1, 0])[..11].to_vec(), 0, "found 11 bytes; expected 12"),
            (head([1, 1, 0]), 9, "more than 8 descriptors"),
        ] {
            let why = Message::parse(&bytes, vec![(); fds]).unwrap_err().to_string();
            assert!(why.contains(part) && why.contains("hint: "), "{why}");
        }
    }

    proptest! {
        #[test]
        fn a_message_is_its_bytes(request: u32, payload in prop::collection::vec(any::<u8>(), 0..64), fds in 0..9_usize) {
            let sent = message(request, &payload, fds);
            prop_assert_eq!(Message::parse(&sent.bytes(), (0..fds).collect()), Ok(sent));
        }
    }
}
