//! Devices that are reset, removed or repaired while frames flow. Enters: what drivers and the kernel report of devices.
//! Leaves: ports that go down, whose queues no lcore has while their device is reset, or closed and opened again, and that
//! come back with the queues where they were. The port keeps its number and its place in all tables; the other ports do not
//! notice. `device_state` decides what is next; this module does it, one step of the lcores at a time, between the changes
//! of `port_changes`.

use super::{
    Control,
    connect::Started,
    device_state::{Cause, Condition, Device, Event, Job},
    devices,
    port_changes::Step,
    ports::Ports,
    spread::QueueAt,
};
use crate::lcore::{changes::Change, rx_queue::PortRxQueue};
use anyhow::{Context, Result, bail};
use crossbeam::channel::{self, Receiver, Sender};
use dpdk::{Eal, Hotplug, HotplugEvent, PortEvent, Queues};
use std::collections::BTreeMap;
use stopover_config::appliance as config;
use stopover_ctl::ApiError;
use stopover_net::Mac;

/// See the module.
pub struct DeviceEvents {
    ports: BTreeMap<u16, PortDevice>,
    /// Of devices that come and go: their names.
    hotplugged: Receiver<(String, HotplugEvent)>,
    report: Sender<(String, HotplugEvent)>,
    /// Reports them, since there was a port of a device that could.
    hotplug: Option<Result<Hotplug, dpdk::Error>>,
}

/// The device of one port.
#[derive(Debug, Default)]
struct PortDevice {
    device: Device,
    counts: DeviceCounts,
    /// The last error of a job, which is not logged again.
    error: String,
}

/// What has happened to the device of a port since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    /// Its driver asked for a reset.
    pub resets: u64,
    /// It was removed.
    pub removals: u64,
    /// Its driver began to repair it.
    pub recoveries: u64,
    /// Its driver could not repair it.
    pub failures: u64,
}

impl std::fmt::Debug for DeviceEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceEvents").field("ports", &self.ports).finish_non_exhaustive()
    }
}

impl DeviceEvents {
    /// Of these ports, whose devices are in service.
    pub fn new(eal: &Eal, ports: &Ports) -> Self {
        let (report, hotplugged) = channel::unbounded();
        let mut events = Self { ports: BTreeMap::new(), hotplugged, report, hotplug: None };
        for (number, port) in ports.wanted() {
            events.add(number, &port.device, eal, ports.waker());
        }
        events
    }

    /// A port has this device, which is in service. If it can come and go, that is watched.
    pub fn add(
        &mut self,
        port: u16,
        device: &config::Device,
        eal: &Eal,
        wake: impl Fn() + Send + Sync + 'static,
    ) {
        self.ports.insert(port, PortDevice::default());
        if self.hotplug.is_none() && matches!(device, config::Device::Pci(_)) {
            let report = self.report.clone();
            let watched = Hotplug::watch(eal, move |name, event| {
                let _ = report.send((name.to_owned(), event));
                wake();
            });
            if let Err(e) = &watched {
                log::info!("{e}; a device that comes back is found by looking for it");
            }
            self.hotplug = Some(watched);
        }
    }

    /// A port is no more.
    pub fn remove(&mut self, port: u16) {
        self.ports.remove(&port);
    }

    /// What an operator sees of the device of a port.
    #[must_use]
    pub fn condition(&self, port: u16) -> Condition {
        self.ports.get(&port).map_or(Condition::InService, |port| port.device.condition())
    }

    /// What has happened to it.
    #[must_use]
    pub fn counts(&self, port: u16) -> DeviceCounts {
        self.ports.get(&port).map(|port| port.counts).unwrap_or_default()
    }

    /// Whether the lcores have the queues of a port, and keep them.
    #[must_use]
    pub fn is_with_lcores(&self, port: u16) -> bool {
        self.ports.get(&port).is_none_or(|port| port.device.is_with_lcores())
    }

    /// # Errors
    /// The lcores are to give up the queues of this port.
    pub fn may_move(&self, port: u16) -> Result<(), ApiError> {
        if self.is_with_lcores(port) {
            return Ok(());
        }
        Err(ApiError::new(
            "a port whose device has just gone out of service",
            "a queue that is polled",
            "try again: the lcore you name polls the queue when the device is back",
        ))
    }

    /// # Errors
    /// DPDK does not allow to close the device of this port now.
    pub fn may_close(&self, port: u16, name: &str) -> Result<(), ApiError> {
        if self.ports.get(&port).is_none_or(|port| !port.device.is_recovering()) {
            return Ok(());
        }
        Err(ApiError::new(
            format!("port {name}, whose device is being repaired by its driver"),
            "a device that can be closed",
            "try again when the log says how that has ended",
        ))
    }

    /// When there is something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.ports.values().filter_map(|port| port.device.next_timeout()).min()
    }

    /// The first port with a job.
    #[must_use]
    pub fn next_job(&self, now_ms: u64) -> Option<(u16, Job)> {
        self.ports.iter().find_map(|(number, port)| Some((*number, port.device.job(now_ms)?)))
    }

    fn get(&mut self, port: u16) -> Option<&mut PortDevice> {
        self.ports.get_mut(&port)
    }
}

impl Control {
    /// Handles what devices have reported.
    pub(super) fn drain_device_events(&mut self, now_ms: u64) {
        while let Some((port, event)) = self.ports.next_report() {
            let event = match event {
                PortEvent::Reset => Event::Reset,
                PortEvent::Removed => Event::Removed,
                PortEvent::Recovering => Event::Recovering,
                PortEvent::Recovered => Event::Recovered,
                PortEvent::RecoveryFailed => Event::Failed,
                PortEvent::Link | PortEvent::Queues | PortEvent::Logging => continue,
            };
            self.on_device_event(now_ms, port, event);
        }
        while let Ok((name, event)) = self.device_events.hotplugged.try_recv() {
            let event = match event {
                HotplugEvent::Added => Event::Present,
                HotplugEvent::Removed => Event::Removed,
            };
            let of_device = self.ports.wanted().find(|(_, port)| port.device.as_str() == name);
            if let Some((port, _)) = of_device {
                self.on_device_event(now_ms, port, event);
            }
        }
    }

    pub(super) fn on_device_event(&mut self, now_ms: u64, port: u16, event: Event) {
        let Some(PortDevice { device, counts, .. }) = self.device_events.get(port) else { return };
        let is_worse = device.on_event(now_ms, event);
        if is_worse {
            match event {
                Event::Reset => counts.resets += 1,
                Event::Removed => counts.removals += 1,
                Event::Recovering => counts.recoveries += 1,
                Event::Failed => counts.failures += 1,
                Event::Recovered | Event::Present => {}
            }
        }
        let in_service = device.condition() == Condition::InService;
        let (name, of) = (self.ports.name(port).to_owned(), self.device_name(port));
        match event {
            Event::Reset if is_worse => {
                log::warn!(port = name; "port {name}: device {of} needs a reset, says its driver; the port is down until it is done");
            }
            Event::Removed if is_worse => {
                log::warn!(port = name; "port {name}: device {of} is removed; the port is down until the device is back");
            }
            Event::Recovering if is_worse => {
                log::warn!(port = name; "port {name}: the driver of device {of} repairs it after an error; the port is down meanwhile");
            }
            Event::Failed if is_worse => {
                log::error!(port = name; "port {name}: the driver of device {of} could not repair it; it is closed and opened again");
            }
            Event::Recovered => {
                log::info!(port = name; "port {name}: the driver has repaired device {of}");
            }
            _ => {}
        }
        if self.ports.set_in_service(port, in_service) {
            // All that depends on the link knows it before the queues are taken.
            self.migrate(now_ms, |migrations| migrations.watch_vifs(now_ms));
            self.watch_links(now_ms);
        }
    }

    fn device_name(&self, port: u16) -> String {
        self.ports.wanted_at(port).map_or_else(String::new, |port| port.device.as_str().to_owned())
    }

    /// Ports whose device is missing are tried at once.
    pub(super) fn retry_devices(&mut self, now_ms: u64) {
        let out: Vec<u16> =
            self.ports.handles().filter(|(_, port)| !port.in_service).map(|(n, _)| n).collect();
        for port in out {
            self.on_device_event(now_ms, port, Event::Present);
        }
    }

    /// Begins the next job. Returns whether there was one.
    pub(super) fn begin_device_job(&mut self, now_ms: u64) -> bool {
        let Some((port, job)) = self.device_events.next_job(now_ms) else { return false };
        let done = match job {
            Job::Leave => {
                self.begin_leaving(port);
                return true;
            }
            Job::Close => self.close_device(port).map(|()| None),
            Job::Reset => self.reset_device(port).map(Some),
            Job::Open => self.reopen_device(port).map(Some),
        };
        match done {
            Ok(None) => {
                if let Some(of_port) = self.device_events.get(port) {
                    of_port.device.closed(now_ms);
                }
            }
            Ok(Some(queues)) => self.begin_returning(port, queues),
            Err(e) => self.device_job_failed(now_ms, port, job, &e),
        }
        true
    }

    fn device_job_failed(&mut self, now_ms: u64, port: u16, job: Job, error: &anyhow::Error) {
        let (name, of) = (self.ports.name(port).to_owned(), self.device_name(port));
        let is_gone =
            error.downcast_ref::<dpdk::Error>().map(dpdk::Error::kind) == Some(dpdk::ErrorKind::NoSuchDevice);
        let Some(PortDevice { device, error: last, .. }) = self.device_events.get(port) else { return };
        // That it is not there was said when it was removed.
        let is_known = is_gone && device.condition() == Condition::Out(Cause::Removed);
        device.failed(now_ms);
        let in_ms = device.next_timeout().map_or(0, |due_ms| due_ms.saturating_sub(now_ms));
        let text = format!("{error:#}");
        let is_new = *last != text;
        if is_new {
            last.clone_from(&text);
        }
        let what = match job {
            Job::Leave | Job::Reset => "cannot be reset",
            Job::Close => "cannot be closed",
            Job::Open => "cannot be opened again",
        };
        if is_new && !is_known {
            log::warn!(port = name; "port {name}: device {of} {what}: {text}; the port stays down, the next try is in {in_ms} ms, others follow; `stopover reload --reopen` tries at once");
        } else {
            log::debug!(port = name; "port {name}: device {of} {what}: {text}; the next try is in {in_ms} ms");
        }
        self.check_removed(now_ms, port);
    }

    /// A device that does not work may be gone: not every driver reports that.
    pub(super) fn check_removed(&mut self, now_ms: u64, port: u16) {
        if self.ports.handle(port).is_some_and(|handle| !handle.removed && handle.device.is_removed()) {
            self.on_device_event(now_ms, port, Event::Removed);
        }
    }

    /// The lcores give the queues of a port back.
    fn begin_leaving(&mut self, port: u16) {
        let owners = self.ports.owners(port);
        self.ports.give_each(|lcore| {
            let queues = Vec::with_capacity(usize::from(devices::MAX_QUEUES));
            let mut changes = vec![Change::StopPolling(port, queues)];
            if owners.contains(&lcore) {
                changes.push(Change::TxQueue(port, None));
            }
            changes
        });
        if let Some(of_port) = self.device_events.get(port) {
            of_port.device.begin_leaving();
        }
        self.port_changes.wait_for(Step::Leaving(port));
    }

    /// No lcore has a queue of the port.
    pub(super) fn finish_leaving(&mut self, now_ms: u64, port: u16) {
        for lcore in self.ports.lcores_mut() {
            lcore.queues.retain(|queue| queue.port != port);
        }
        if let Some(of_port) = self.device_events.get(port) {
            of_port.device.left(now_ms);
        }
    }

    fn close_device(&self, port: u16) -> Result<()> {
        let handle = self.ports.handle(port).context("no such port")?;
        Ok(handle.device.close()?)
    }

    fn reset_device(&self, port: u16) -> Result<Queues> {
        let handle = self.ports.handle(port).context("no such port")?;
        handle.device.reset()?;
        Ok(handle.device.start()?)
    }

    /// Finds the device of a port again and starts it as it was.
    fn reopen_device(&mut self, number: u16) -> Result<Queues> {
        let port = self.ports.wanted_at(number).context("no such port")?;
        dpdk::Device::probe(&self.eal, &self.config.devargs(&port.device))?;
        let with = (self.ports.lcores().len(), self.ports.pools());
        let ready = devices::configure(&self.eal, &self.config, port, None, with)?;
        let handle = self.ports.handle(number).context("no such port")?;
        let (before, after) = (handle.device.granted(), ready.granted());
        if (after.rxq, after.txq) != (before.rxq, before.txq) {
            bail!(
                "found {} receive and {} transmit queues; expected {} and {}, as before; hint: restart the appliance to use another device",
                after.rxq,
                after.txq,
                before.rxq,
                before.txq
            );
        }
        let stage = self.ports.stage().get(usize::from(number)).context("no such port")?;
        if ready.facts.mtu < stage.mtu
            || stage.fills_checksums && !ready.facts.fills_checksums
            || stage.segments_tcp && !ready.facts.segments_tcp
        {
            bail!(
                "it can do less than before (MTU {} after {}, or checksums); hint: restart the appliance to use another device",
                ready.facts.mtu,
                stage.mtu
            );
        }
        let mac = Mac::new(handle.device.mac()?);
        if let Err(e) = ready.keep_mac(mac)
            // Others know only this one as a neighbour.
            && matches!(port.role, config::Role::Underlay(_))
        {
            return Err(e.into());
        }
        let Started { port, queues } = ready.start(&port.name)?;
        self.ports.replace_device(number, port);
        Ok(queues)
    }

    /// The lcores get the queues of a port again, each that which it had.
    fn begin_returning(&mut self, port: u16, queues: Queues) {
        let owners = self.ports.owners(port);
        let mut tx: BTreeMap<usize, _> = owners.into_iter().zip(queues.tx).collect();
        let depth = self.max_queued_frames(self.ports.role(port));
        let of_queue = self.ports.handle(port).map(|handle| handle.rx_lcores.clone()).unwrap_or_default();
        let mut rx: Vec<Vec<_>> = self.ports.lcores().iter().map(|_| Vec::new()).collect();
        for (queue, number) in queues.rx.into_iter().zip(of_queue) {
            let lcores = self.ports.lcores_mut().iter_mut().zip(&mut rx);
            let Some((lcore, rx)) = lcores.into_iter().find(|(lcore, _)| lcore.lcore == number) else {
                continue;
            };
            lcore.queues.push(QueueAt { port, queue: queue.index() });
            rx.push((PortRxQueue::new(port, queue), depth));
        }
        let mut rx = rx.into_iter();
        self.ports.give_each(|lcore| {
            let polled = Change::Poll(rx.next().unwrap_or_default());
            let sends = tx.remove(&lcore).map(|queue| Change::TxQueue(port, Some(queue)));
            sends.into_iter().chain([polled]).collect()
        });
        if let Some(of_port) = self.device_events.get(port) {
            of_port.device.started();
        }
        self.port_changes.wait_for(Step::Returning(port));
    }

    /// Every lcore has its queues.
    pub(super) fn finish_returning(&mut self, now_ms: u64, port: u16) {
        let Some(of_port) = self.device_events.get(port) else { return };
        of_port.error.clear();
        if !of_port.device.returned(now_ms) {
            return;
        }
        let in_service = of_port.device.condition() == Condition::InService;
        self.ports.set_in_service(port, in_service);
        self.ports.recount(port);
        let (name, of) = (self.ports.name(port), self.device_name(port));
        log::info!(port = name; "port {name}: device {of} is in service again");
    }
}
