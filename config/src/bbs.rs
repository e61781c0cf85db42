//! The board's own file: where it listens, where it keeps its state, and how long it waits for hosts.
//!
//! RON text enters, [`Bbs`] leaves; every key but `listen` and `store` has a default.

use crate::{
    ConfigError, Endpoint,
    fault::{Checked, fault},
    limits::RawLimits,
    read,
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use crate::limits::{Exceeded, Limit, Limits};

/// The board's defaults, for its file and its command line.
pub mod defaults {
    /// Interval of the hosts' heartbeats.
    pub const HEARTBEAT_MS: u64 = 1000;
    /// Heartbeats that a host may miss.
    pub const MISSED: u64 = 5;
    /// Without a heartbeat for this long a host counts as down.
    pub const HOST_TIMEOUT_MS: u64 = MISSED * HEARTBEAT_MS;
    /// How long a newcomer's certificate is valid.
    pub const ENROL_DAYS: u32 = 365;
    /// Changes kept so that a watcher can resume.
    pub const HISTORY: usize = 100_000;
    /// Changes queued for one slow watcher.
    pub const WATCHER_BACKLOG: usize = 65_536;
}

/// What users of this machine are to the board, by their numbers, on its Unix sockets. Root and the board's own user are
/// operators and hosts without being listed; others that are not listed are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnixUsers {
    /// May change what the board holds.
    pub operators: BTreeSet<u32>,
    /// May read.
    pub observers: BTreeSet<u32>,
    /// Whose appliances may act for any host.
    pub hosts: BTreeSet<u32>,
}

/// Where newcomers get their certificates, and from which CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrol {
    /// `https://`, with an IP address; none of the board's other endpoints.
    pub listen: Endpoint,
    /// The CA's folder, absolute.
    pub ca: PathBuf,
    /// How long their certificates are valid.
    pub days: u32,
}

/// A checked board configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bbs {
    /// Where gRPC is served; at least one, no two alike. A TCP host is an IP address here.
    pub listen: Vec<Endpoint>,
    /// The folder of the board's credentials, absolute; there is one if it listens at `https://`.
    pub tls: Option<PathBuf>,
    /// Where newcomers get their certificates, if anywhere.
    pub enrol: Option<Enrol>,
    /// It may listen at `http://`.
    pub insecure: bool,
    /// Who is what on Unix sockets.
    pub unix: UnixUsers,
    /// The store's file, absolute.
    pub store: PathBuf,
    /// Where Prometheus scrapes, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Interval of the hosts' heartbeats.
    pub heartbeat: Duration,
    /// Without a heartbeat for this long a host counts as down; at least twice `heartbeat`.
    pub host_timeout: Duration,
    /// A host that has been down for this long is sent no flooded frames; its nodes remain.
    pub flood_grace: Duration,
    /// One that has been down for this long is forgotten with its nodes; `None` = never.
    pub forget_after: Option<Duration>,
    /// Changes kept so that a watcher can resume from its revision; older ones make it take a snapshot.
    pub history: usize,
    /// Changes queued for one slow watcher before it must resynchronise.
    pub watcher_backlog: usize,
    /// What may grow, and how far.
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(rename = "bbs", deny_unknown_fields)]
struct RawBbs {
    listen: Vec<String>,
    tls: Option<String>,
    enrol: Option<RawEnrol>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    unix: RawUsers,
    store: String,
    metrics: Option<String>,
    heartbeat_ms: Option<i64>,
    host_timeout_ms: Option<i64>,
    flood_grace_s: Option<i64>,
    forget_after_s: Option<i64>,
    history: Option<i64>,
    watcher_backlog: Option<i64>,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(rename = "enrol", deny_unknown_fields)]
struct RawEnrol {
    listen: String,
    ca: String,
    days: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename = "unix", deny_unknown_fields, default)]
struct RawUsers {
    operators: Vec<i64>,
    observers: Vec<i64>,
    hosts: Vec<i64>,
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Bbs, ConfigError> {
    parse(&read::file(path)?, path)
}

/// Checks `text`; `origin` is only for messages.
pub fn parse(text: &str, origin: &Path) -> Result<Bbs, ConfigError> {
    validate(read::ron::<RawBbs>(text, origin)?).map_err(|f| f.locate(text, origin))
}

fn validate(raw: RawBbs) -> Checked<Bbs> {
    let listen = listen(&raw.listen)?;
    let (heartbeat_ms, host_timeout_ms) = timeouts(raw.heartbeat_ms, raw.host_timeout_ms)?;
    let forget_after_s =
        read::number("forget_after_s", raw.forget_after_s, 7 * 86_400, 0..=10 * 366 * 86_400, "seconds")?;
    let flood_grace_s = read::number("flood_grace_s", raw.flood_grace_s, 60, 0..=86_400, "seconds")?;
    let tls = raw.tls.map(|s| read::absolute("tls", &s)).transpose()?;
    read::needs_credentials("listen", &listen, tls.as_ref())?;
    let enrol = raw.enrol.map(|raw| enrol(&raw, &listen, tls.as_ref())).transpose()?;
    read::needs_insecure("listen", &listen, raw.insecure)?;
    Ok(Bbs {
        listen,
        tls,
        enrol,
        insecure: raw.insecure,
        unix: UnixUsers {
            operators: users("unix.operators", &raw.unix.operators)?,
            observers: users("unix.observers", &raw.unix.observers)?,
            hosts: users("unix.hosts", &raw.unix.hosts)?,
        },
        store: read::absolute("store", &raw.store)?,
        metrics: raw.metrics.map(|s| read::socket_addr("metrics", &s)).transpose()?,
        heartbeat: Duration::from_millis(heartbeat_ms),
        host_timeout: Duration::from_millis(host_timeout_ms),
        flood_grace: Duration::from_secs(flood_grace_s),
        forget_after: Some(Duration::from_secs(forget_after_s)).filter(|d| !d.is_zero()),
        history: read::number("history", raw.history, defaults::HISTORY, 0..=100_000_000, "changes")?,
        watcher_backlog: read::number(
            "watcher_backlog",
            raw.watcher_backlog,
            defaults::WATCHER_BACKLOG,
            16..=100_000_000,
            "changes",
        )?,
        limits: raw.limits.validate()?,
    })
}

/// Where the board listens: at least one endpoint, each once.
fn listen(raw: &[String]) -> Checked<Vec<Endpoint>> {
    let mut listen = Vec::new();
    for (i, s) in raw.iter().enumerate() {
        let at = format!("listen[{i}]");
        let endpoint = one_listen(&at, s, &listen)?;
        listen.push(endpoint);
    }
    if listen.is_empty() {
        return Err(fault(
            "listen",
            "no endpoint",
            "at least one",
            "add for example \"unix:/run/stopover/bbs.sock\"",
        ));
    }
    Ok(listen)
}

/// An endpoint to listen at, none of `others`: a TCP host is an address.
fn one_listen(at: &str, raw: &str, others: &[Endpoint]) -> Checked<Endpoint> {
    let endpoint = read::endpoint(at, raw)?;
    if let Endpoint::Tcp { host, .. } | Endpoint::Tls { host, .. } = &endpoint
        && host.parse::<std::net::IpAddr>().is_err()
    {
        return Err(fault(
            at,
            format!("host `{host}`"),
            "an IP address of this machine, 0.0.0.0 or [::]",
            "names are for clients; listen on an address",
        ));
    }
    if others.contains(&endpoint) {
        return Err(fault(at, format!("{endpoint} again"), "each endpoint once", "remove the repetition"));
    }
    Ok(endpoint)
}

/// Where newcomers get their certificates: with TLS, whose certificate is the board's.
fn enrol(raw: &RawEnrol, others: &[Endpoint], tls: Option<&PathBuf>) -> Checked<Enrol> {
    let listen = one_listen("enrol.listen", &raw.listen, others)?;
    if !matches!(listen, Endpoint::Tls { .. }) {
        let hint = "a token must not be sent to one that has not proven to be the board";
        return Err(fault("enrol.listen", listen.to_string(), "an endpoint at https://", hint));
    }
    if tls.is_none() {
        let hint = "add for example tls: \"/etc/stopover/tls\"";
        return Err(fault("enrol", "no `tls`", "a folder of the board's credentials", hint));
    }
    let days = read::number("enrol.days", raw.days, defaults::ENROL_DAYS, 1..=36_500, "days")?;
    Ok(Enrol { listen, ca: read::absolute("enrol.ca", &raw.ca)?, days })
}

/// Users by number.
fn users(at: &str, raw: &[i64]) -> Checked<BTreeSet<u32>> {
    let one = |(i, uid): (usize, &i64)| {
        u32::try_from(*uid).ok().filter(|uid| *uid != u32::MAX).ok_or_else(|| {
            fault(
                format!("{at}[{i}]"),
                format!("{uid}"),
                "the number of a user, 0 to 4294967294",
                "`id -u NAME` prints it",
            )
        })
    };
    raw.iter().enumerate().map(one).collect()
}

/// Heartbeat interval and host timeout in milliseconds; the timeout is at least two heartbeats.
fn timeouts(heartbeat_ms: Option<i64>, host_timeout_ms: Option<i64>) -> Checked<(u64, u64)> {
    let heartbeat_ms =
        read::number("heartbeat_ms", heartbeat_ms, defaults::HEARTBEAT_MS, 10..=60_000, "milliseconds")?;
    let host_timeout_ms = read::number(
        "host_timeout_ms",
        host_timeout_ms,
        heartbeat_ms * defaults::MISSED,
        20..=600_000,
        "milliseconds",
    )?;
    if host_timeout_ms < 2 * heartbeat_ms {
        return Err(fault(
            "host_timeout_ms",
            format!("{host_timeout_ms} ms with a heartbeat every {heartbeat_ms} ms"),
            "at least twice heartbeat_ms",
            "raise host_timeout_ms, so that one late heartbeat does not count as a dead host",
        ));
    }
    Ok((heartbeat_ms, host_timeout_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Bbs, String> {
        parse(text, Path::new("b.ron")).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults() {
        let b = check("(listen: [\"unix:/run/bbs.sock\"], store: \"/var/lib/bbs.redb\")").unwrap();
        assert_eq!(b.listen, vec![Endpoint::Unix("/run/bbs.sock".into())]);
        assert_eq!((b.heartbeat.as_millis(), b.host_timeout.as_millis()), (1000, 5000));
        assert_eq!((b.history, b.watcher_backlog, b.metrics), (100_000, 65_536, None));
    }

    #[test]
    fn an_https_endpoint_needs_credentials() {
        let b = check("(listen: [\"https://0.0.0.0:1\"], store: \"/x\", tls: \"/etc/stopover/b\")").unwrap();
        assert_eq!(b.tls, Some("/etc/stopover/b".into()));
        let e = check("(listen: [\"unix:/b\", \"https://0.0.0.0:1\"], store: \"/x\")").unwrap_err();
        let expected = "b.ron:1:22: listen[1]: found https://0.0.0.0:1 without `tls`; expected a folder of credentials; hint: \
                        add for example tls: \"/etc/stopover/credentials\"";
        assert_eq!(e, expected);
    }

    #[test]
    fn newcomers_have_an_endpoint_of_their_own_with_tls() {
        let with = |enrol: &str| {
            check(&format!("(listen: [\"https://0.0.0.0:1\"], store: \"/x\", tls: \"/t\", enrol: ({enrol}))"))
        };
        let enrol = with("listen: \"https://[::]:2\", ca: \"/etc/stopover/ca\"").unwrap().enrol.unwrap();
        assert_eq!((enrol.listen.to_string().as_str(), enrol.days), ("https://[::]:2", 365));
        assert_eq!(enrol.ca, PathBuf::from("/etc/stopover/ca"));
        for (enrol, expected) in [
            (
                "listen: \"https://0.0.0.0:1\", ca: \"/c\"",
                "enrol.listen: found https://0.0.0.0:1 again; expected",
            ),
            (
                "listen: \"http://0.0.0.0:2\", ca: \"/c\"",
                "expected an endpoint at https://; hint: a token must",
            ),
            ("listen: \"https://b:2\", ca: \"/c\"", "enrol.listen: found host `b`; expected an IP address"),
            ("listen: \"https://[::]:2\", ca: \"c\"", "enrol.ca: found `c`; expected an absolute path"),
            (
                "listen: \"https://[::]:2\", ca: \"/c\", days: 0",
                "enrol.days: found 0; expected 1 to 36500 days",
            ),
        ] {
            let e = with(enrol).unwrap_err();
            assert!(e.contains(expected), "{e}");
        }
        let e =
            check("(listen: [\"unix:/b\"], store: \"/x\", enrol: (listen: \"https://[::]:2\", ca: \"/c\"))");
        assert!(
            e.unwrap_err().contains("enrol: found no `tls`; expected a folder of the board's credentials")
        );
    }

    #[test]
    fn an_http_endpoint_needs_insecure() {
        let at = "listen: [\"unix:/b\", \"http://0.0.0.0:1\"], store: \"/x\"";
        let b = check(&format!("({at}, insecure: true)")).unwrap();
        assert!(b.insecure && b.listen[1].is_plain());
        for text in [format!("({at})"), format!("({at}, insecure: false)")] {
            let expected = "b.ron:1:22: listen[1]: found http://0.0.0.0:1, which is plain TCP; expected `https://host:port` or \
                            `unix:/absolute/path`; hint: `insecure: true` permits it, in a network that nobody else reaches";
            assert_eq!(check(&text).unwrap_err(), expected);
        }
    }

    #[test]
    fn users_of_unix_sockets_are_named_by_number() {
        let b = check("(listen: [\"unix:/b\"], store: \"/x\", unix: (operators: [1000, 0], hosts: [7]))")
            .unwrap();
        let UnixUsers { operators, observers, hosts } = b.unix;
        assert_eq!((operators, observers, hosts), ([0, 1000].into(), [].into(), [7].into()));
        let e = check("(listen: [\"unix:/b\"], store: \"/x\", unix: (observers: [5, -1]))").unwrap_err();
        let expected = "unix.observers[1]: found -1; expected the number of a user, 0 to 4294967294; hint: `id -u NAME` \
                        prints it";
        assert!(e.ends_with(expected), "{e}");
    }

    #[test]
    fn limits_have_defaults_and_ranges() {
        let b = check("(listen: [\"unix:/b\"], store: \"/x\", limits: (nodes_per_host: 5))").unwrap();
        assert_eq!(b.limits, Limits { nodes_per_host: 5, ..Limits::default() });
        let e = check("(listen: [\"unix:/b\"], store: \"/x\", limits: (loads: 0))").unwrap_err();
        let expected = "limits.loads: found 0; expected 1 to 64 loads; hint: choose a value within the range, or leave the \
                        key out for the default";
        assert!(e.ends_with(expected), "{e}");
    }

    #[test]
    fn bad_input_has_position_and_hint() {
        for (text, message) in [
            (
                "(listen: [], store: \"/x\")",
                "b.ron:1:10: listen: found no endpoint; expected at least one; hint: add for example \"unix:/run/stopover/bbs.sock\"",
            ),
            (
                "(listen: [\"http://h:1\"], store: \"/x\")",
                "b.ron:1:11: listen[0]: found host `h`; expected an IP address of this machine, 0.0.0.0 or [::]; hint: names are for clients; listen on an address",
            ),
            (
                "(listen: [\"unix:/b\"],\n store: \"x\")",
                "b.ron:2:9: store: found `x`; expected an absolute path; hint: begin it with /",
            ),
            (
                "(listen: [\"unix:/b\"], store: \"/x\", heartbeat_ms: 1000, host_timeout_ms: 1500)",
                "b.ron:1:73: host_timeout_ms: found 1500 ms with a heartbeat every 1000 ms; expected at least twice heartbeat_ms; hint: raise host_timeout_ms, so that one late heartbeat does not count as a dead host",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), message);
        }
    }
}
