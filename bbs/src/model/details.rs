//! What a host's appliance tells of its machine: underlay NICs, capabilities, public key. Peers choose paths by it.

use serde::{Serialize, Serializer};
use std::{fmt, net::IpAddr};

/// Most entries of [`HostDetails::capabilities`].
pub const MAX_CAPABILITIES: usize = 32;
/// Smallest MTU of a NIC: what IPv4 asks of every link (RFC 791 section 3.2).
pub const MIN_NIC_MTU: u16 = 68;

/// A short name: 1 to 32 of `A-Z a-z 0-9 . _ -`, as that of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ShortName(String);

impl ShortName {
    /// `None` if `text` is not such a name.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=32).contains(&text.len()) && text.bytes().all(allowed)).then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address of an underlay NIC. A NIC with several addresses has several entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Nic {
    /// The port's name at its appliance.
    pub name: ShortName,
    /// A VTEP address of the host.
    pub address: IpAddr,
    /// Largest outer IP packet in bytes, at least [`MIN_NIC_MTU`].
    pub mtu: u16,
}

/// The static public key of a host, not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// `None` for zero, which is no key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Option<Self> {
        (bytes != [0; 32]).then_some(Self(bytes))
    }

    /// The bytes, as on the wire.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// See the module. Empty for a host that the operator declared, or whose appliance is of an earlier version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct HostDetails {
    /// At most [`super::MAX_VTEPS`], each address once.
    pub nics: Vec<Nic>,
    /// At most [`MAX_CAPABILITIES`], each once. A name that is not known means nothing.
    pub capabilities: Vec<ShortName>,
    /// `None`: the host has none.
    pub public_key: Option<PublicKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_ports() {
        for good in ["u", "ul0", "a.b_c-D", &"x".repeat(32)] {
            assert_eq!(ShortName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(33)] {
            assert_eq!(ShortName::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_public_key_is_printed_as_hexadecimal_and_is_not_zero() {
        assert_eq!(PublicKey::new([0; 32]), None);
        let key = PublicKey::new([0xa5; 32]).unwrap();
        assert_eq!(key.to_string(), "a5".repeat(32));
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{}\"", "a5".repeat(32)));
    }
}
