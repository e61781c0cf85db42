//! Packed nodes: the columns of `NodeBatch`, model to wire and wire to model.

use super::{
    emit,
    parse::{BadField, Checked, ip, ip_list, mac, vni},
    v1,
};
use crate::model::{BATCH_NODES, MAX_IPS, NodeBatch, NodeFacts, PackedNode};
use std::net::Ipv4Addr;
use stopover_net::Mac;

impl From<&NodeBatch> for v1::NodeBatch {
    fn from(batch: &NodeBatch) -> Self {
        let nodes = &batch.nodes;
        let more = batch.more.iter().map(|(place, list)| v1::NodeIps { place: *place, ips: emit::ips(list) });
        Self {
            vni: batch.vni.get(),
            macs: nodes.iter().flat_map(|n| n.mac.octets()).collect(),
            host_ids: nodes.iter().map(|n| n.host_id).collect(),
            generations: nodes.iter().map(|n| n.generation).collect(),
            ipv4s: nodes.iter().flat_map(|n| n.ipv4.map_or([0; 4], |ip| ip.octets())).collect(),
            more: more.collect(),
            facts: if nodes.iter().all(|n| n.facts.bits() == 0) {
                Vec::new()
            } else {
                nodes.iter().map(|n| n.facts.bits()).collect()
            },
        }
    }
}

impl TryFrom<v1::NodeBatch> for NodeBatch {
    type Error = BadField;
    fn try_from(m: v1::NodeBatch) -> Checked<Self> {
        let (macs, macs_rest) = m.macs.as_chunks::<6>();
        let (ipv4s, ipv4s_rest) = m.ipv4s.as_chunks::<4>();
        let count = m.host_ids.len();
        if count > BATCH_NODES {
            let expected = format_args!("at most {BATCH_NODES}");
            return Err(BadField::new("host_ids", format_args!("{count} nodes"), expected));
        }
        let columns = [macs.len(), ipv4s.len(), m.generations.len()];
        if !(macs_rest.is_empty() && ipv4s_rest.is_empty()) || columns.iter().any(|n| *n != count) {
            let found = format_args!(
                "{} bytes of MACs, {} of IPv4 addresses, {} generations",
                m.macs.len(),
                m.ipv4s.len(),
                m.generations.len()
            );
            return Err(BadField::new("host_ids", found, format_args!("as many of each as hosts, {count}")));
        }
        if !(m.facts.is_empty() || m.facts.len() == count) {
            let expected = format_args!("as many as hosts, {count}, or none");
            return Err(BadField::new("facts", format_args!("{} bytes", m.facts.len()), expected));
        }
        let mut batch = Self::new(vni("vni", m.vni)?);
        batch.nodes.reserve_exact(count);
        for (i, six) in macs.iter().enumerate() {
            // The place is formatted only for a bad address, by the check that all other messages use.
            let mac = Mac::new(*six).station().or_else(|_| mac(&format!("macs[{i}]"), six))?;
            let ipv4 = match Ipv4Addr::from(ipv4s[i]) {
                Ipv4Addr::UNSPECIFIED => None,
                one if one.is_multicast() || one.is_broadcast() => {
                    return Err(ip(&format!("ipv4s[{i}]"), &ipv4s[i]).err().unwrap_or_else(|| {
                        BadField::new("ipv4s", one, "a unicast address that one station may own")
                    }));
                }
                one => Some(one),
            };
            let (host_id, generation) = (m.host_ids[i], m.generations[i]);
            let facts = NodeFacts::of_bits(m.facts.get(i).copied().unwrap_or(0));
            batch.nodes.push(PackedNode { mac, ipv4, host_id, generation, facts });
        }
        for (i, one) in m.more.into_iter().enumerate() {
            let ascending = batch.more.last().is_none_or(|(before, _)| *before < one.place);
            let ours = batch.nodes.get(one.place as usize).is_some_and(|node| node.ipv4.is_none());
            if !(ascending && ours) {
                let expected = "places of nodes without an entry in `ipv4s`, ascending";
                return Err(BadField::new(format!("more[{i}].place"), one.place, expected));
            }
            let ips = ip_list("ips", &one.ips, MAX_IPS).map_err(|e| e.indexed("more", i))?;
            batch.more.push((one.place, ips));
        }
        Ok(batch)
    }
}

/// The batches of a list.
pub fn parse_list(list: v1::NodeList) -> Checked<Vec<NodeBatch>> {
    let batches = list.batches.into_iter().enumerate();
    batches.map(|(i, m)| NodeBatch::try_from(m).map_err(|e| e.indexed("batches", i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};
    use std::net::IpAddr;
    use stopover_net::Vni;

    /// Batches as a board sends them.
    fn batch() -> impl Strategy<Value = NodeBatch> {
        let ipv4 = (1u32..0xe000_0000).prop_map(Ipv4Addr::from_bits);
        let pair = (1u32..0xe000_0000, 1u128..1 << 120)
            .prop_map(|(a, b)| vec![IpAddr::from(Ipv4Addr::from_bits(a)), IpAddr::from(b.to_be_bytes())]);
        let node = (1u64..1 << 40, any::<u32>(), any::<(u64, u8)>(), option::of(ipv4), option::of(pair));
        vec(node, 0..40).prop_map(|nodes| {
            let mut batch = NodeBatch::new(Vni::new(9).unwrap());
            for (mac, host, (generation, bits), one, pair) in nodes {
                let ips = pair.unwrap_or_else(|| one.map(IpAddr::V4).into_iter().collect());
                let facts = NodeFacts::of_bits(bits);
                batch.push(Mac::from_u64(mac), host, generation, facts, ips.iter().copied());
            }
            batch
        })
    }

    proptest! {
        #[test]
        fn a_batch_survives_the_wire(batch in batch()) {
            prop_assert_eq!(NodeBatch::try_from(v1::NodeBatch::from(&batch)).unwrap(), batch);
        }

        #[test]
        fn columns_of_different_lengths_are_refused(batch in batch(), which in 0..4, more: bool) {
            let mut m = v1::NodeBatch::from(&batch);
            prop_assume!(more || !batch.nodes.is_empty());
            let end = |n: usize| if more { n + 1 } else { n - 1 };
            match which {
                0 => m.macs.resize(end(m.macs.len()), 2),
                1 => m.ipv4s.resize(end(m.ipv4s.len()), 2),
                2 => m.generations.resize(end(m.generations.len()), 2),
                _ => m.host_ids.resize(end(m.host_ids.len()), 2),
            }
            prop_assert!(NodeBatch::try_from(m).unwrap_err().to_string().contains("as many of each"));
        }
    }

    fn refused(change: impl FnOnce(&mut v1::NodeBatch)) -> String {
        let mut batch = NodeBatch::new(Vni::new(9).unwrap());
        let facts = NodeFacts::of_bits(3);
        batch.push(Mac::from_u64(2), 1, 1, facts, ["10.0.0.1".parse().unwrap()].into_iter());
        batch.push(Mac::from_u64(4), 1, 1, facts, ["fd00::1".parse().unwrap()].into_iter());
        let mut m = v1::NodeBatch::from(&batch);
        change(&mut m);
        NodeBatch::try_from(m).unwrap_err().to_string()
    }

    #[test]
    fn impossible_addresses_are_refused_with_their_place() {
        assert!(refused(|m| m.macs[6] = 1).starts_with("macs[1]"));
        assert!(refused(|m| m.ipv4s[..4].fill(255)).starts_with("ipv4s[0]"));
        assert!(refused(|m| m.more[0].place = 0).starts_with("more[0].place"));
        assert!(refused(|m| m.more[0].place = 2).starts_with("more[0].place"));
        assert!(refused(|m| m.more[0].ips[0] = vec![0; 16]).starts_with("more[0].ips[0]"));
        assert!(refused(|m| m.vni = 0).starts_with("vni"));
        assert!(refused(|m| m.facts.truncate(1)).starts_with("facts"));
    }
}
