//! DPDK's own log, forwarded to the log of the program.

use std::ffi::c_char;
use std::panic::catch_unwind;

use ::log::Level;

use crate::sys;

/// Has DPDK's lines logged with the target `dpdk` instead of written to stderr. Before [`Eal::init`](crate::Eal::init).
pub fn to_logger() {
    // SAFETY: `forward` may be called from any thread at any time; EAL, whose threads would call it, has not started.
    unsafe { sys::shim_log_to(Some(forward)) }
}

unsafe extern "C" fn forward(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the shim lends `len` bytes for the call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    // A logger that panics must not unwind into C; the error cannot be reported.
    let _ = catch_unwind(|| {
        let text = String::from_utf8_lossy(text);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            ::log::log!(target: "dpdk", severity(level), "{line}");
        }
    });
}

fn severity(level: u32) -> Level {
    if level <= sys::SHIM_LOG_ERR {
        Level::Error
    } else if level <= sys::SHIM_LOG_WARNING {
        Level::Warn
    } else if level <= sys::SHIM_LOG_INFO {
        Level::Info
    } else {
        Level::Debug
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_dpdk_have_their_severity() {
        for (level, expected) in [
            (1, Level::Error),
            (4, Level::Error),
            (5, Level::Warn),
            (6, Level::Info),
            (7, Level::Info),
            (8, Level::Debug),
        ] {
            assert_eq!(severity(level), expected, "{level}");
        }
    }
}
