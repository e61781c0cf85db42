//! The kernel's counters of all TCP connections of this machine.

use std::collections::BTreeMap;

/// Counters by name, from the two-line tables of `/proc/net/snmp` and `/proc/net/netstat`.
#[derive(Debug, Clone, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads them.
    pub fn now() -> std::io::Result<Self> {
        let text =
            std::fs::read_to_string("/proc/net/snmp")? + &std::fs::read_to_string("/proc/net/netstat")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut found = BTreeMap::new();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (mut names, mut values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
            let table = names.next();
            if table == values.next() && matches!(table, Some("Tcp:" | "TcpExt:")) {
                found.extend(names.zip(values).filter_map(|(n, v)| Some((n.to_owned(), v.parse().ok()?))));
            }
        }
        Self(found)
    }

    /// The growth of a counter since `before`.
    pub fn grown(&self, before: &Self, name: &str) -> u64 {
        let of = |c: &Self| c.0.get(name).copied().unwrap_or(0);
        of(self).saturating_sub(of(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_above_values() {
        let before = Counters::parse("Ip: InOctets\nIp: 9\nTcp: MaxConn RetransSegs\nTcp: -1 4\n");
        let now = Counters::parse("Tcp: MaxConn RetransSegs\nTcp: -1 7\nTcpExt: TCPLossProbes\nTcpExt: 2\n");
        assert_eq!(now.grown(&before, "RetransSegs"), 3);
        assert_eq!(now.grown(&before, "TCPLossProbes"), 2);
        assert_eq!(now.grown(&before, "InOctets"), 0);
        assert_eq!(now.grown(&before, "MaxConn"), 0);
    }
}
