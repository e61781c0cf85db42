//! What the checks of a port's values share: the words of their errors, and VLANs.

use crate::{
    fault::{Checked, Fault, fault},
    text::Wrong,
};
use stopover_net::VlanId;

/// Adds field and spelling to a refusal.
pub(super) fn refusal(at: String, what: &str, s: impl std::fmt::Display) -> impl FnOnce(Wrong) -> Fault {
    let found = format!("{what} `{s}`");
    move |w| fault(at, found, w.expected, w.hint)
}

/// Adds the port to what was found.
pub(super) fn of(what: &str, port: &str) -> String {
    format!("in port `{port}` {what}")
}

/// A VLAN of a port.
pub(super) fn vlan(at: &str, port: &str, n: i64) -> Checked<VlanId> {
    u16::try_from(n).ok().and_then(|n| VlanId::new(n).ok()).ok_or_else(|| {
        fault(
            at,
            of(&format!("VLAN `{n}`"), port),
            "a VLAN from 1 to 4094",
            "correct it; untagged frames belong to `vni`",
        )
    })
}
