//! Errors of this crate: the action that failed, DPDK's own messages, and a hint.
//! Enters: return codes and `rte_errno`. Leaves: one sentence for the operator. Not for drops in the data path,
//! which are counts, not errors.

use std::ffi::CStr;
use std::fmt;

use crate::sys;

/// The kind of an [`Error`], for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// EAL did not start.
    Eal,
    /// EAL was started before in this process; DPDK allows it once.
    AlreadyStarted,
    /// There is no such DPDK device.
    NoSuchDevice,
    /// The device, lcore or queue is in use already.
    Busy,
    /// An argument cannot be used (a NUL in a name, a pool of no buffers).
    Invalid,
    /// DPDK or its driver refused.
    Refused,
    /// The function run on an lcore panicked.
    Panicked,
}

/// An error with its cause and a hint. Displays as `what: cause; DPDK says: …; hint: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    errno: Option<i32>,
    log: Vec<String>,
    hint: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), errno: None, log: Vec::new(), hint: None }
    }

    /// From a DPDK return code: negative errno, or -1 with the reason in `rte_errno`.
    pub(crate) fn from_rc(what: impl Into<String>, rc: i32) -> Self {
        let errno = if rc < -1 { -rc } else { last_errno() };
        Self { errno: (errno != 0).then_some(errno), ..Self::new(ErrorKind::Refused, what) }
    }

    /// From a call that returns its reason in `rte_errno` only.
    pub(crate) fn from_errno(kind: ErrorKind, what: impl Into<String>) -> Self {
        let errno = last_errno();
        Self { errno: (errno != 0).then_some(errno), ..Self::new(kind, what) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the errors DPDK logged since [`clear_log`] or the last error.
    pub(crate) fn with_log(mut self) -> Self {
        self.log = take_log();
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The positive errno DPDK gave, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// The action that failed, without cause and hint.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How to correct it, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            write!(f, ": {} (errno {errno})", errno_text(errno))?;
        }
        if !self.log.is_empty() {
            write!(f, "; DPDK says: {}", self.log.join(" / "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

fn last_errno() -> i32 {
    // SAFETY: reads a thread-local integer; valid before and after EAL.
    unsafe { sys::shim_errno() }
}

/// Clears the errors logged so far, to separate them from those of the next call.
pub(crate) fn clear_log() {
    take_log();
}

fn take_log() -> Vec<String> {
    let mut bytes = vec![0_u8; 2048];
    // SAFETY: at most as many bytes are written as the vector has.
    let len = unsafe { sys::shim_log_take_errors(bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(len);
    log_lines(&String::from_utf8_lossy(&bytes))
}

/// The lines worth repeating: each once, without the alarm that EAL raises at the end of every failure.
fn log_lines(log: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines().map(|l| l.trim().trim_start_matches("EAL: ").trim_start_matches("FATAL: ")) {
        if !line.is_empty() && line != "Invalid 'command line' arguments." && !lines.iter().any(|l| l == line)
        {
            lines.push(line.to_owned());
        }
    }
    lines
}

fn errno_text(errno: i32) -> String {
    // SAFETY: rte_strerror returns a NUL-terminated string in a per-thread buffer, copied here before any other
    // call of this thread could overwrite it.
    unsafe { CStr::from_ptr(sys::rte_strerror(errno)) }.to_string_lossy().into_owned()
}

/// Text from DPDK: a C array that may lack its terminator.
pub(crate) fn text(chars: &[core::ffi::c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name for C.
pub(crate) fn c_name(name: &str) -> Result<std::ffi::CString, Error> {
    std::ffi::CString::new(name)
        .map_err(|_| Error::new(ErrorKind::Invalid, format!("the name {name:?} contains a NUL character")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_action_cause_and_hint() {
        let e = Error::from_rc("port vm1: start", -12).hint("give it more memory");
        assert_eq!(
            e.to_string(),
            "port vm1: start: Cannot allocate memory (errno 12); hint: give it more memory"
        );
        assert_eq!(
            (e.kind(), e.errno(), e.hint_text()),
            (ErrorKind::Refused, Some(12), Some("give it more memory"))
        );
    }

    #[test]
    fn quotes_each_log_line_of_dpdk_once() {
        let log = "EAL: lcore 7 unavailable\nEAL: FATAL: Cannot x\nEAL: Cannot x\nEAL: Invalid 'command line' arguments.\n\n";
        assert_eq!(log_lines(log), ["lcore 7 unavailable", "Cannot x"]);
        let error = Error { log: log_lines(log), ..Error::new(ErrorKind::Eal, "no EAL") };
        assert_eq!(error.to_string(), "no EAL; DPDK says: lcore 7 unavailable / Cannot x");
    }

    #[test]
    fn without_errno_there_is_no_cause() {
        assert_eq!(Error::new(ErrorKind::Busy, "lcore 1 is busy").to_string(), "lcore 1 is busy");
    }

    #[test]
    fn c_text_ends_at_its_terminator_or_at_the_array() {
        assert_eq!(text(&[b'a' as _, b'b' as _, 0, b'c' as _]), "ab");
        assert_eq!(text(&[b'a' as _, b'b' as _]), "ab");
    }

    #[test]
    fn a_nul_in_a_name_is_refused() {
        assert_eq!(c_name("a\0b").map_err(|e| e.kind()), Err(ErrorKind::Invalid));
    }
}
