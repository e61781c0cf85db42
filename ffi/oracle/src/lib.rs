//! For tests: ESP in transport mode by librte_ipsec, with the cipher of a DPDK crypto device. Enters: keys, IPv4
//! packets. Leaves: the same packets sealed or opened, or the errno of librte_ipsec. It shares no code with the tunnel:
//! not the ESP layer, not the replay window, and with the device `crypto_openssl` not the cipher.

use dpdk::Eal;
use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

#[repr(C)]
struct RawDevice {
    id: u8,
    pools: [*mut c_void; 3],
}

#[repr(C)]
struct RawConf {
    key: *const u8,
    key_len: u16,
    salt: [u8; 4],
    spi: u32,
    sequence: u64,
    window: u32,
    esn: c_int,
    outbound: c_int,
}

enum RawSa {}

unsafe extern "C" {
    fn oracle_start(name: *const c_char, device: *mut RawDevice) -> c_int;
    fn oracle_create(device: *const RawDevice, conf: *const RawConf, created: *mut *mut RawSa) -> c_int;
    fn oracle_run(sa: *mut RawSa, packet: *mut u8, len: *mut usize, room: usize) -> c_int;
    fn oracle_free(sa: *mut RawSa);
}

/// An errno of librte_ipsec or of DPDK, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What is done with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// They are sealed, from this sequence number on.
    Seal {
        /// The first one.
        first: u64,
    },
    /// They are opened, with a replay window.
    Open {
        /// The highest sequence number that the window has already.
        last: u64,
        /// Its size.
        window: u32,
    },
}

/// A crypto device, started.
pub struct Device<'a> {
    raw: Box<RawDevice>,
    _eal: PhantomData<&'a Eal>,
}

impl<'a> Device<'a> {
    /// The device of this name, which EAL has, as `--vdev=crypto_openssl`. Once in a process.
    ///
    /// # Errors
    /// There is none, or it cannot start.
    pub fn start(_eal: &'a Eal, name: &str) -> Result<Self, Errno> {
        let name = CString::new(name).map_err(|_| Errno(22))?;
        let mut raw = Box::new(RawDevice { id: 0, pools: [std::ptr::null_mut(); 3] });
        // SAFETY: EAL runs; name and device live during the call.
        check(unsafe { oracle_start(name.as_ptr(), &mut *raw) })?;
        Ok(Self { raw, _eal: PhantomData })
    }

    /// An SA in transport mode over IPv4, with AES-GCM.
    ///
    /// # Errors
    /// librte_ipsec or the device refuses it.
    pub fn sa(
        &self,
        key: &[u8],
        salt: [u8; 4],
        spi: u32,
        esn: bool,
        direction: Direction,
    ) -> Result<Sa<'_>, Errno> {
        let (outbound, sequence, window) = match direction {
            Direction::Seal { first } => (true, first, 0),
            Direction::Open { last, window } => (false, last, window),
        };
        let conf = RawConf {
            key: key.as_ptr(),
            key_len: u16::try_from(key.len()).map_err(|_| Errno(22))?,
            salt,
            spi,
            sequence,
            window,
            esn: esn.into(),
            outbound: outbound.into(),
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the device is started, and outlives the SA by its lifetime; it does not move, as it is in a box. The
        // key lives during the call, which copies it.
        check(unsafe { oracle_create(&*self.raw, &conf, &mut raw) })?;
        Ok(Sa { raw: NonNull::new(raw).ok_or(Errno(12))?, _device: PhantomData })
    }
}

/// An SA of librte_ipsec.
pub struct Sa<'a> {
    raw: NonNull<RawSa>,
    _device: PhantomData<&'a Device<'a>>,
}

impl Sa<'_> {
    /// Seals or opens a packet: an IPv4 header of 20 bytes, and what follows it.
    ///
    /// # Errors
    /// librte_ipsec refuses it.
    pub fn run(&mut self, packet: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut bytes = [packet, &[0; 64]].concat();
        let mut len = packet.len();
        // SAFETY: the SA was created and is not freed; the vector has `len` bytes to read and as many to write as
        // given.
        check(unsafe { oracle_run(self.raw.as_ptr(), bytes.as_mut_ptr(), &mut len, bytes.len()) })?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl Drop for Sa<'_> {
    fn drop(&mut self) {
        // SAFETY: it was created, and is freed once.
        unsafe { oracle_free(self.raw.as_ptr()) };
    }
}

fn check(rc: c_int) -> Result<(), Errno> {
    if rc == 0 { Ok(()) } else { Err(Errno(-rc)) }
}
