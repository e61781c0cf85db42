//! Open files: whether the limit of this process suffices for the guests of all vhost-user ports. Enters: the
//! configuration and the limits, as Linux writes them. Leaves: what is too small. A guest that comes when no file can be
//! opened any more has no network, so this is told before.

use stopover_config::appliance::{Appliance, Vhost};

/// Of a socket: the place where the relay and librte_vhost meet, and who listens there.
const OF_SOCKET: u64 = 2;
/// Of a guest besides its rings. At librte_vhost: the connection and the channel back, the log of a migration, the state of
/// requests under way, and as many regions of memory as it takes (`VHOST_MEMORY_MAX_NREGIONS`). At the relay, which keeps
/// them for a successor: two connections, the channel, and these regions.
const OF_GUEST: u64 = 4 + 8 + 3 + 8;
/// Of a pair of rings: two eventfds each, here and there.
const OF_PAIR: u64 = 8;
/// Of the program itself without mbufs: EAL, control API, board, tables.
const OF_PROGRAM: u64 = 256;
/// EAL keeps a file for each hugepage open.
const HUGEPAGE: u64 = 2 << 20;

/// What an operator should know before guests come. Nothing if the limit cannot be read.
#[must_use]
pub fn warning(config: &Appliance) -> Option<String> {
    too_few(config, &std::fs::read_to_string("/proc/self/limits").ok()?)
}

/// `limits`: `/proc/self/limits` (proc(5)). The hard limit counts: EAL raises the other to it.
fn too_few(config: &Appliance, limits: &str) -> Option<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let hard: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let ports = config.vhosts().count();
    let needed = needed(config);
    (ports > 0 && hard < needed).then(|| {
        format!(
            "open files: found a limit of {hard}; expected at least {needed}, with guests at all vhost-user ports ({ports}); hint: raise `LimitNOFILE` of the service, or `ulimit -n`"
        )
    })
}

fn needed(config: &Appliance) -> u64 {
    let of_port =
        |vhost: &Vhost| OF_SOCKET + u64::from(!vhost.client) + OF_GUEST + OF_PAIR * u64::from(vhost.queues);
    let mbufs = u64::from(config.mbufs) * u64::from(config.mbuf_size) / HUGEPAGE;
    OF_PROGRAM + mbufs + config.vhosts().map(|(_, vhost)| of_port(&vhost)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use stopover_config::appliance;

    /// With so many vhost-user ports of these words.
    fn config(ports: u16, words: &str) -> Appliance {
        let vhost = |n| {
            format!(
                r#"(name: "vm{n}", device: "net_vhost{n},iface=/run/{n}.sock{words}", role: vif(vni: 7, mac: "52:54:00:00:{:02x}:{:02x}")),"#,
                n >> 8,
                n & 0xff
            )
        };
        let text = format!(
            r#"(name: "gw", vdevs: ["net_null0"], declared: (), mbufs: 16384, mbuf_size: 2176, ports: [
                (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])), {}])"#,
            (0..ports).map(vhost).collect::<String>()
        );
        appliance::parse(&text, Path::new("gw.ron")).unwrap()
    }

    fn limits(hard: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 {hard:20} files     \n\
             Max locked memory         8388608              8388608              bytes     \n"
        )
    }

    #[test]
    fn guests_rings_and_mbufs_need_files() {
        assert_eq!(needed(&config(0, "")), 256 + 17);
        assert_eq!(needed(&config(1, "")), 256 + 17 + 34);
        assert_eq!(needed(&config(2, ",queues=4,client=1")), 256 + 17 + 2 * 57);
    }

    #[test]
    fn a_limit_that_is_too_small_is_told() {
        let many = config(60, "");
        assert_eq!(
            too_few(&many, &limits("1024")).unwrap(),
            "open files: found a limit of 1024; expected at least 2313, with guests at all vhost-user ports (60); hint: raise `LimitNOFILE` of the service, or `ulimit -n`"
        );
        assert_eq!(too_few(&many, &limits("2312")).map(|_| ()), Some(()));
        assert_eq!(too_few(&many, &limits("2313")), None);
        assert_eq!(too_few(&many, &limits("unlimited")), None);
        assert_eq!(too_few(&many, "other text"), None);
        assert_eq!(too_few(&config(0, ""), &limits("10")), None, "no guest comes");
    }
}
