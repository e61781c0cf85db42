//! What all conversions from the wire share: the error that names a field, and addresses.

use std::{
    fmt::{self, Display},
    net::IpAddr,
};

/// A field of a message that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Path of the field, outermost first, such as `claims[3].mac`.
    pub path: String,
    what: String,
}

impl BadField {
    /// An error with what was found and what was expected.
    pub fn new(path: impl Into<String>, found: impl Display, expected: impl Display) -> Self {
        Self { path: path.into(), what: format!("found {found}; expected {expected}") }
    }

    pub(super) fn with_text(path: impl Into<String>, what: impl Display) -> Self {
        Self { path: path.into(), what: what.to_string() }
    }

    /// The same error with `outer` in front of the path.
    #[must_use]
    pub fn within(mut self, outer: impl Display) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }

    pub(super) fn indexed(self, list: &str, i: usize) -> Self {
        self.within(format_args!("{list}[{i}]"))
    }
}

impl Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

impl std::error::Error for BadField {}

/// A checked field, or the error.
pub type Checked<T> = Result<T, BadField>;

/// Four or sixteen bytes: an address that one station may own.
pub fn ip(field: &str, bytes: &[u8]) -> Checked<IpAddr> {
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(v6)
    } else {
        let found = format!("{} bytes", bytes.len());
        return Err(BadField::new(field, found, "an IPv4 address of 4 bytes or an IPv6 address of 16"));
    };
    let broadcast = matches!(ip, IpAddr::V4(a) if a.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err(BadField::new(field, ip, "a unicast address that one station may own"));
    }
    Ok(ip)
}
