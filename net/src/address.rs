//! Addresses and identifiers: [`Vni`], [`Mac`], [`VlanId`], [`HostName`]. Each can only be made valid,
//! parses from the usual spellings, prints in the canonical one, and serialises as that text or number.

use serde::{Deserialize, Serialize, de};
use std::{fmt, str::FromStr};

/// Why a text or number is not one of this module's types. The message has what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// VXLAN network identifier (RFC 7348 section 5): 24 bits, 1 to 16777215. Zero is refused: it is the value
/// of a forgotten field, and several implementations treat it as "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Vni(u32);

impl Vni {
    /// Largest VNI that 24 bits hold.
    pub const MAX: u32 = 0x00ff_ffff;
    /// The smallest one.
    pub const ONE: Self = Self(1);

    /// Checks the range.
    pub fn new(value: u32) -> Result<Self, Invalid> {
        Self::from_field(value)
            .ok_or_else(|| Invalid(format!("VNI {value} is out of range: expected 1 to {}", Self::MAX)))
    }

    /// From a header's field; `None` for 0 and for more than 24 bits hold. As [`Vni::new`], without words about it.
    #[inline(always)]
    #[must_use]
    pub const fn from_field(value: u32) -> Option<Self> {
        if value != 0 && value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number, in host byte order.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let n = s.trim().parse::<u32>().map_err(|_| {
            Invalid(format!("`{s}` is not a VNI: expected a whole number from 1 to {}", Self::MAX))
        })?;
        Self::new(n)
    }
}

impl<'de> Deserialize<'de> for Vni {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// An IEEE 802 MAC address. Any 48-bit value; see [`Mac::station`] for one that may belong to a VM. Kept as a
/// number below 2^48 whose most significant byte is the first on the wire: it is compared, hashed and looked
/// up for every frame, and never touched byte by byte there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(u64);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self(0xffff_ffff_ffff);

    /// From its bytes in transmission order.
    #[inline]
    #[must_use]
    pub const fn new(b: [u8; 6]) -> Self {
        Self(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
    }

    /// Its bytes in transmission order.
    #[inline]
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        let b = self.0.to_be_bytes();
        [b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// The group bit (IEEE 802-2014 section 8.2.2) is set: multicast or broadcast.
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0 & 0x0100_0000_0000 != 0
    }

    /// All bits zero: never a station.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Accepts only what one station may own: not zero, not a group address.
    pub fn station(self) -> Result<Self, Invalid> {
        if self.is_zero() || self.is_group() {
            Err(Invalid(format!(
                "MAC {self} cannot belong to a station: expected a unicast, non-zero address"
            )))
        } else {
            Ok(self)
        }
    }

    /// The address as a number below 2^48; the first byte on the wire is the most significant.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The reverse of [`Mac::to_u64`]; the upper 16 bits are ignored.
    #[inline]
    #[must_use]
    pub const fn from_u64(n: u64) -> Self {
        Self(n & 0xffff_ffff_ffff)
    }

    /// The IPv6 link-local address a host derives from this MAC (modified EUI-64, RFC 4291 appendix A).
    #[must_use]
    pub const fn link_local(self) -> std::net::Ipv6Addr {
        let b = self.octets();
        std::net::Ipv6Addr::from_bits(u128::from_be_bytes([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            b[0] ^ 2,
            b[1],
            b[2],
            0xff,
            0xfe,
            b[3],
            b[4],
            b[5],
        ]))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.octets();
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Invalid;
    /// Accepts six two-digit hexadecimal bytes, all separated by `:` or all by `-`.
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid(format!(
                "`{s}` is not a MAC address: expected six hexadecimal bytes such as 52:54:00:12:34:56"
            ))
        };
        let sep = if s.contains('-') { '-' } else { ':' };
        let mut bytes = [0u8; 6];
        let mut parts = s.split(sep);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self::new(bytes)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// What IPv6 needs of every link, in bytes of an IP packet (RFC 8200 section 5).
pub const IPV6_MIN_MTU: u16 = 1280;

/// An 802.1Q VLAN identifier that may be configured: 1 to 4094 (0 is priority-only, 4095 reserved;
/// IEEE 802.1Q table 9-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VlanId(u16);

impl VlanId {
    /// Checks the range.
    pub fn new(value: u16) -> Result<Self, Invalid> {
        if (1..=4094).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Invalid(format!("VLAN {value} is out of range: expected 1 to 4094")))
        }
    }

    /// The number, in host byte order.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for VlanId {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// The name by which a host is known at the board: 1 to 63 characters of `A-Z a-z 0-9 . _ -`, beginning
/// with a letter or digit, so that it can stand in certificates, file names and metric labels unescaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HostName(String);

impl HostName {
    /// Checks length and characters.
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        let ok = (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        if ok {
            Ok(Self(name))
        } else {
            Err(Invalid(format!(
                "`{}` is not a host name: expected 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
                name.escape_default()
            )))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::new(s)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// What happens in a network to broadcast, multicast and unicast to a MAC that is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodPolicy {
    /// Replicated to every host with a member, and to every local port of the network.
    #[default]
    Flood,
    /// Dropped. Only resolved ARP/ND and registered unicast work.
    Drop,
    /// Broadcast and multicast are replicated as with `flood`; unknown unicast is sent to segments only, where
    /// unregistered stations may be.
    ToSegments,
}

impl FromStr for FloodPolicy {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        match s {
            "flood" => Ok(Self::Flood),
            "drop" => Ok(Self::Drop),
            "to-segments" => Ok(Self::ToSegments),
            _ => Err(Invalid(format!("`{s}` is not a flood policy: expected flood, drop or to-segments"))),
        }
    }
}

impl fmt::Display for FloodPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flood => "flood",
            Self::Drop => "drop",
            Self::ToSegments => "to-segments",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vni_range() {
        assert_eq!(Vni::new(1).map(Vni::get), Ok(1));
        assert_eq!(Vni::new(0x00ff_ffff).map(Vni::get), Ok(16_777_215));
        assert!(Vni::new(0).is_err());
        assert!(Vni::new(0x0100_0000).is_err());
        assert!("100x".parse::<Vni>().is_err());
    }

    #[test]
    fn mac_of_five_bytes_is_refused_with_an_example() {
        let e = "52:54:00:12:34".parse::<Mac>().unwrap_err().to_string();
        assert!(e.contains("six hexadecimal bytes"), "{e}");
        assert!("52:54:00:12:34:56:78".parse::<Mac>().is_err());
        assert!("52:54-00:12:34:56".parse::<Mac>().is_err());
        assert!("+2:54:00:12:34:56".parse::<Mac>().is_err());
    }

    #[test]
    fn link_local_is_modified_eui64() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::5054:ff:fe12:3456");
    }

    #[test]
    fn group_and_zero_are_refused_as_station() {
        assert!(Mac::BROADCAST.station().is_err());
        assert!(Mac::new([0; 6]).station().is_err());
        assert!(Mac::new([1, 0, 0x5e, 0, 0, 1]).station().is_err());
        assert!(Mac::new([2, 0, 0, 0, 0, 1]).station().is_ok());
    }

    #[test]
    fn host_names() {
        assert!(HostName::new("gw-a.example").is_ok());
        for bad in ["", "-a", "a b", "ä", &"x".repeat(64)] {
            assert!(HostName::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn mac_text_and_number_round_trip(bytes: [u8; 6]) {
            let mac = Mac::new(bytes);
            prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
            prop_assert_eq!(Mac::from_u64(mac.to_u64()), mac);
        }
    }
}
