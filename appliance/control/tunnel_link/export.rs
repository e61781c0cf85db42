//! The debug switch `export_keys`: a line for each SA in the file that Wireshark reads as its table `esp_sa`. Enters: SAs
//! with their secrets. Leaves: lines at the end of the file, which only its owner may read. Nothing else shows keys.

use crate::control::{Control, effects::ExportedSa};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use stopover_tunnel::{Spi, cipher::SaSecret};
use zeroize::Zeroizing;

/// The line of an SA.
fn line(from: IpAddr, to: IpAddr, spi: Spi, secret: &SaSecret) -> Zeroizing<String> {
    let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut key = Zeroizing::new(String::with_capacity(80));
    for byte in secret.key().iter().chain(&secret.salt()) {
        key.push_str(&format!("{byte:02x}"));
    }
    Zeroizing::new(format!(
        "\"{family}\",\"{from}\",\"{to}\",\"{spi}\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{}\",\"NULL\",\"\"\n",
        *key
    ))
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}

impl Control {
    /// Writes the keys of an SA to the file, if there is one.
    pub(crate) fn export_keys(&self, sa: &ExportedSa) {
        let path = self.config.tunnels.as_ref().and_then(|tunnels| tunnels.export_keys.as_ref());
        let own = self.underlay.resolved(sa.host).map(|found| found.src_ip);
        let (Some(path), Some(own)) = (path, own) else { return };
        let (from, to) = if sa.outbound { (own, sa.host) } else { (sa.host, own) };
        if let Err(e) = append(path, &line(from, to, sa.spi, &sa.secret)) {
            log::warn!(
                "tunnels.export_keys: {}: {e}; hint: give it a path that can be written",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use stopover_tunnel::{SaIndex, cipher::Algorithm};

    #[test]
    fn a_line_is_what_wireshark_reads() {
        let key: Vec<u8> = (0..16).collect();
        let secret = SaSecret::new(Algorithm::Aes128Gcm, &key, [0xca, 0xfe, 0x20, 0x24]).unwrap();
        let spi = Spi::new(SaIndex::new(5).unwrap(), 1);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let expected = concat!(
            r#""IPv4","10.0.0.1","10.0.0.2","0xc0100005","AES-GCM with 16 octet ICV [RFC4106]","#,
            r#""0x000102030405060708090a0b0c0d0e0fcafe2024","NULL","""#,
            "\n"
        );
        assert_eq!(*line(ip(1), ip(2), spi, &secret), expected);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("esp_sa");
        append(&path, expected).unwrap();
        append(&path, expected).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.repeat(2));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(append(&dir.path().join("none/esp_sa"), expected).is_err());
    }
}
