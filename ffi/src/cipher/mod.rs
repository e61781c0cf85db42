//! AES-GCM by ipsec-mb, called directly, one text after the other. Enters: keys, nonces, additional data, texts.
//! Leaves: the same texts sealed or opened in place, and tags. Knows no SA and no sequence number: that a nonce comes
//! once under a key is its caller's work.
//!
//! GCM gains nothing from many texts at once, so the library's jobs and bursts are not used. Each lcore has a [`Gcm`]
//! of its own, with a manager of the library in it. Keys are made by any of them, are read only, and are used by all.
//!
//! The library returns silently on a bad parameter, and leaves the text as it was. So each parameter is of a type that
//! cannot be bad, or is checked before; and a [`Gcm`] exists only if it gave the known answers.

mod memory;
#[cfg(test)]
mod tests;

pub use memory::{KeyMemory, KeyMemoryStats};

use crate::error::{Error, ErrorKind};
use crate::sys;
use memory::{ALIGNMENT, CONTENT_LEN, Slot};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;
/// Bytes of a text or of additional data at most: far below the limits of AES-GCM (2^36 - 32) and of the library.
const MOST: usize = 1 << 30;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a key before the powers of the hash key: 15 round keys.
const ROUND_KEYS: usize = 15 * BLOCK;
const BLOCK: usize = 16;

const _: () = assert!(size_of::<sys::gcm_context_data>() <= CONTENT_LEN);
const _: () = assert!(align_of::<sys::gcm_context_data>() <= ALIGNMENT);
// The two ways in which keys of 1.3 lie. Another version needs another look.
const _: () = assert!(cfg!(not(target_arch = "x86_64")) || CONTENT_LEN == ROUND_KEYS + 48 * BLOCK);

type Expand = unsafe extern "C" fn(*const core::ffi::c_void, *mut sys::gcm_key_data);
type Run = unsafe extern "C" fn(
    *const sys::gcm_key_data,
    *mut sys::gcm_context_data,
    *mut u8,
    *const u8,
    u64,
    *const u8,
    *const u8,
    u64,
    *mut u8,
    u64,
);

/// Why a text is not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcmFailure {
    /// Text or additional data are longer than 2^30 bytes. The text is as before.
    TooLong,
    /// The tag is wrong. The text is zeros.
    BadTag,
}

/// A function for each size of key.
#[derive(Debug, Clone, Copy)]
struct BySize<F> {
    bits128: F,
    bits256: F,
}

impl<F: Copy> BySize<F> {
    #[inline(always)]
    fn get(self, size: KeySize) -> F {
        match size {
            KeySize::Bits128 => self.bits128,
            KeySize::Bits256 => self.bits256,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeySize {
    Bits128,
    Bits256,
}

impl KeySize {
    /// Bytes of its round keys.
    const fn round_keys(self) -> usize {
        match self {
            Self::Bits128 => 11 * BLOCK,
            Self::Bits256 => ROUND_KEYS,
        }
    }
}

/// How a key lies in its slot, behind the round keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Powers {
    /// 8 powers of the hash key, of which each text needs some.
    Eight,
    /// 48 powers up to the end; the first, which short texts need, is the last.
    FortyEight,
}

/// AES-GCM for one lcore.
pub struct Gcm {
    manager: Manager,
    expand: BySize<Expand>,
    seal: BySize<Run>,
    open: BySize<Run>,
    /// The library's notes on the text at hand, which depend on the key.
    context: Slot,
    memory: KeyMemory,
}

/// A manager of the library.
struct Manager(sys::shim_gcm);

// SAFETY: the manager belongs to no thread, and only its owner uses it.
unsafe impl Send for Manager {}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: it was created, and is freed once.
        unsafe { sys::shim_gcm_free(&self.0) };
    }
}

impl Manager {
    fn new() -> Result<Self, Error> {
        // SAFETY: returns a number.
        let version = unsafe { sys::shim_gcm_version() };
        if version != sys::SHIM_GCM_VERSION {
            return Err(unusable(format!(
                "version {version:#x} is loaded, and this program is built with {:#x}",
                sys::SHIM_GCM_VERSION
            )));
        }
        let mut gcm = std::mem::MaybeUninit::uninit();
        // SAFETY: it has this version, and all of the struct is written.
        let (rc, gcm) = unsafe { (sys::shim_gcm_create(gcm.as_mut_ptr()), gcm.assume_init()) };
        if rc != 0 {
            return Err(unusable(format!("it starts with error {rc}")));
        }
        let manager = Self(gcm);
        if manager.lacks(sys::SHIM_GCM_AES) {
            return Err(unusable("the processor lacks AES-NI or PCLMULQDQ"));
        }
        if !manager.lacks(sys::SHIM_GCM_TESTED) && manager.lacks(sys::SHIM_GCM_TEST_PASSED) {
            return Err(unusable("its self-test fails"));
        }
        Ok(manager)
    }

    fn lacks(&self, features: u64) -> bool {
        self.0.features & features != features
    }
}

fn unusable(why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Refused, format!("ipsec-mb cannot be used: {why}"))
        .hint("the portable engine works on every machine, at a third of the speed")
}

impl Gcm {
    /// A manager of the library, whose keys are in this memory.
    ///
    /// # Errors
    /// The processor has no AES instructions, the library is another than that of the build, gives wrong answers, or
    /// there is no memory.
    pub fn new(memory: &KeyMemory) -> Result<Self, Error> {
        let manager = Manager::new()?;
        let sys::shim_gcm { expand_128, expand_256, seal_128, seal_256, open_128, open_256, .. } = manager.0;
        let incomplete = || unusable("it has no functions for AES-GCM");
        let mut gcm = Self {
            expand: pair(expand_128, expand_256).ok_or_else(incomplete)?,
            seal: pair(seal_128, seal_256).ok_or_else(incomplete)?,
            open: pair(open_128, open_256).ok_or_else(incomplete)?,
            manager,
            context: memory.take()?,
            memory: memory.clone(),
        };
        if gcm.answers_rightly()? { Ok(gcm) } else { Err(unusable("it gives wrong answers")) }
    }

    /// The instructions that the library uses, for logs.
    #[must_use]
    pub fn instructions(&self) -> &'static str {
        match (self.powers(), self.manager.0.arch) {
            (Powers::FortyEight, _) => "AVX-512 and VAES",
            (_, 5) => "AVX-512",
            (_, 4) => "AVX2",
            (_, 3) => "AVX",
            _ => "SSE",
        }
    }

    fn powers(&self) -> Powers {
        if self.manager.lacks(sys::SHIM_GCM_WIDE) { Powers::Eight } else { Powers::FortyEight }
    }

    /// The expanded key.
    ///
    /// # Errors
    /// It has neither 16 nor 32 bytes, or there is no memory.
    pub fn expand(&self, key: &[u8]) -> Result<GcmKey, Error> {
        let size = match key.len() {
            16 => KeySize::Bits128,
            32 => KeySize::Bits256,
            len => {
                let what = format!("a key of AES-GCM has {len} bytes");
                return Err(Error::new(ErrorKind::Invalid, what).hint("it has 16 or 32"));
            }
        };
        let slot = self.memory.take()?;
        // SAFETY: the function reads as many bytes as the size has, which `key` has, and writes a `gcm_key_data`, which
        // is the content of a slot, aligned to 64 bytes. Nobody else has the slot yet.
        unsafe { self.expand.get(size)(key.as_ptr().cast(), slot.as_ptr().cast()) };
        Ok(GcmKey { slot, size, powers: self.powers() })
    }

    /// Seals a text in place, and writes its tag.
    ///
    /// # Errors
    /// Text or additional data are too long. They must not be sent.
    #[inline]
    pub fn seal(
        &mut self,
        key: &GcmKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), GcmFailure> {
        let seal = self.seal.get(key.size);
        self.run(seal, key, nonce, aad, text, tag)
    }

    /// Opens a text in place. The tag is compared in constant time.
    ///
    /// # Errors
    /// The tag is wrong, or text or additional data are too long.
    #[inline]
    pub fn open(
        &mut self,
        key: &GcmKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), GcmFailure> {
        let open = self.open.get(key.size);
        let mut computed = [0; TAG_LEN];
        self.run(open, key, nonce, aad, text, &mut computed)?;
        if u128::from_ne_bytes(computed).ct_eq(&u128::from_ne_bytes(*tag)).into() {
            return Ok(());
        }
        text.zeroize();
        Err(GcmFailure::BadTag)
    }

    #[inline(always)]
    fn run(
        &mut self,
        function: Run,
        key: &GcmKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), GcmFailure> {
        if text.len() > MOST || aad.len() > MOST {
            return Err(GcmFailure::TooLong);
        }
        let bytes = text.as_mut_ptr();
        // SAFETY: the key is expanded, by a manager that chose the same functions: the choice depends on the processor
        // only. Nobody writes to it. The context is ours, `&mut self`. Nonce and tag have the lengths that GCM has;
        // text and additional data are as long as given, and no pointer is null. Source and destination of a text may
        // be the same.
        unsafe {
            function(
                key.slot.as_ptr().cast(),
                self.context.as_ptr().cast(),
                bytes,
                bytes,
                text.len() as u64,
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len() as u64,
                tag.as_mut_ptr(),
                TAG_LEN as u64,
            );
        }
        Ok(())
    }

    /// Whether it seals and opens a text of Project Wycheproof as known, with each size of key, and no forged one.
    fn answers_rightly(&mut self) -> Result<bool, Error> {
        for &(key, nonce, text, sealed, tag) in KNOWN {
            let key = self.expand(key)?;
            let (mut buffer, mut computed) = (*text, [0; TAG_LEN]);
            let right = self.seal(&key, nonce, &[], &mut buffer, &mut computed).is_ok()
                && (&buffer, &computed) == (sealed, tag)
                && self.open(&key, nonce, &[], &mut buffer, tag).is_ok()
                && buffer == *text
                && self.open(&key, nonce, &[0], &mut buffer, tag) == Err(GcmFailure::BadTag);
            if !right {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gcm({})", self.instructions())
    }
}

fn pair<F>(bits128: Option<F>, bits256: Option<F>) -> Option<BySize<F>> {
    Some(BySize { bits128: bits128?, bits256: bits256? })
}

/// An expanded key. It is read only. A clone is the same key, for another lcore; the last one wipes it.
#[derive(Clone)]
pub struct GcmKey {
    slot: Slot,
    size: KeySize,
    powers: Powers,
}

impl GcmKey {
    /// Has the parts that a text of this length needs brought into the first cache.
    #[inline]
    pub fn prefetch(&self, text_len: usize) {
        match self.powers {
            Powers::Eight => self.lines(0, ROUND_KEYS + 8 * BLOCK),
            Powers::FortyEight => {
                // With the blocks of additional data and of the lengths.
                let powers = (text_len / BLOCK + 3).min(48);
                self.lines(0, self.size.round_keys());
                self.lines(ROUND_KEYS + (48 - powers) * BLOCK, ROUND_KEYS + 48 * BLOCK);
            }
        }
    }

    #[inline(always)]
    fn lines(&self, from: usize, to: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (from / LINE * LINE..to).step_by(LINE) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint about an address, which is inside of the slot.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.slot.as_ptr().add(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (from, to);
    }
}

impl fmt::Debug for GcmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GcmKey(secret)")
    }
}

type Known =
    (&'static [u8], &'static [u8; NONCE_LEN], &'static [u8; 16], &'static [u8; 16], &'static [u8; TAG_LEN]);

/// Key, nonce, text, sealed text and tag, without additional data (Project Wycheproof).
const KNOWN: &[Known] = &[
    (
        b"\x5b\x96\x04\xfe\x14\xea\xdb\xa9\x31\xb0\xcc\xf3\x48\x43\xda\xb9",
        b"\x02\x83\x18\xab\xc1\x82\x40\x29\x13\x81\x41\xa2",
        b"\x00\x1d\x0c\x23\x12\x87\xc1\x18\x27\x84\x55\x4c\xa3\xa2\x19\x08",
        b"\x26\x07\x3c\xc1\xd8\x51\xbe\xff\x17\x63\x84\xdc\x98\x96\xd5\xff",
        b"\x0a\x3e\xa7\xa5\x48\x7c\xb5\xf7\xd7\x0f\xb6\xc5\x8d\x03\x85\x54",
    ),
    (
        b"\x59\xd4\xea\xfb\x4d\xe0\xcf\xc7\xd3\xdb\x99\xa8\xf5\x4b\x15\xd7\xb3\x9f\x0a\xcc\x8d\xa6\x97\x63\xb0\x19\xc1\x69\x9f\x87\x67\x4a",
        b"\x2f\xcb\x1b\x38\xa9\x9e\x71\xb8\x47\x40\xad\x9b",
        b"\x54\x9b\x36\x5a\xf9\x13\xf3\xb0\x81\x13\x1c\xcb\x6b\x82\x55\x88",
        b"\xf5\x8c\x16\x69\x01\x22\xd7\x53\x56\x90\x7f\xd9\x6b\x57\x0f\xca",
        b"\x28\x75\x2c\x20\x15\x30\x92\x81\x8f\xab\xa2\xa3\x34\x64\x0d\x6e",
    ),
];
