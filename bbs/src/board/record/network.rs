//! The declaration of a network, by VNI.

use super::fields::{flood, flood_number};
use crate::{
    model::Network,
    table::{Record, Table},
};
use prost::Message;
use stopover_net::Vni;

#[derive(Clone, PartialEq, prost::Message)]
struct StoredNetwork {
    #[prost(uint32, tag = "1")]
    vni: u32,
    #[prost(string, tag = "2")]
    name: String,
    /// 1 flood, 2 drop, 3 to segments.
    #[prost(uint32, tag = "3")]
    flood: u32,
    #[prost(uint32, tag = "4")]
    mtu: u32,
}

impl Record for Network {
    const TABLE: Table = Table("networks");
    type Key = Vni;

    fn encode(&self, _: Vni) -> Vec<u8> {
        let Self { vni, name, flood, mtu } = self;
        let flood = flood_number(*flood);
        StoredNetwork { vni: vni.get(), name: name.clone(), flood, mtu: (*mtu).into() }.encode_to_vec()
    }

    fn decode(vni: Vni, bytes: &[u8]) -> Option<Self> {
        let m = StoredNetwork::decode(bytes).ok()?;
        Some(Self { vni, name: m.name, flood: flood(m.flood)?, mtu: m.mtu.try_into().ok()? })
    }
}
