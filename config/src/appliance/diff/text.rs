//! Values in words, as the configuration file writes them.

use super::QueuesByName;
use crate::appliance::tunnels::{PEERS, REKEY_S, TunnelCipher, TunnelEngine, TunnelMode, Tunnels, WINDOW};
use std::{collections::BTreeMap, fmt::Display};

/// A list, or `none`.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    joined(items.iter().map(T::to_string))
}

/// The same of texts that are already made.
pub(super) fn joined(items: impl IntoIterator<Item = String>) -> String {
    match items.into_iter().collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(", "),
    }
}

/// A value, or a word for its absence.
pub(super) fn or<T: Display>(value: Option<T>, absent: &str) -> String {
    value.map_or_else(|| absent.to_owned(), |value| value.to_string())
}

/// The key `lcores`.
pub(super) fn queues(queues: Option<&QueuesByName>) -> String {
    let Some(queues) = queues else { return "spread".to_owned() };
    let words = |queues: &[(String, u16)]| {
        queues.iter().map(|(port, queue)| format!("{port}:{queue}")).collect::<Vec<_>>().join(" ")
    };
    joined(queues.iter().map(|(lcore, queues)| format!("lcore {lcore}: {}", words(queues))))
}

/// The key `tunnels`, without what has its default.
pub(super) fn tunnels(tunnels: &Tunnels) -> String {
    let Tunnels { mode, networks, hosts, cipher, window, engine, peers, rekey_s, export_keys } = tunnels;
    let cipher = match cipher {
        TunnelCipher::Aes128 => None,
        TunnelCipher::Aes256 => Some("aes256".to_owned()),
    };
    let engine = match engine {
        TunnelEngine::Auto => None,
        TunnelEngine::IpsecMb => Some("ipsec_mb".to_owned()),
        TunnelEngine::AwsLc => Some("aws_lc".to_owned()),
    };
    let keys = [
        ("mode", (*mode == TunnelMode::Required).then(|| mode_word(*mode).to_owned())),
        ("networks", modes(networks)),
        ("hosts", modes(hosts)),
        ("cipher", cipher),
        ("window", (*window != WINDOW).then(|| window.to_string())),
        ("engine", engine),
        ("peers", (*peers != PEERS).then(|| peers.to_string())),
        ("rekey_s", (*rekey_s != REKEY_S).then(|| rekey_s.to_string())),
        ("export_keys", export_keys.as_ref().map(|path| path.display().to_string())),
    ];
    let keys = keys.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    format!("({})", keys.collect::<Vec<_>>().join(", "))
}

fn modes<K: Display>(of: &BTreeMap<K, TunnelMode>) -> Option<String> {
    let words = of.iter().map(|(key, mode)| format!("{key}: {}", mode_word(*mode))).collect::<Vec<_>>();
    (!words.is_empty()).then(|| format!("{{{}}}", words.join(", ")))
}

const fn mode_word(mode: TunnelMode) -> &'static str {
    match mode {
        TunnelMode::Off => "off",
        TunnelMode::Required => "required",
    }
}
