//! What the tests share: a replica built from changes, generated steps, and a board without threads, so that a test can
//! stop it anywhere.

mod commands;
mod replica;
mod rig;
mod steps;

pub use commands::rival;
pub use replica::Replica;
pub use rig::Rig;
pub use steps::{RowStep, Step, step};

use std::{collections::BTreeSet, net::IpAddr};
use stopover_bbs::{board::Absence, model::Claim};
use stopover_net::{HostName, Mac, Vni};

pub const LEASE: u64 = 1000;
/// Long enough to be met now and then.
pub const ABSENCE: Absence = Absence { flood_grace_ms: 2000, forget_after_ms: 9000 };

pub fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}
pub fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}
pub fn name(n: &str) -> HostName {
    HostName::new(n).unwrap()
}
pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}
pub fn claim(n: u32, last: u8, ips: &[&str]) -> Claim {
    Claim::declared(vni(n), mac(last), ips.iter().map(|s| ip(s)).collect())
}

pub fn host_name(h: u8) -> HostName {
    name(&format!("gw-{h}"))
}

pub fn make_ips(ips: &[u8]) -> Vec<IpAddr> {
    let set: BTreeSet<IpAddr> = ips
        .iter()
        .map(|i| match i % 2 {
            0 => IpAddr::from([192, 168, 0, *i + 1]),
            _ => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(*i) + 1]),
        })
        .collect();
    set.into_iter().collect()
}

pub fn make_claim(v: u32, m: u8, ips: &[u8]) -> Claim {
    Claim::declared(vni(v), mac(m), make_ips(ips))
}
