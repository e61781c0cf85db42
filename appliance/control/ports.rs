//! The ports and the lcores that serve them. Enters: links of devices, frames and orders for lcores. Leaves: which
//! links have changed, what lcores report, frames for lcores to send. `handles` are what is held of each, `queues` says
//! which lcore has which queue, `changes` is for ports that come and go.

mod changes;
mod handles;
pub mod queues;

use super::numa::{self, Pools};
use crate::lcore::{
    egress::{Order, Rings},
    wake::{Sleeper, Wake},
};
use crate::pipeline::ports::{Port, Role};
use anyhow::{Context, Result};
use crossbeam::channel::{self, Receiver, Sender};
use dpdk::{GuestOffloads, Mbuf, PortEvent};
pub use handles::{LcoreHandle, PortHandle};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use stopover_config::appliance as config;

/// How often the links of devices are read.
const LINK_EVERY_MS: u64 = 20;
/// How long this thread waits after an lcore has woken it, before another may.
const REST: Duration = Duration::from_millis(1);

/// All ports and lcores.
#[derive(Debug)]
pub struct Ports {
    /// The ports as the packet path sees them, by number.
    stage: Arc<[Port]>,
    /// The same as the operator wants them.
    wanted: BTreeMap<u16, config::Port>,
    /// Underlay ports that come or go.
    unused: BTreeSet<u16>,
    /// What is held of each; empty before they run.
    handles: BTreeMap<u16, PortHandle>,
    lcores: Vec<LcoreHandle>,
    pools: Pools,
    /// A port has an event, or an lcore has woken this thread.
    events: Receiver<()>,
    event: Sender<()>,
    /// What devices report beside changes of their links.
    reports: Receiver<(u16, PortEvent)>,
    report: Sender<(u16, PortEvent)>,
    sleeper: Sleeper,
    link_due_ms: u64,
    changes: changes::Changes,
    /// The lcores know that this thread sleeps.
    announced: bool,
    /// Until when no sleep is announced.
    rest_until_ms: u64,
}

impl Ports {
    /// Ports that do not run yet. `wanted` and `stage` are in the order of their numbers, from 0.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(wanted: &[config::Port], stage: Arc<[Port]>, pools: Pools) -> Result<Self> {
        let (handles, lcores) = (BTreeMap::new(), Vec::new());
        let wanted = (0..).zip(wanted.iter().cloned()).collect();
        // A full channel wakes the control thread already.
        let (event, events) = channel::bounded(1);
        let (report, reports) = channel::unbounded();
        let of_lcores = event.clone();
        let wake = move || {
            let _ = of_lcores.try_send(());
        };
        let sleeper =
            Sleeper::start(wake).context("cannot start the thread that wakes the control thread")?;
        Ok(Self {
            stage,
            wanted,
            unused: BTreeSet::new(),
            handles,
            lcores,
            pools,
            events,
            event,
            reports,
            report,
            sleeper,
            link_due_ms: 0,
            changes: changes::Changes::default(),
            announced: false,
            rest_until_ms: 0,
        })
    }

    /// Wakes the control thread, for an lcore.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.sleeper.wake()
    }

    /// The ports are connected, and run with the lcores.
    pub fn connected(&mut self, handles: Vec<PortHandle>) {
        self.handles = (0..).zip(handles).collect();
        for (number, port) in &self.handles {
            self.watch(*number, port);
        }
    }

    /// The lcores run from now on.
    pub fn run(&mut self, lcores: Vec<LcoreHandle>) {
        self.lcores = lcores;
    }

    /// Has a port report its device's events, and wake the control thread.
    fn watch(&self, number: u16, port: &PortHandle) {
        let (wake, report) = (self.waker(), self.report.clone());
        let subscribed = port.device.on_event(move |what| {
            if !matches!(what, PortEvent::Link | PortEvent::Queues | PortEvent::Logging) {
                let _ = report.send((number, what));
            }
            wake();
        });
        if let Err(e) = subscribed {
            log::warn!("port {}: {e}; its link is still read every {LINK_EVERY_MS} ms", port.name);
        }
    }

    /// Wakes the control thread.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let event = self.event.clone();
        move || {
            let _ = event.try_send(());
        }
    }

    /// What the device of a port has reported beside changes of its link.
    pub fn next_report(&self) -> Option<(u16, PortEvent)> {
        self.reports.try_recv().ok()
    }

    /// Whether they run.
    #[must_use]
    pub fn are_running(&self) -> bool {
        !self.lcores.is_empty()
    }

    /// Stops the lcores, then the devices.
    pub fn shut_down(&mut self) {
        self.stop_lcores();
        for port in self.handles.values() {
            if let Err(e) = port.device.stop() {
                log::warn!("port {}: {e}", port.name);
            }
        }
    }

    /// Stops the lcores.
    pub fn stop_lcores(&mut self) {
        // All at once: what one hands to another is still sent.
        self.lcores.iter().for_each(|lcore| lcore.stop.store(true, Relaxed));
        self.lcores.clear();
    }

    /// After that: closes devices, for another process; those whose driver has such a name. A vhost-user socket is closed
    /// when it stops.
    pub fn close(&mut self, which: impl Fn(&str) -> bool) {
        for port in self.handles.values().filter(|port| which(&port.device.info().driver)) {
            let closed = match port.vhost {
                None if !port.in_service => Ok(()),
                None => port.device.stop().and_then(|()| port.device.close()),
                Some(_) => port.device.stop(),
            };
            if let Err(e) = closed {
                log::warn!("port {}: {e}", port.name);
            }
        }
    }

    /// The ports as the packet path sees them.
    #[must_use]
    pub const fn stage(&self) -> &Arc<[Port]> {
        &self.stage
    }

    /// The role of a port.
    #[must_use]
    pub fn role(&self, port: u16) -> Option<&Role> {
        self.stage.get(usize::from(port)).map(|port| &port.role)
    }

    /// All ports by number, as the operator wants them.
    pub fn wanted(&self) -> impl Iterator<Item = (u16, &config::Port)> {
        self.wanted.iter().map(|(number, port)| (*number, port))
    }

    /// One of them.
    #[must_use]
    pub fn wanted_at(&self, port: u16) -> Option<&config::Port> {
        self.wanted.get(&port)
    }

    /// The number of a port.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u16> {
        self.wanted().find(|(_, port)| port.name == name).map(|(number, _)| number)
    }

    /// The name of a port.
    #[must_use]
    pub fn name(&self, port: u16) -> &str {
        self.wanted.get(&port).map_or("?", |port| port.name.as_str())
    }

    /// Whether any underlay port that hosts are sent to by has an address of this family.
    #[must_use]
    pub fn has_family(&self, ip: IpAddr) -> bool {
        self.has_family_beside(None, ip)
    }

    /// The same of underlay ports other than this.
    #[must_use]
    pub fn has_family_beside(&self, beside: Option<u16>, ip: IpAddr) -> bool {
        let used = (0..).zip(self.stage.iter()).filter(|(number, _)| {
            let number: u16 = *number;
            Some(number) != beside && !self.unused.contains(&number)
        });
        let mut underlays = used.filter_map(|(_, port)| match &port.role {
            Role::Underlay(underlay) => Some(underlay),
            Role::Vif(_) | Role::Segment(_) | Role::Absent => None,
        });
        underlays.any(|underlay| underlay.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4()))
    }

    /// Whether hosts may be sent to by this underlay port: not while it comes or goes.
    pub fn set_used(&mut self, port: u16, used: bool) {
        if used {
            self.unused.remove(&port)
        } else {
            self.unused.insert(port)
        };
    }

    /// The underlay ports, as the operator wants them, with their MTUs.
    pub fn underlays(&self) -> impl Iterator<Item = (u16, &config::Port, u16)> {
        let underlays = self.wanted().filter(|(_, port)| matches!(port.role, config::Role::Underlay(_)));
        underlays.filter_map(|(number, port)| Some((number, port, self.stage.get(usize::from(number))?.mtu)))
    }

    /// What is held of each port, by number; nothing before they run.
    pub fn handles(&self) -> impl Iterator<Item = (u16, &PortHandle)> {
        self.handles.iter().map(|(number, handle)| (*number, handle))
    }

    /// What is held of each port, with the port as the operator wants it.
    pub fn running(&self) -> impl Iterator<Item = (&PortHandle, &config::Port)> {
        self.handles().filter_map(|(number, handle)| Some((handle, self.wanted.get(&number)?)))
    }

    /// The same, to clear counters.
    pub fn handles_mut(&mut self) -> impl Iterator<Item = &mut PortHandle> {
        self.handles.values_mut()
    }

    /// What is held of one port.
    #[must_use]
    pub fn handle(&self, port: u16) -> Option<&PortHandle> {
        self.handles.get(&port)
    }

    /// The running lcores.
    #[must_use]
    pub fn lcores(&self) -> &[LcoreHandle] {
        &self.lcores
    }

    /// The same, to change what is known of their queues.
    pub fn lcores_mut(&mut self) -> &mut [LcoreHandle] {
        &mut self.lcores
    }

    /// The rings of each lcore.
    #[must_use]
    pub fn rings(&self) -> Vec<Rings> {
        self.lcores.iter().map(|lcore| lcore.rings.clone()).collect()
    }

    /// The pools of all frames.
    #[must_use]
    pub const fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Whether an lcore, by its number among all, is near to a port that runs.
    #[must_use]
    pub fn is_near(&self, port: u16, lcore: usize) -> bool {
        let port = self.handle(port).and_then(|port| port.device.info().socket);
        self.lcores.get(lcore).is_none_or(|lcore| numa::is_near(port, lcore.socket))
    }

    /// Receives something when a port has an event, or an lcore has woken this thread.
    #[must_use]
    pub const fn events(&self) -> &Receiver<()> {
        &self.events
    }

    /// Whether it is time to read what the devices report. Not again before [`LINK_EVERY_MS`] have passed.
    pub fn are_due(&mut self, now_ms: u64) -> bool {
        let due = now_ms >= self.link_due_ms;
        if due {
            self.link_due_ms = now_ms + LINK_EVERY_MS;
        }
        due
    }

    /// Reads the links, but for the ports that `skip` names. Returns the ports whose link has changed.
    pub fn changed_links(&self, skip: impl Fn(u16) -> bool) -> Vec<(u16, bool)> {
        let ports = self.handles().filter(|(number, _)| !skip(*number));
        ports.filter_map(|(number, port)| Some((number, port.link_changed()?))).collect()
    }

    /// The ports whose guest has negotiated other offloads than the stages know, and what they should know. Without a
    /// guest it is that nothing may be left to it: the next one may take less than the last.
    #[must_use]
    pub fn changed_offloads(&self) -> Vec<(u16, Port)> {
        let of = |number: u16, handle: &PortHandle| {
            let offloads = handle.vhost.as_ref()?.guest_offloads();
            let GuestOffloads { checksums, tcp_segments } = offloads.unwrap_or(GuestOffloads::NONE);
            let port = self.stage.get(usize::from(number)).filter(|_| !handle.removed)?;
            let same = (port.fills_checksums, port.segments_tcp) == (checksums, tcp_segments);
            (!same).then(|| {
                (number, Port { fills_checksums: checksums, segments_tcp: tcp_segments, ..port.clone() })
            })
        };
        self.handles().filter_map(|(number, handle)| of(number, handle)).collect()
    }

    /// When links are read next; `None` before the ports run. Not every driver reports a change.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.are_running().then_some(self.link_due_ms)
    }

    /// Announces to the lcores that this thread sleeps. Returns how long at most: not at all while their rings hold
    /// something, and a millisecond if an lcore has just ended a sleep. So however much they report, they wake it a
    /// thousand times a second at most.
    pub fn begin_sleep(&mut self, now_ms: u64) -> Option<Duration> {
        if now_ms < self.rest_until_ms {
            return Some(REST);
        }
        self.announced = self.sleeper.announce(|| self.lcores.iter().all(|lcore| lcore.rings.is_idle()));
        (!self.announced).then_some(Duration::ZERO)
    }

    /// The sleep has ended.
    pub fn end_sleep(&mut self, now_ms: u64) {
        let _ = self.events.try_recv();
        if std::mem::take(&mut self.announced) && self.sleeper.end() {
            self.rest_until_ms = now_ms + REST.as_millis() as u64;
        }
    }

    /// Blocks a segment port for the network of a VLAN in the packet path, or unblocks it.
    pub fn block(&self, port: u16, vlan: u16, on: bool) {
        if let Some(Role::Segment(segment)) = self.role(port) {
            segment.gate.set_blocked(vlan, on);
        }
    }

    /// Gives a frame to the lcore that sends for this port. It is lost if its ring or the pool is exhausted; what is
    /// requested is requested again.
    pub fn send(&self, port: u16, vlan: u16, mut frame: Vec<u8>) {
        if vlan != 0 {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        let handle = self.handle(port);
        let Some(lcore) = handle.and_then(|port| self.lcores.get(port.sender)) else { return };
        if let Some(packet) = Mbuf::from_slice(self.pools.usual(), &frame) {
            let _ = lcore.rings.from_control.push(Order::Frame(port, packet));
        }
    }

    /// Gives an order with a frame to each of the first `lcores`. Returns how many have received it; the others had no
    /// room in their ring, or the pool was empty.
    pub fn order_each<const N: usize>(
        &self,
        lcores: u8,
        frame: impl Fn(u8) -> [u8; N],
        order: impl Fn(Mbuf) -> Order,
    ) -> u32 {
        let mut given = 0;
        for (number, lcore) in (0..lcores).zip(&self.lcores) {
            if let Some(packet) = Mbuf::from_slice(self.pools.usual(), &frame(number)) {
                given += u32::from(lcore.rings.from_control.push(order(packet)).is_ok());
            }
        }
        given
    }
}
