//! A host, by its id.

use super::fields::{declared_by, declared_by_number, host_name, ip, ip_bytes, ips, ips_bytes};
use crate::{
    model::{DeclaredBy, Host, HostDetails, Nic, PublicKey, ShortName},
    table::{Record, Table},
};
use prost::Message;
use std::net::IpAddr;
use stopover_net::HostName;

/// A host, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// Name, unique.
    pub name: HostName,
    /// 1 to 4.
    pub vteps: Vec<IpAddr>,
    /// VXLAN port, host byte order.
    pub udp_port: u16,
    /// Who declared it.
    pub declared_by: DeclaredBy,
    /// Whether it is up.
    pub up: bool,
    /// Down for longer than the grace: flooded frames are not sent to it.
    pub no_flood: bool,
    /// When it went down, milliseconds since 1970; 0 = it is up, or the time is not known.
    pub down_unix_ms: u64,
    /// Of its machine, as it registered last.
    pub details: HostDetails,
}

impl HostRecord {
    /// The same host, up.
    #[must_use]
    pub fn brought_up(&self) -> Self {
        Self { up: true, no_flood: false, down_unix_ms: 0, ..self.clone() }
    }

    /// As watchers see it.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Host {
        Host {
            id,
            name: self.name.clone(),
            vteps: self.vteps.clone(),
            udp_port: self.udp_port,
            declared_by: self.declared_by,
            up: self.up,
            no_flood: self.no_flood,
            down_unix_ms: self.down_unix_ms,
            details: self.details.clone(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredHost {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    vteps: Vec<Vec<u8>>,
    #[prost(uint32, tag = "4")]
    udp_port: u32,
    /// 1 its appliance, 2 the operator.
    #[prost(uint32, tag = "5")]
    declared_by: u32,
    #[prost(bool, tag = "6")]
    up: bool,
    #[prost(bool, tag = "7")]
    no_flood: bool,
    #[prost(uint64, tag = "8")]
    down_unix_ms: u64,
    #[prost(message, repeated, tag = "9")]
    nics: Vec<StoredNic>,
    #[prost(string, repeated, tag = "10")]
    capabilities: Vec<String>,
    /// Empty or 32 bytes.
    #[prost(bytes = "vec", tag = "11")]
    public_key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredNic {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    address: Vec<u8>,
    #[prost(uint32, tag = "3")]
    mtu: u32,
}

impl From<&Nic> for StoredNic {
    fn from(nic: &Nic) -> Self {
        let Nic { name, address, mtu } = nic;
        Self { name: name.as_str().to_owned(), address: ip_bytes(address), mtu: (*mtu).into() }
    }
}

impl StoredNic {
    fn read(self) -> Option<Nic> {
        let (name, address) = (ShortName::new(self.name)?, ip(&self.address)?);
        Some(Nic { name, address, mtu: self.mtu.try_into().ok()? })
    }
}

fn public_key(bytes: &[u8]) -> Option<Option<PublicKey>> {
    if bytes.is_empty() {
        return Some(None);
    }
    bytes.try_into().ok().and_then(PublicKey::new).map(Some)
}

impl Record for HostRecord {
    const TABLE: Table = Table("hosts");
    type Key = u32;

    fn encode(&self, id: u32) -> Vec<u8> {
        let Self { name, vteps, udp_port, declared_by, up, no_flood, down_unix_ms, details } = self;
        let stored = StoredHost {
            id,
            name: name.as_str().to_owned(),
            vteps: ips_bytes(vteps),
            udp_port: (*udp_port).into(),
            declared_by: declared_by_number(*declared_by),
            up: *up,
            no_flood: *no_flood,
            down_unix_ms: *down_unix_ms,
            nics: details.nics.iter().map(Into::into).collect(),
            capabilities: details.capabilities.iter().map(|name| name.as_str().to_owned()).collect(),
            public_key: details.public_key.map_or_else(Vec::new, |key| key.bytes().to_vec()),
        };
        stored.encode_to_vec()
    }

    fn decode(_: u32, bytes: &[u8]) -> Option<Self> {
        let m = StoredHost::decode(bytes).ok()?;
        Some(Self {
            name: host_name(m.name)?,
            vteps: ips(&m.vteps)?,
            udp_port: m.udp_port.try_into().ok()?,
            declared_by: declared_by(m.declared_by)?,
            up: m.up,
            no_flood: m.no_flood,
            down_unix_ms: m.down_unix_ms,
            details: HostDetails {
                nics: m.nics.into_iter().map(StoredNic::read).collect::<Option<_>>()?,
                capabilities: m.capabilities.into_iter().map(ShortName::new).collect::<Option<_>>()?,
                public_key: public_key(&m.public_key)?,
            },
        })
    }
}
