//! Tunnels of one appliance: their state and counters, and their SAs.

use crate::table::{Table, opt};
use std::fmt::Write as _;
use stopover_ctl::{HostTunnelMode, SaDirection, SaInfo, TunnelInfo, TunnelState};

/// `show tunnels`
pub fn tunnels(rows: &[TunnelInfo]) -> String {
    let headers = ["HOST", ">ID", "MODE", "STATE", "ADDRESS", ">AGE-S", ">SESSIONS", "WHY"];
    let mut states = Table::new(&headers, "no tunnels");
    let headers = ["HOST", ">TX-packets", ">TX-bytes", ">RX-packets", ">RX-bytes", ">REPLAYED", ">BAD-SEAL"];
    let mut counts = Table::new(&headers, "");
    for t in rows {
        states.row([
            t.host.clone(),
            t.number.to_string(),
            mode(t.mode).to_owned(),
            state(t.state).to_owned(),
            opt(t.address),
            opt(t.age_s),
            t.sessions.to_string(),
            opt(t.why.as_ref()),
        ]);
        counts.row([
            t.host.clone(),
            t.sent_packets.to_string(),
            t.sent_bytes.to_string(),
            t.received_packets.to_string(),
            t.received_bytes.to_string(),
            t.replayed.to_string(),
            t.bad_seal.to_string(),
        ]);
    }
    let mut s = states.to_string();
    if !rows.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(s, "\n{counts}");
    }
    s
}

/// `show sas`
pub fn sas(rows: &[SaInfo]) -> String {
    let headers = [
        "HOST",
        "DIRECTION",
        "SPI",
        ">LCORE",
        ">SESSION",
        ">AGE-S",
        ">PACKETS",
        ">BYTES",
        ">REPLAYED",
        ">BAD-SEAL",
    ];
    let mut t = Table::new(&headers, "no SAs");
    for sa in rows {
        let direction = match sa.direction {
            SaDirection::In => "in",
            SaDirection::Out => "out",
        };
        t.row([
            sa.host.clone(),
            direction.to_owned(),
            sa.spi.clone(),
            opt(sa.lcore),
            sa.session.to_string(),
            sa.age_s.to_string(),
            sa.packets.to_string(),
            sa.bytes.to_string(),
            sa.replayed.to_string(),
            sa.bad_seal.to_string(),
        ]);
    }
    t.to_string()
}

const fn mode(mode: HostTunnelMode) -> &'static str {
    match mode {
        HostTunnelMode::Required => "required",
        HostTunnelMode::Off => "off",
        HostTunnelMode::Mixed => "mixed",
    }
}

const fn state(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Up => "up",
        TunnelState::Connecting => "connecting",
        TunnelState::Down => "down",
        TunnelState::Idle => "idle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_with_their_counters() {
        let up = TunnelInfo {
            host: "hv-b".into(),
            number: 2,
            mode: HostTunnelMode::Required,
            state: TunnelState::Up,
            why: None,
            address: Some("10.0.0.2:4789".parse().unwrap()),
            age_s: Some(41),
            sessions: 3,
            sent_packets: 1000,
            sent_bytes: 1_512_000,
            received_packets: 900,
            received_bytes: 90_000,
            replayed: 1,
            bad_seal: 2,
        };
        let down = TunnelInfo {
            host: "hv-c".into(),
            number: 13,
            mode: HostTunnelMode::Mixed,
            state: TunnelState::Down,
            why: Some("it has no public key".into()),
            address: None,
            age_s: None,
            sessions: 0,
            ..up.clone()
        };
        assert_eq!(
            tunnels(&[up, down]),
            "\
HOST  ID  MODE      STATE  ADDRESS        AGE-S  SESSIONS  WHY
hv-b   2  required  up     10.0.0.2:4789     41         3  -
hv-c  13  mixed     down   -                  -         0  it has no public key

HOST  TX-packets  TX-bytes  RX-packets  RX-bytes  REPLAYED  BAD-SEAL
hv-b        1000   1512000         900     90000         1         2
hv-c        1000   1512000         900     90000         1         2
"
        );
        assert_eq!(tunnels(&[]), "no tunnels\n");
    }

    #[test]
    fn sas_of_both_directions() {
        let inbound = SaInfo {
            host: "hv-b".into(),
            direction: SaDirection::In,
            spi: "0xc0000001".into(),
            lcore: None,
            session: 7,
            packets: 900,
            bytes: 90_000,
            replayed: 1,
            bad_seal: 2,
            age_s: 41,
        };
        let outbound = SaInfo {
            direction: SaDirection::Out,
            spi: "0xc0000107".into(),
            lcore: Some(1),
            packets: 1000,
            bytes: 1_512_000,
            replayed: 0,
            bad_seal: 0,
            ..inbound.clone()
        };
        assert_eq!(
            sas(&[inbound, outbound]),
            "\
HOST  DIRECTION  SPI         LCORE  SESSION  AGE-S  PACKETS    BYTES  REPLAYED  BAD-SEAL
hv-b  in         0xc0000001      -        7     41      900    90000         1         2
hv-b  out        0xc0000107      1        7     41     1000  1512000         0         0
"
        );
        assert_eq!(sas(&[]), "no SAs\n");
    }
}
