//! [`Endpoint`]: where a board listens and where it is reached, `https://host:port`, `http://host:port` or
//! `unix:/path`.

use serde::{Serialize, Serializer};
use std::{ffi::OsStr, fmt, path::PathBuf, str::FromStr};

/// Longest path a Unix socket address holds (`sun_path` less its final NUL, unix(7)).
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// An address of the board.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// gRPC over TLS 1.3, with certificates at both ends.
    Tls {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port, not zero.
        port: u16,
    },
    /// gRPC over plain TCP: anyone who reaches it may do anything.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port, not zero.
        port: u16,
    },
    /// gRPC over a Unix stream socket at an absolute path.
    Unix(PathBuf),
}

/// The form of an endpoint, for messages.
pub(crate) const EXPECTED: &str =
    "`https://host:port` (IPv6 in brackets), `unix:/absolute/path` or `http://host:port`";

/// What stands in place of a plain endpoint, for messages.
pub(crate) const EXPECTED_SECURE: &str = "`https://host:port` or `unix:/absolute/path`";

impl Endpoint {
    /// Nothing protects it, and nobody who calls there proves who it is.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Refuses a plain one that stands at `at` of a command line or of the environment.
    pub fn require_secure(&self, at: &str, insecure: bool) -> Result<(), String> {
        if insecure || !self.is_plain() {
            return Ok(());
        }
        Err(format!(
            "{at}: found {self}, which is plain TCP; expected {EXPECTED_SECURE}; hint: --insecure or STOPOVER_INSECURE=1 \
             permits it, in a network that nobody else reaches"
        ))
    }
}

/// Whether plain TCP is permitted: by an option, or by `STOPOVER_INSECURE=1` of the environment.
#[must_use]
pub fn is_insecure(option: bool, variable: Option<&OsStr>) -> bool {
    option || variable.is_some_and(|value| value == "1")
}

impl FromStr for Endpoint {
    type Err = String;

    /// The error is the part of a message after "found".
    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(path) = s.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if !path.starts_with('/') {
                Err(format!("`{s}`, whose socket path is not absolute"))
            } else if path.len() > MAX_SOCKET_PATH || path.contains('\0') {
                Err(format!(
                    "`{s}`, whose socket path is longer than {MAX_SOCKET_PATH} bytes or contains NUL"
                ))
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        let secure = s.strip_prefix("https://");
        let Some(rest) = secure.or_else(|| s.strip_prefix("http://")) else {
            return Err(format!("`{s}`, which begins neither with `https://`, `http://` nor `unix:`"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(format!("`{s}`, which has no port"));
        };
        let Some(port) = port.parse::<u16>().ok().filter(|&p| p != 0) else {
            return Err(format!("`{s}`, whose port is not a number from 1 to 65535"));
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if is_host(host) => host,
            _ => return Err(format!("`{s}`, which has no valid host name or address")),
        };
        let host = host.to_owned();
        Ok(if secure.is_some() { Self::Tls { host, port } } else { Self::Tcp { host, port } })
    }
}

/// A DNS name or IPv4 address, by its characters.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tls { host, port } => ("https", host, port),
            Self::Tcp { host, port } => ("http", host, port),
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_endpoints_round_trip() {
        for s in [
            "http://10.9.0.1:7480",
            "http://[fd00::1]:7480",
            "http://bbs.example:1",
            "https://10.9.0.1:7480",
            "https://[fd00::1]:7480",
            "unix:/run/stopover/bbs.sock",
        ] {
            assert_eq!(s.parse::<Endpoint>().unwrap().to_string(), s);
        }
        assert_eq!("unix:///run/x".parse::<Endpoint>().unwrap(), Endpoint::Unix("/run/x".into()));
        assert_eq!("http://h:1/".parse::<Endpoint>().unwrap().to_string(), "http://h:1");
    }

    #[test]
    fn a_plain_endpoint_needs_a_permission() {
        let plain: Endpoint = "http://10.9.0.1:7480".parse().unwrap();
        let e = plain.require_secure("--board", is_insecure(false, None)).unwrap_err();
        assert_eq!(
            e,
            "--board: found http://10.9.0.1:7480, which is plain TCP; expected `https://host:port` or \
             `unix:/absolute/path`; hint: --insecure or STOPOVER_INSECURE=1 permits it, in a network that nobody else reaches"
        );
        for (option, variable, permitted) in [
            (true, None, true),
            (false, Some("1"), true),
            (false, Some("0"), false),
            (false, Some(""), false),
        ] {
            let insecure = is_insecure(option, variable.map(OsStr::new));
            assert_eq!(plain.require_secure("--board", insecure).is_ok(), permitted, "{option} {variable:?}");
        }
        for secure in ["https://10.9.0.1:7480", "unix:/run/x"] {
            assert_eq!(secure.parse::<Endpoint>().unwrap().require_secure("--board", false), Ok(()));
        }
    }

    #[test]
    fn bad_endpoints_have_a_reason() {
        for (s, why) in [
            ("10.9.0.1:7480", "begins neither"),
            ("httpss://h:1", "begins neither"),
            ("https://h", "no port"),
            ("http://h", "no port"),
            ("http://h:0", "1 to 65535"),
            ("http://h:65536", "1 to 65535"),
            ("http://fd00::1:7480", "no valid host"),
            ("http://[h]:1", "no valid host"),
            ("http://:1", "no valid host"),
            ("unix:run/x", "not absolute"),
        ] {
            let e = s.parse::<Endpoint>().unwrap_err();
            assert!(e.contains(why), "{s}: {e}");
        }
        assert!(format!("unix:/{}", "x".repeat(107)).parse::<Endpoint>().is_err());
    }
}
