//! The details of a host: model to wire and wire to model.

use super::{
    emit,
    fields::{BadField, Checked, ip},
    v1,
};
use crate::model::{HostDetails, MAX_CAPABILITIES, MAX_VTEPS, MIN_NIC_MTU, Nic, PublicKey, ShortName};
use std::net::IpAddr;

impl From<&HostDetails> for v1::HostDetails {
    fn from(details: &HostDetails) -> Self {
        let nic = |nic: &Nic| v1::Nic {
            name: nic.name.as_str().to_owned(),
            address: emit::ip(&nic.address),
            mtu: nic.mtu.into(),
        };
        Self {
            nics: details.nics.iter().map(nic).collect(),
            capabilities: details.capabilities.iter().map(|name| name.as_str().to_owned()).collect(),
            public_key: details.public_key.map_or_else(Vec::new, |key| key.bytes().to_vec()),
        }
    }
}

/// The details of a host with these VTEPs. Absent: of a program of before.
pub(super) fn parse(field: &str, m: Option<v1::HostDetails>, vteps: &[IpAddr]) -> Checked<HostDetails> {
    let Some(m) = m else { return Ok(HostDetails::default()) };
    let parse = || {
        Ok(HostDetails {
            nics: nics(m.nics, vteps)?,
            capabilities: names("capabilities", m.capabilities, MAX_CAPABILITIES)?,
            public_key: public_key(&m.public_key)?,
        })
    };
    parse().map_err(|e: BadField| e.within(field))
}

fn at_most<T>(field: &str, list: &[T], most: usize) -> Checked<()> {
    if list.len() > most {
        let found = format!("{} entries", list.len());
        return Err(BadField::new(field, found, format_args!("at most {most}; hint: name those in use")));
    }
    Ok(())
}

fn short_name(field: &str, text: String) -> Checked<ShortName> {
    let length = text.len();
    ShortName::new(text).ok_or_else(|| {
        let expected = "1 to 32 of A-Z a-z 0-9 . _ -; hint: rename it where it is configured";
        BadField::new(field, format_args!("{length} bytes that are no short name"), expected)
    })
}

/// Short names, each once.
pub(super) fn names(field: &str, list: Vec<String>, most: usize) -> Checked<Vec<ShortName>> {
    at_most(field, &list, most)?;
    let mut names = Vec::with_capacity(list.len());
    for (i, text) in list.into_iter().enumerate() {
        let at = format!("{field}[{i}]");
        let name = short_name(&at, text)?;
        if names.contains(&name) {
            return Err(BadField::new(at, format_args!("{name} a second time"), "each name once"));
        }
        names.push(name);
    }
    Ok(names)
}

fn nics(list: Vec<v1::Nic>, vteps: &[IpAddr]) -> Checked<Vec<Nic>> {
    at_most("nics", &list, MAX_VTEPS)?;
    let mut nics: Vec<Nic> = Vec::with_capacity(list.len());
    for (i, m) in list.into_iter().enumerate() {
        let nic = nic(m, vteps).map_err(|e| e.indexed("nics", i))?;
        if nics.iter().any(|other| other.address == nic.address) {
            let found = format!("{} a second time", nic.address);
            return Err(BadField::new(format!("nics[{i}].address"), found, "each address once"));
        }
        nics.push(nic);
    }
    Ok(nics)
}

fn nic(m: v1::Nic, vteps: &[IpAddr]) -> Checked<Nic> {
    let address = ip("address", &m.address)?;
    if !vteps.contains(&address) {
        return Err(BadField::new("address", address, "one of `vteps`; hint: list it there too"));
    }
    let mtu = u16::try_from(m.mtu).ok().filter(|mtu| *mtu >= MIN_NIC_MTU);
    let expected = || {
        BadField::new("mtu", m.mtu, format_args!("{MIN_NIC_MTU} to 65535 bytes; hint: set `mtu` of the port"))
    };
    Ok(Nic { name: short_name("name", m.name)?, address, mtu: mtu.ok_or_else(expected)? })
}

fn public_key(bytes: &[u8]) -> Checked<Option<PublicKey>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = <[u8; 32]>::try_from(bytes).ok().and_then(PublicKey::new);
    let found = if bytes.len() == 32 { "32 zeros".to_owned() } else { format!("{} bytes", bytes.len()) };
    let expected = "a key of 32 bytes, or nothing; hint: make the key of the host anew";
    key.map(Some).ok_or_else(|| BadField::new("public_key", found, expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn vteps() -> Vec<IpAddr> {
        vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]
    }

    fn wire() -> v1::HostDetails {
        let nic = |name: &str, address: &IpAddr, mtu| v1::Nic {
            name: name.into(),
            address: emit::ip(address),
            mtu,
        };
        v1::HostDetails {
            nics: vec![nic("ul0", &vteps()[0], 1600), nic("ul0", &vteps()[1], 65_535)],
            capabilities: vec!["vxlan".into(), "end-markers".into()],
            public_key: vec![7; 32],
        }
    }

    #[test]
    fn details_are_read_as_sent() {
        let details = parse("details", Some(wire()), &vteps()).unwrap();
        assert_eq!((details.nics[1].name.as_str(), details.nics[1].mtu), ("ul0", 65_535));
        assert_eq!(v1::HostDetails::from(&details), wire());
        assert_eq!(parse("details", None, &vteps()).unwrap(), HostDetails::default());
    }

    #[test]
    fn each_broken_field_is_named() {
        type Break = fn(&mut v1::HostDetails);
        let cases: [(&str, &str, Break); 13] = [
            ("nics", "found 5 entries; expected at most 4", |m| m.nics = vec![v1::Nic::default(); 5]),
            ("nics[0].name", "hint: rename", |m| m.nics[0].name.clear()),
            ("nics[1].name", "33 bytes", |m| m.nics[1].name = "x".repeat(33)),
            ("nics[1].address", "10.0.0.1 a second time", |m| m.nics[1].address = vec![10, 0, 0, 1]),
            ("nics[0].address", "10.0.0.9; expected one of `vteps`", |m| m.nics[0].address[3] = 9),
            ("nics[0].address", "found 3 bytes", |m| m.nics[0].address = vec![1; 3]),
            ("nics[0].mtu", "found 67; expected 68 to 65535", |m| m.nics[0].mtu = 67),
            ("nics[0].mtu", "found 65536", |m| m.nics[0].mtu = 65_536),
            ("capabilities", "at most 32", |m| m.capabilities = (0..33).map(|n| format!("c{n}")).collect()),
            ("capabilities[2]", "vxlan a second time", |m| m.capabilities.push("vxlan".into())),
            ("capabilities[0]", "no short name", |m| m.capabilities[0] = "a\nb".into()),
            ("public_key", "found 31 bytes; expected a key of 32", |m| m.public_key.truncate(31)),
            ("public_key", "found 32 zeros", |m| m.public_key = vec![0; 32]),
        ];
        for (path, text, change) in cases {
            let mut m = wire();
            change(&mut m);
            let why = parse("details", Some(m), &vteps()).unwrap_err();
            assert_eq!(why.path, format!("details.{path}"));
            assert!(why.to_string().contains(text), "{why}");
        }
    }

    proptest! {
        /// Whatever arrives, the result is within its bounds, and is sent as it was received.
        #[test]
        fn what_is_accepted_is_within_its_bounds(
            nics in vec((".{0,34}", vec(any::<u8>(), 0..18), any::<u32>()), 0..18),
            capabilities in vec("[a-z/]{0,2}", 0..34),
            public_key in vec(0..3u8, 0..34),
        ) {
            let nics = nics.into_iter().map(|(name, address, mtu)| v1::Nic { name, address, mtu }).collect();
            let m = v1::HostDetails { nics, capabilities, public_key };
            if let Ok(details) = parse("details", Some(m.clone()), &vteps()) {
                prop_assert!(details.nics.len() <= 2 && details.capabilities.len() <= MAX_CAPABILITIES);
                prop_assert_eq!(v1::HostDetails::from(&details), m);
            }
        }
    }
}
