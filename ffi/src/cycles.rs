//! The time stamp counter: the clock of the data path, read without a system call.

use crate::sys;

/// The counter now, in ticks of [`tsc_hz`]. Not ordered against the instructions around it.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: RDTSC exists on every x86_64 CPU and touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: reads a counter.
        unsafe { sys::shim_tsc() }
    }
}

/// Ticks per second, as EAL measured it at its start; 0 before.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a global that EAL sets once.
    unsafe { sys::rte_get_tsc_hz() }
}
