//! Loads and stores in network byte order at positions known when compiling. A position that does not fit
//! its array does not compile, so none of these can panic.

/// Big-endian 16 bits at byte `AT`.
#[inline(always)]
pub(crate) const fn be16<const AT: usize, const N: usize>(b: &[u8; N]) -> u16 {
    const { assert!(AT + 2 <= N) };
    u16::from_be_bytes([b[AT], b[AT + 1]])
}

/// Big-endian 32 bits at byte `AT`.
#[inline(always)]
pub(crate) fn be32<const AT: usize, const N: usize>(b: &[u8; N]) -> u32 {
    u32::from_be_bytes(array::<AT, 4, N>(b))
}

/// Big-endian 64 bits at byte `AT`.
#[inline(always)]
pub(crate) fn be64<const AT: usize, const N: usize>(b: &[u8; N]) -> u64 {
    u64::from_be_bytes(array::<AT, 8, N>(b))
}

/// 64 bits at byte `AT` in the order of this processor, for comparison and masks only.
#[inline(always)]
pub(crate) fn ne64<const AT: usize, const N: usize>(b: &[u8; N]) -> u64 {
    u64::from_ne_bytes(array::<AT, 8, N>(b))
}

/// One byte at `AT`.
#[inline(always)]
pub(crate) const fn byte<const AT: usize, const N: usize>(b: &[u8; N]) -> u8 {
    const { assert!(AT < N) };
    b[AT]
}

/// `LEN` bytes from `AT`.
#[inline(always)]
pub(crate) fn array<const AT: usize, const LEN: usize, const N: usize>(b: &[u8; N]) -> [u8; LEN] {
    const { assert!(AT + LEN <= N) };
    let mut out = [0; LEN];
    out.copy_from_slice(&b[AT..AT + LEN]);
    out
}

/// Stores `bytes` at `AT`.
#[inline(always)]
pub(crate) fn put<const AT: usize, const LEN: usize, const N: usize>(b: &mut [u8; N], bytes: [u8; LEN]) {
    const { assert!(AT + LEN <= N) };
    b[AT..AT + LEN].copy_from_slice(&bytes);
}

/// The `N` bytes of `buf` from `off`, if they are all there.
#[inline(always)]
pub(crate) fn at<const N: usize>(buf: &[u8], off: usize) -> Option<&[u8; N]> {
    buf.get(off..)?.first_chunk()
}

/// The `N` bytes of `buf` from `off`, to be changed in place, if they are all there.
#[inline(always)]
pub(crate) fn at_mut<const N: usize>(buf: &mut [u8], off: usize) -> Option<&mut [u8; N]> {
    buf.get_mut(off..)?.first_chunk_mut()
}
