//! Bulk tables: good ones are read row by row, errors of bad ones name file, line and column, large ones stream.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use proptest::prelude::*;
use std::{fmt::Write as _, path::Path, sync::Arc};
use stopover_config::{
    ConfigError, appliance,
    appliance::Truth,
    bulk::{HostRow, MemberRow, NetworkRow, NodeRow, Row, Rows},
};
use stopover_net::FloodPolicy;

fn read<T: Row>(text: &str) -> Result<Vec<T>, ConfigError> {
    Rows::<_, T>::new(text.as_bytes(), Path::new("t.csv"))?.collect()
}

fn refusal<T: Row>(text: &str) -> String {
    match read::<T>(text) {
        Ok(rows) => panic!("accepted {} rows", rows.len()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn nodes_in_any_column_order_with_comments() {
    let rows: Vec<NodeRow> = read(
        "# made by hand\n\nhost, vni, mac, ips\ngw-b,100,52:54:00:00:00:01,192.168.0.1 fd00::1\n# none\ngw-b,200,52-54-00-00-00-01,\n",
    )
    .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.168.0.1", "fd00::1"]);
    assert_eq!((rows[1].vni.get(), rows[1].mac, rows[1].ips.len()), (200, rows[0].mac, 0));
    // A shared address may stand in many rows, an own one in one.
    let rows: Vec<NodeRow> = read(
        "vni,mac,host,shared_ips\n1,52:54:00:00:00:01,a,192.168.0.9 fd00::9\n1,52:54:00:00:00:02,b,192.168.0.9\n",
    )
    .unwrap();
    assert_eq!(rows.iter().map(|r| (r.ips.len(), r.shared_ips.len())).collect::<Vec<_>>(), [(0, 2), (0, 1)]);
    let many = |n: u8| (1..=n).map(|i| format!("10.0.1.{i}")).collect::<Vec<_>>().join(" ");
    let text = |n| format!("vni,mac,host,ips,shared_ips\n1,52:54:00:00:00:01,a,10.0.0.1,{}\n", many(n));
    assert_eq!(read::<NodeRow>(&text(15)).unwrap()[0].shared_ips.len(), 15);
    assert!(
        refusal::<NodeRow>(&text(16)).contains("column shared_ips: found 16 addresses; expected 0 to 15")
    );
}

#[test]
fn defaults_of_the_other_tables() {
    let hosts: Vec<HostRow> = read("name,vteps\r\ngw-b,10.0.0.2 fd00::2\r\n").unwrap();
    assert_eq!((hosts[0].udp_port, hosts[0].vteps.len()), (4789, 2));
    let networks: Vec<NetworkRow> = read("vni,name,flood,mtu\n1,,,\n2,\"a, b\",to-segments,1450\n").unwrap();
    assert_eq!(
        (networks[0].name.as_deref(), networks[0].flood, networks[0].mtu),
        (None, FloodPolicy::Flood, 0)
    );
    assert_eq!(
        (networks[1].name.as_deref(), networks[1].flood, networks[1].mtu),
        (Some("a, b"), FloodPolicy::ToSegments, 1450)
    );
    let members: Vec<MemberRow> = read("vni,host,segment\n1,a,\n1,b,true\n").unwrap();
    assert!(!members[0].segment && members[1].segment);
}

/// A node table with one mistake, and its message.
const BAD_NODES: &[(&str, &str)] = &[
    (
        "vni,mac,host,ips\n100,52:54:00:00:01,a,\n",
        "t.csv:2: column mac: found `52:54:00:00:01`; expected a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56; hint: write all six bytes, two digits each, separated by colons",
    ),
    (
        "vni,mac,host,ips\n\n# c\n16777216,52:54:00:00:00:01,a,\n",
        "t.csv:4: column vni: found `16777216`; expected a VNI from 1 to 16777215 (24 bits, RFC 7348); hint: choose a network identifier within the range",
    ),
    (
        "vni,mac,host,ips\n1,52:54:00:00:00:01,a,10.0.0.1 10.0.0.300\n",
        "t.csv:2: column ips: found `10.0.0.300`; expected an IPv4 or IPv6 address without prefix length; hint: write it as 192.0.2.1 or 2001:db8::1",
    ),
    (
        "vni,mac,host,ips\n1,52:54:00:00:00:01,a,\n1,52:54:00:00:00:02,,\n",
        "t.csv:3: column host: found nothing; expected a host name of 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit; hint: rename the host; the name appears in certificates, file names and metrics",
    ),
    (
        "vni,mac,host,ips\n1,52:54:00:00:00:01,a,\n2,52:54:00:00:00:01,a,\n1,52:54:00:00:00:01,b,\n",
        "t.csv:4: column mac: found MAC 52:54:00:00:00:01 in network 1 again; expected it once in the file (it stands in line 2 already); hint: remove one of the two rows",
    ),
    (
        "vni,mac,host,ips\n1,52:54:00:00:00:01,a,10.0.0.1\n1,52:54:00:00:00:02,a,10.0.0.1\n",
        "t.csv:3: column ips: found address 10.0.0.1 in network 1 again; expected it once in the file (it stands in line 2 already); hint: remove one of the two rows",
    ),
    (
        "vni,mac,host,ips,shared_ips\n1,52:54:00:00:00:01,a,10.0.0.1,10.0.0.9 10.0.0.1\n",
        "t.csv:2: column shared_ips: found 10.0.0.1 twice in one row; expected each address once; hint: remove the repetition",
    ),
    (
        "vni,mac,host,ips\n1,52:54:00:00:00:01,a\n",
        "t.csv:2: found 3 fields; expected 4 as in the header; hint: add or remove commas; quote a field that contains one",
    ),
    (
        "1,52:54:00:00:00:01,a,\n",
        "t.csv:1: found `1` in the header; expected the header `vni,mac,host,ips,shared_ips`; hint: the first line names the columns; add it, or correct the name",
    ),
    (
        "vni,mac,vni\n",
        "t.csv:1: found column `vni` twice in the header; expected the header `vni,mac,host,ips,shared_ips`; hint: remove one of the two",
    ),
    (
        "vni,mac\n",
        "t.csv:1: found a header without column `host`; expected the header `vni,mac,host,ips,shared_ips`; hint: add the column",
    ),
    (
        "",
        "t.csv:1: found an empty table; expected the header `vni,mac,host,ips,shared_ips`; hint: write the header as first line",
    ),
];

#[test]
fn bad_rows_name_line_and_column() {
    for (text, message) in BAD_NODES {
        assert_eq!(refusal::<NodeRow>(text), *message);
    }
    assert!(
        refusal::<HostRow>("name,vteps\na,\n")
            .starts_with("t.csv:2: column vteps: found 0 addresses; expected 1 to 4")
    );
    assert!(
        refusal::<HostRow>("name,vteps\na,10.0.0.1\nb,10.0.0.1\n")
            .starts_with("t.csv:3: column vteps: found VTEP 10.0.0.1")
    );
    assert!(
        refusal::<HostRow>("name,vteps,udp_port\na,10.0.0.1,0\n")
            .starts_with("t.csv:2: column udp_port: found `0`")
    );
    assert!(refusal::<NetworkRow>("vni,flood\n1,flod\n").starts_with("t.csv:2: column flood: found `flod`"));
    assert!(refusal::<NetworkRow>("vni\n1\n1\n").starts_with("t.csv:3: column vni: found network 1 again"));
    assert!(
        refusal::<MemberRow>("vni,host,segment\n1,a,yes\n")
            .starts_with("t.csv:2: column segment: found `yes`")
    );
    assert!(
        refusal::<MemberRow>("vni,host\n1,a\n1,a\n")
            .starts_with("t.csv:3: column host: found host a in network 1 again")
    );
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let rows = Rows::<_, NetworkRow>::new(&b"vni,name\n1,\xff\xfe\n"[..], Path::new("t.csv")).unwrap();
    let e = rows.last().unwrap().unwrap_err().to_string();
    assert!(e.starts_with("t.csv:2: column name: found bytes that are not UTF-8"), "{e}");
}

#[test]
fn a_large_table_streams_and_its_last_row_is_checked_too() {
    const ROWS: u32 = 200_000;
    let mut text = String::from("vni,mac,host,ips\n");
    for i in 0..ROWS {
        let [_, a, b, c] = i.to_be_bytes();
        writeln!(text, "{},02:00:00:{a:02x}:{b:02x}:{c:02x},gw-{},10.{a}.{b}.{c}", 1 + i % 100, i % 500)
            .unwrap();
    }
    let good = text.len();
    text.push_str("1,02:00:00:00:00:00,gw-1,\n");
    let mut rows = Rows::<_, NodeRow>::new(text.as_bytes(), Path::new("t.csv")).unwrap();
    assert_eq!(rows.by_ref().take(ROWS as usize).filter(Result::is_ok).count(), ROWS as usize);
    assert_eq!((rows.line(), rows.bytes()), (u64::from(ROWS) + 1, good as u64));
    let e = rows.next().unwrap().unwrap_err();
    assert_eq!(e.position().map(|p| p.line), Some(u64::from(ROWS) + 2));
    assert!(rows.next().is_none(), "it ends after an error");
}

/// A configuration that declares everything, with the given files beside it.
fn declared(inline: &str, files: &[(&str, &str)]) -> Result<Arc<appliance::Declared>, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = String::new();
    for (name, content) in files {
        std::fs::write(dir.path().join(format!("{name}.csv")), content).unwrap();
        write!(keys, "{name}_file: \"{name}.csv\",").unwrap();
    }
    let text = format!(
        "(name: \"gw-a\", vdevs: [\"net_null0\", \"net_null1\"], ports: [\n\
         (name: \"vm1\", device: \"net_null0\", role: vif(vni: 100, mac: \"02:00:00:00:00:01\", addresses: [\"192.168.0.1\"])),\n\
         (name: \"ul0\", device: \"net_null1\", role: underlay(addresses: [\"10.0.0.1/24\"]))],\n\
         declared: ({inline}{keys}))"
    );
    let path = dir.path().join("gw.ron");
    std::fs::write(&path, text).unwrap();
    match appliance::load(&path) {
        Ok(a) => match a.truth {
            Truth::Declared(d) => Ok(d),
            Truth::Board(_) => panic!("no board here"),
        },
        Err(e) => Err(e.to_string().replace(&format!("{}/", dir.path().display()), "")),
    }
}

const HOSTS: &str = "name,vteps\ngw-a,10.0.0.1\ngw-b,10.0.0.2\n";

#[test]
fn files_add_to_the_declaration_and_rows_about_this_host_are_skipped() {
    let d = declared(
        "hosts: [(name: \"gw-c\", vteps: [\"10.0.0.3\"])],",
        &[
            ("hosts", HOSTS),
            ("networks", "vni\n100\n"),
            ("nodes", "vni,mac,host,ips\n100,02:00:00:00:00:01,gw-a,192.168.0.1\n100,02:00:00:00:00:02,gw-b,\n100,02:00:00:00:00:03,gw-c,\n"),
            ("members", "vni,host\n100,gw-a\n100,gw-b\n"),
        ],
    )
    .unwrap();
    assert_eq!(d.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["gw-c", "gw-b"]);
    assert_eq!(d.nodes.iter().map(|n| n.host.as_str()).collect::<Vec<_>>(), ["gw-b", "gw-c"]);
    assert_eq!((d.networks.len(), d.members.len()), (1, 1));
}

#[test]
fn contradictions_between_files_and_declaration_are_refused_at_their_position() {
    let node = "vni,mac,host,ips\n100,02:00:00:00:00:02,gw-b,192.168.0.2\n";
    for (inline, files, message) in [
        (
            "",
            vec![("hosts", HOSTS), ("nodes", "vni,mac,host\n1,02:00:00:00:00:02,gw-x\n")],
            "nodes.csv:2: column host: found host `gw-x`; expected a host that `declared` names; hint: add it to hosts or hosts_file, or correct the name",
        ),
        (
            "nodes: [(vni: 1, mac: \"02:00:00:00:00:02\", host: \"gw-x\")],",
            vec![],
            "gw.ron:4:61: declared.nodes[0].host: found host `gw-x`; expected a host that `declared` names; hint: add it to hosts or hosts_file, or correct the name",
        ),
        (
            "",
            vec![("hosts", HOSTS), ("nodes", "vni,mac,host\n100,02:00:00:00:00:01,gw-b\n")],
            "nodes.csv:2: column mac: found MAC 02:00:00:00:00:01 in network 100 on host `gw-b`, which port `vm1` has here; expected each MAC once in a network; hint: correct one of the two",
        ),
        (
            "hosts: [(name: \"gw-b\", vteps: [\"10.0.0.2\"])], nodes: [(vni: 100, mac: \"02:00:00:00:00:02\", host: \"gw-b\")],",
            vec![("nodes", node)],
            "nodes.csv:2: column mac: found MAC 02:00:00:00:00:02 in network 100 again; expected it once in this file and the files it names; hint: remove one of the two",
        ),
        (
            "",
            vec![("hosts", HOSTS), ("nodes", "vni,mac,host,ips\n100,02:00:00:00:00:02,gw-b,192.168.0.1\n")],
            "nodes.csv:2: column ips: found address 192.168.0.1 in network 100 on host `gw-b`, which port `vm1` has here; expected each address once in a network; hint: correct one of the two",
        ),
        (
            "",
            vec![
                ("hosts", HOSTS),
                ("nodes", "vni,mac,host,shared_ips\n100,02:00:00:00:00:02,gw-b,192.168.0.1\n"),
            ],
            "nodes.csv:2: column shared_ips: found the shared address 192.168.0.1; expected no shared addresses without a board, which follows who announces them; hint: give the address to one node in `ips`, or declare the nodes at a board",
        ),
        (
            "hosts: [(name: \"gw-x\", vteps: [\"10.0.0.1\"])],",
            vec![],
            "gw.ron:4:42: declared.hosts[0].vteps: found VTEP 10.0.0.1 of host `gw-x`, an address of this appliance; expected an address of the other host; hint: correct it, or name the host as this appliance is named",
        ),
        (
            "networks: [(vni: 1, flood: \"sometimes\")],",
            vec![],
            "gw.ron:4:39: declared.networks[0].flood: found `sometimes`; expected flood, drop or to-segments; hint: choose one of the three policies",
        ),
        (
            "nodes_file: \"absent.csv\",",
            vec![],
            "absent.csv: found No such file or directory (os error 2); expected a readable CSV file; hint: check the path, or create the file",
        ),
    ] {
        assert_eq!(declared(inline, &files).unwrap_err(), message);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(rows) = Rows::<_, NodeRow>::new(&bytes[..], Path::new("t.csv")) {
            prop_assert!(rows.count() <= bytes.len());
        }
    }

    #[test]
    fn nearly_good_rows_never_panic(rows in "(([0-9]{0,9}|\"),([0-9a-f:]{0,18}),(gw|#|),([0-9a-f:. ]{0,20})\n){0,8}") {
        let text = format!("vni,mac,host,ips\n{rows}");
        let read = Rows::<_, NodeRow>::new(text.as_bytes(), Path::new("t.csv")).unwrap();
        prop_assert!(read.filter(Result::is_ok).count() <= 8);
    }
}
