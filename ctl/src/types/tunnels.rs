//! Encrypted tunnels to other hosts, and their security associations (SAs), as this appliance has them. No keys.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The tunnel to one host, over all its sessions. Counters are those of this appliance: the other end reports its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelInfo {
    /// The other host.
    pub host: String,
    /// Number the board gave it.
    pub number: u32,
    /// What the configuration demands of frames to and from it.
    pub mode: HostTunnelMode,
    /// What it is doing.
    pub state: TunnelState,
    /// Why it is down.
    pub why: Option<String>,
    /// Where its datagrams go; absent while that is not known.
    pub address: Option<SocketAddr>,
    /// Age of the session in use, seconds; absent without one.
    pub age_s: Option<u64>,
    /// Handshakes completed.
    pub sessions: u64,
    /// Frames sealed and sent.
    pub sent_packets: u64,
    /// Bytes of the datagrams that carried them.
    pub sent_bytes: u64,
    /// Frames received and opened.
    pub received_packets: u64,
    /// Bytes of the datagrams that carried them.
    pub received_bytes: u64,
    /// Datagrams dropped because their sequence number had come before, or was behind the window.
    pub replayed: u64,
    /// Datagrams dropped because their tag was wrong.
    pub bad_seal: u64,
}

/// The mode of a host, over all networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostTunnelMode {
    /// Its frames are sealed in every network.
    Required,
    /// In none need they be.
    Off,
    /// In some.
    Mixed,
}

/// What a tunnel is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// Frames can be sealed.
    Up,
    /// The handshake runs.
    Connecting,
    /// The host does not answer, or cannot be asked.
    Down,
    /// Nobody wants it.
    Idle,
}

/// One SA: the frames of one direction, and when sent of one lcore, under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaInfo {
    /// The other host.
    pub host: String,
    /// Whether it seals or opens.
    pub direction: SaDirection,
    /// The SPI on the wire: `0xc0000001`.
    pub spi: String,
    /// The lcore that seals by it, or has its window; absent if it is no lcore's yet.
    pub lcore: Option<u32>,
    /// The session that it is of, as this host numbers it.
    pub session: u32,
    /// Frames sealed or opened.
    pub packets: u64,
    /// Bytes of the datagrams that carried them.
    pub bytes: u64,
    /// Datagrams dropped because their sequence number had come before, or was behind the window; 0 when it seals.
    pub replayed: u64,
    /// Datagrams dropped because their tag was wrong; 0 when it seals.
    pub bad_seal: u64,
    /// Its age, seconds.
    pub age_s: u64,
}

/// Direction of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaDirection {
    /// It opens what the other host sends.
    In,
    /// It seals what is sent to the other host.
    Out,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_documented() {
        let text = r#"{"host":"hv-b","number":2,"mode":"mixed","state":"up","why":null,"address":"10.0.0.2:4789","age_s":41,"sessions":3,"sent_packets":1000,"sent_bytes":1512000,"received_packets":900,"received_bytes":90000,"replayed":1,"bad_seal":2}"#;
        let tunnel: TunnelInfo = serde_json::from_str(text).unwrap();
        assert_eq!((tunnel.mode, tunnel.state), (HostTunnelMode::Mixed, TunnelState::Up));
        assert_eq!(tunnel.address, Some("10.0.0.2:4789".parse().unwrap()));
        assert_eq!((tunnel.sent_packets, tunnel.received_bytes, tunnel.bad_seal), (1000, 90_000, 2));
        assert_eq!(serde_json::to_string(&tunnel).unwrap(), text);
        let text = r#"{"host":"hv-b","direction":"out","spi":"0xc0000001","lcore":1,"session":7,"packets":1000,"bytes":1512000,"replayed":0,"bad_seal":0,"age_s":41}"#;
        let sa: SaInfo = serde_json::from_str(text).unwrap();
        assert_eq!((sa.direction, sa.spi.as_str(), sa.lcore), (SaDirection::Out, "0xc0000001", Some(1)));
        assert_eq!(serde_json::to_string(&sa).unwrap(), text);
        let words = serde_json::to_string(&[
            TunnelState::Up,
            TunnelState::Connecting,
            TunnelState::Down,
            TunnelState::Idle,
        ]);
        assert_eq!(words.unwrap(), r#"["up","connecting","down","idle"]"#);
    }
}
