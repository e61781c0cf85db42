//! Which UDP source ports an lcore uses for nodes that are locked for a migration. They are few, so that each can be
//! ended by its own marker when the node has moved, whatever path the underlay uses for it. A flow that is seen first
//! keeps its own port: with another port from the lock on, its frames could overtake each other. Only when a node has
//! the maximum of ports, further flows share one of them.

use arrayvec::ArrayVec;
use stopover_net::marker::MAX_PORTS;

/// Nodes whose ports are remembered; the one that was silent longest is replaced.
const NODES: usize = 256;
/// A lock that has ended without a move is recognized by this many seconds of silence.
const EXPIRE_S: u64 = 10;

/// Source ports that are in use for a node.
pub type UsedPorts = ArrayVec<u16, { MAX_PORTS as usize }>;

#[derive(Debug)]
struct Used {
    key: u64,
    last: u64,
    ports: UsedPorts,
}

/// The ports in use, by node. Allocated when the lcore starts.
#[derive(Debug)]
pub struct SourcePorts {
    nodes: Vec<Used>,
    expire_after: u64,
}

impl SourcePorts {
    /// Empty; `hz`: ticks per second of the clock that is used.
    #[must_use]
    pub fn new(hz: u64) -> Self {
        Self { nodes: Vec::with_capacity(NODES), expire_after: hz.saturating_mul(EXPIRE_S) }
    }

    /// The port for a frame to the node with this key, whose flow has port `of_flow`.
    pub fn port(&mut self, key: u64, of_flow: u16, now: u64) -> u16 {
        let at = self.nodes.iter().position(|used| used.key == key).unwrap_or_else(|| self.insert(key));
        let Some(used) = self.nodes.get_mut(at) else { return of_flow };
        if now.saturating_sub(used.last) > self.expire_after {
            used.ports.clear();
        }
        used.last = now;
        if used.ports.contains(&of_flow) || used.ports.try_push(of_flow).is_ok() {
            return of_flow;
        }
        used.ports.get(usize::from(of_flow) % usize::from(MAX_PORTS)).copied().unwrap_or(of_flow)
    }

    fn insert(&mut self, key: u64) -> usize {
        let new = Used { key, last: 0, ports: UsedPorts::new() };
        if self.nodes.len() < NODES {
            self.nodes.push(new);
            return self.nodes.len() - 1;
        }
        let oldest = self.nodes.iter().enumerate().min_by_key(|(_, used)| used.last);
        let at = oldest.map_or(0, |(at, _)| at);
        if let Some(used) = self.nodes.get_mut(at) {
            *used = new;
        }
        at
    }

    /// The ports that were used for the node with this key.
    #[must_use]
    pub fn used(&self, key: u64) -> UsedPorts {
        self.nodes.iter().find(|used| used.key == key).map(|used| used.ports.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    proptest! {
        #[test]
        fn flow_keeps_its_port_and_ports_are_few(flows in prop::collection::vec((0u64..3, 49152u16..49300), 0..500)) {
            let mut ports = SourcePorts::new(1);
            let (mut of_flow, mut of_node) = (HashMap::new(), HashMap::<u64, HashSet<u16>>::new());
            for (key, flow) in flows {
                let port = ports.port(key, flow, 1);
                prop_assert_eq!(*of_flow.entry((key, flow)).or_insert(port), port);
                let used = of_node.entry(key).or_default();
                let was_room = used.len() < usize::from(MAX_PORTS);
                prop_assert!(used.contains(&port) || (was_room && port == flow));
                used.insert(port);
            }
            for (key, used) in of_node {
                prop_assert_eq!(ports.used(key).into_iter().collect::<HashSet<_>>(), used);
            }
        }
    }

    #[test]
    fn node_silent_longest_is_replaced() {
        let mut ports = SourcePorts::new(1);
        for key in 1..=NODES as u64 {
            ports.port(key, 50_000, key);
        }
        ports.port(1, 50_000, 300);
        ports.port(1000, 50_001, 301);
        assert_eq!((ports.used(1).len(), ports.used(2).len(), ports.used(1000).len()), (1, 0, 1));
        assert!(ports.used(7).len() == 1 && ports.used(2000).is_empty());
    }

    #[test]
    fn ports_of_an_earlier_lock_are_removed() {
        let mut ports = SourcePorts::new(1);
        ports.port(1, 50_000, 1);
        ports.port(1, 50_001, 1 + EXPIRE_S);
        ports.port(1, 50_002, 3 + 2 * EXPIRE_S);
        assert_eq!(ports.used(1).as_slice(), [50_002]);
    }
}
