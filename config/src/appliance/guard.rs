//! Checks of what a guarded vif may send besides frames from its own addresses. Enters: the raw keys of one vif.
//! Leaves: pairs without repetition, and nothing where the guard is off and would not use them.

use super::{
    AllowedPair,
    prefix::addresses,
    raw,
    refusals::{of, refusal},
};
use crate::{
    fault::{Checked, fault},
    text,
};
use stopover_net::Mac;

/// Most pairs of one vif: they are searched one by one.
const MAX_PAIRS: usize = 64;

/// The keys as in the file.
pub(super) struct Keys {
    pub allowed: Option<Vec<raw::Allowed>>,
    pub router: Option<bool>,
    pub dhcp_server: Option<bool>,
}

/// `mac`: the vif's own; `on`: its guard is on.
pub(super) fn check(at: &str, port: &str, mac: Mac, on: bool, keys: Keys) -> Checked<Vec<AllowedPair>> {
    let given = [
        ("allowed", keys.allowed.is_some()),
        ("router", keys.router.is_some()),
        ("dhcp_server", keys.dhcp_server.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given && !on) {
        return Err(fault(
            format!("{at}.{key}"),
            of(&format!("`{key}` beside guard: false"), port),
            "it with the guard on, which is what it makes exceptions from",
            "remove it, because without the guard the port may send anything; or remove guard: false",
        ));
    }
    let mut pairs = Vec::new();
    for (i, raw) in keys.allowed.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{at}.allowed[{i}]");
        let prefix = addresses(&format!("{at}.ip"), port, &raw.ip)?;
        let mac = match raw.mac {
            None => mac,
            Some(s) => text::station_mac(&s).map_err(refusal(
                format!("{at}.mac"),
                &of("MAC", port),
                s.escape_debug(),
            ))?,
        };
        let pair = AllowedPair { mac, prefix };
        if pairs.contains(&pair) {
            return Err(fault(
                at,
                of(&format!("{prefix} with MAC {mac} again"), port),
                "each pair once",
                "remove the repetition",
            ));
        }
        pairs.push(pair);
    }
    if pairs.len() > MAX_PAIRS {
        return Err(fault(
            format!("{at}.allowed"),
            format!("{} pairs in port `{port}`", pairs.len()),
            format!("at most {MAX_PAIRS}"),
            "join addresses into prefixes, or use guard: false for a VM that routes",
        ));
    }
    Ok(pairs)
}
