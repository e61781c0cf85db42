//! NUMA: memory and lcores on the socket of a port. Enters: the sockets that DPDK reports, of devices and of the CPUs of
//! lcores. Leaves: a pool of mbufs for each socket that needs one, and which queues are polled by an lcore of another
//! socket than their port's. On a machine with one socket there is one pool, and every lcore is near.
//!
//! A port without a device, that is one of vhost-user, is on no socket: its rings are in the memory of a guest, wherever
//! that is. Every lcore is near to it, and its frames go to the pool of the lcore that polls it.

use anyhow::{Context, Result};
use dpdk::{Eal, Mempool};
use std::collections::{BTreeMap, BTreeSet};
use stopover_config::appliance::{Appliance, QueueRef};

/// The sockets of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Of the worker lcores.
    pub lcores: BTreeMap<u32, u32>,
    /// Of the ports, in their order.
    pub ports: Vec<Option<u32>>,
}

/// A queue that is polled by an lcore of another socket than its port's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Far {
    /// The port's index, and the number of the queue.
    pub queue: QueueRef,
    /// The lcore.
    pub lcore: u32,
    /// The socket of the port.
    pub socket: u32,
    /// Some worker lcore is on it.
    pub has_lcore: bool,
}

/// Whether an lcore of this socket is near to a port.
#[must_use]
pub fn is_near(port: Option<u32>, lcore: u32) -> bool {
    port.is_none_or(|port| port == lcore)
}

impl Sockets {
    /// Whether an lcore is near to the port with this index.
    #[must_use]
    pub fn is_near(&self, port: usize, lcore: u32) -> bool {
        let port = self.ports.get(port).copied().flatten();
        self.lcores.get(&lcore).is_none_or(|lcore| is_near(port, *lcore))
    }

    /// Those that need a pool: where frames arrive, and where lcores copy some.
    #[must_use]
    pub fn with_pool(&self) -> BTreeSet<u32> {
        self.ports.iter().flatten().chain(self.lcores.values()).copied().collect()
    }

    /// The socket of most lcores; of equals the lowest.
    #[must_use]
    pub fn usual(&self) -> Option<u32> {
        let mut lcores: BTreeMap<u32, usize> = BTreeMap::new();
        for socket in self.lcores.values() {
            *lcores.entry(*socket).or_default() += 1;
        }
        lcores.into_iter().rev().max_by_key(|(_, lcores)| *lcores).map(|(socket, _)| socket)
    }

    /// The queues that are not polled by an lcore near to their port.
    #[must_use]
    pub fn far(&self, assigned: &BTreeMap<u32, Vec<QueueRef>>) -> Vec<Far> {
        let mut found = Vec::new();
        for (lcore, queues) in assigned {
            for queue in queues.iter().filter(|queue| !self.is_near(queue.port, *lcore)) {
                let Some(socket) = self.ports.get(queue.port).copied().flatten() else { continue };
                let has_lcore = self.lcores.values().any(|of_lcore| *of_lcore == socket);
                found.push(Far { queue: *queue, lcore: *lcore, socket, has_lcore });
            }
        }
        found
    }
}

impl Far {
    /// For the operator. `port`: the port's name.
    #[must_use]
    pub fn explain(&self, port: &str) -> String {
        let Self { queue: QueueRef { queue, .. }, lcore, socket, has_lcore } = self;
        let hint = match has_lcore {
            true => format!("give it to an lcore of socket {socket} in `lcores`, or remove the key"),
            false => format!("give EAL a CPU of socket {socket} with `-l` or `--lcores`"),
        };
        format!(
            "port {port}: queue {queue} is polled by lcore {lcore}, which is on another socket than the device (socket {socket}); each of its frames crosses the link between the sockets; hint: {hint}"
        )
    }
}

/// The pools of mbufs.
#[derive(Debug)]
pub struct Pools {
    of_socket: BTreeMap<u32, Mempool>,
    /// For those who are on no socket, or on one without a pool.
    usual: Mempool,
}

impl Pools {
    /// Creates them, of `mbufs` each. If a socket has no memory for its pool, that is in the memory of another.
    ///
    /// # Errors
    /// There is too little memory.
    pub fn create(eal: &Eal, config: &Appliance, sockets: &Sockets) -> Result<Self> {
        let with_pool = sockets.with_pool();
        let create = |name: &str, socket| {
            Mempool::create(eal, name, config.mbufs, config.mbcache, config.mbuf_size, socket)
        };
        if with_pool.len() < 2 {
            return Ok(Self { of_socket: BTreeMap::new(), usual: create("stopover", None)? });
        }
        let mut of_socket = BTreeMap::new();
        for socket in with_pool {
            let name = format!("stopover-{socket}");
            let pool = create(&name, Some(socket)).or_else(|e| {
                log::warn!("socket {socket}: {}; the pool is in the memory of another socket; hint: reserve hugepages on each socket, and give EAL some of each with `--socket-mem`", e.what());
                create(&name, None)
            });
            of_socket.insert(socket, pool.with_context(|| format!("pool of socket {socket}"))?);
        }
        let usual = sockets.usual().and_then(|socket| of_socket.get(&socket)).or(of_socket.values().next());
        let usual = usual.cloned().context("no socket has a pool")?;
        Ok(Self { of_socket, usual })
    }

    /// That of a socket; the usual one for those who are on none.
    #[must_use]
    pub fn of(&self, socket: Option<u32>) -> &Mempool {
        socket.and_then(|socket| self.of_socket.get(&socket)).unwrap_or(&self.usual)
    }

    /// The sockets with a pool; one that is `None` if there is one pool for all.
    #[must_use]
    pub fn sockets(&self) -> Vec<Option<u32>> {
        match self.of_socket.is_empty() {
            true => vec![None],
            false => self.of_socket.keys().copied().map(Some).collect(),
        }
    }

    /// That of those who are on no socket.
    #[must_use]
    pub const fn usual(&self) -> &Mempool {
        &self.usual
    }

    /// Mbufs that are in use, of all pools.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        match self.of_socket.is_empty() {
            true => self.usual.in_use(),
            false => self.of_socket.values().map(Mempool::in_use).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets with two lcores each, and a NIC on either beside a vhost-user port.
    fn two() -> Sockets {
        Sockets { lcores: [(2, 0), (3, 0), (4, 1), (5, 1)].into(), ports: vec![Some(1), None, Some(0)] }
    }

    fn at(port: usize, queue: u16) -> QueueRef {
        QueueRef { port, queue }
    }

    #[test]
    fn sockets_of_ports_and_of_lcores_have_pools() {
        assert_eq!(two().with_pool(), [0, 1].into());
        let far = Sockets { lcores: [(1, 2)].into(), ports: vec![Some(0), None] };
        assert_eq!((far.with_pool(), far.usual()), ([0, 2].into(), Some(2)));
        let one = Sockets { lcores: [(1, 0), (2, 0)].into(), ports: vec![Some(0), None, Some(0)] };
        assert_eq!((one.with_pool(), one.usual()), ([0].into(), Some(0)));
        assert_eq!(Sockets::default().usual(), None);
    }

    #[test]
    fn the_usual_socket_has_most_lcores() {
        assert_eq!(two().usual(), Some(0), "the lowest of equals");
        let uneven = Sockets { lcores: [(2, 0), (3, 1), (4, 1)].into(), ports: Vec::new() };
        assert_eq!(uneven.usual(), Some(1));
    }

    #[test]
    fn near_is_the_socket_of_the_device() {
        let near = |port| [2, 3, 4, 5].map(|lcore| two().is_near(port, lcore));
        assert_eq!(near(0), [false, false, true, true]);
        assert_eq!(near(1), [true; 4], "a guest's port is on no socket");
        assert_eq!(near(2), [true, true, false, false]);
        assert!(two().is_near(0, 9) && two().is_near(7, 2), "nothing is known of it");
    }

    #[test]
    fn queues_far_from_their_port_are_explained() {
        let assigned = [(2, vec![at(0, 0), at(1, 0)]), (4, vec![at(0, 1), at(2, 0)])].into();
        let found = two().far(&assigned);
        let far = |queue, lcore, socket| Far { queue, lcore, socket, has_lcore: true };
        assert_eq!(found, [far(at(0, 0), 2, 1), far(at(2, 0), 4, 0)]);
        assert_eq!(
            found[0].explain("ul0"),
            "port ul0: queue 0 is polled by lcore 2, which is on another socket than the device (socket 1); each of its frames crosses the link between the sockets; hint: give it to an lcore of socket 1 in `lcores`, or remove the key"
        );
        let none = Sockets { lcores: [(2, 0)].into(), ports: vec![Some(1)] };
        let found = none.far(&[(2, vec![at(0, 0)])].into());
        assert!(
            found[0].explain("ul0").ends_with("hint: give EAL a CPU of socket 1 with `-l` or `--lcores`")
        );
    }

    #[test]
    fn nothing_is_far_on_one_socket() {
        let one = Sockets { lcores: [(1, 0), (2, 0)].into(), ports: vec![Some(0), None, Some(0)] };
        assert_eq!(one.far(&[(1, vec![at(0, 0), at(2, 0)]), (2, vec![at(1, 0)])].into()), []);
    }
}
