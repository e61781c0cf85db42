//! The new process: it asks, opens what it can have beside the old one, and takes the rest when that has stopped. Enters:
//! the configuration, what comes by the line. Leaves: devices, and the connections of VMMs.

use super::{PATIENCE, Word, can_be_shared};
use crate::control::{
    connect::Started,
    vhost_sockets::{prepare_folders, prepare_socket},
};
use anyhow::{Context, Result, bail};
use dpdk::{Burst, Device, Eal};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use stopover_config::appliance::{self as config, Appliance};
use stopover_ctl::{Client, ClientError, KnownNeighbour, TakeOver};
use stopover_vmm::{Line, LineListener, Passed};
use tokio::runtime;
use uuid::Uuid;

/// Pause between two looks at what devices receive meanwhile.
const PAUSE: Duration = Duration::from_micros(500);

/// More than the ring of any usual device holds.
const MOST_BURSTS: usize = 256;

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    client: Client,
    pid: u32,
}

impl Predecessor {
    /// The process that listens at the control socket, if there is one.
    ///
    /// # Errors
    /// It is of another host, or has a device that cannot be handed over.
    pub fn find(rt: &runtime::Handle, config: &Appliance) -> Result<Option<Self>> {
        let client = Client::new(&config.ctl);
        let version = match rt.block_on(client.version()) {
            Ok(version) => version,
            Err(ClientError::NoAppliance { .. }) => return Ok(None),
            Err(e) => return Err(e).context("cannot take over"),
        };
        if version.name != config.name.to_string() {
            let (socket, found, own) = (config.ctl.display(), version.name, &config.name);
            bail!(
                "ctl: found appliance {found} at {socket}; expected {own}; hint: give `ctl` the path of the appliance to take over"
            );
        }
        if let Some(port) = config.ports.iter().find(|port| matches!(port.device, config::Device::Pci(_))) {
            bail!(
                "port {}: found the NIC {}, which one process has for itself; expected virtual devices only; hint: stop the appliance and start it again",
                port.name,
                port.device.as_str()
            );
        }
        Ok(Some(Self { client, pid: version.pid }))
    }

    /// The EAL arguments of a process beside another: without its devices, and without files that both would use.
    #[must_use]
    pub fn eal_args(config: &Appliance) -> Vec<String> {
        let (mut args, _) = split_vdevs(&config.eal);
        if !args.iter().any(|arg| arg == "--in-memory") {
            args.push("--in-memory".to_owned());
        }
        args
    }

    /// Has the other process agree, and write a checkpoint. It goes on until [`HandOver::take`].
    ///
    /// # Errors
    /// It refuses.
    pub fn ask(self, rt: &runtime::Handle, config: &Appliance) -> Result<HandOver> {
        let Self { client, pid } = self;
        // Both processes reach that folder.
        let folder = config.ctl.parent().unwrap_or(Path::new("/"));
        let listener = LineListener::within(folder)
            .with_context(|| format!("cannot take over: no socket can be made in {}", folder.display()))?;
        let request = TakeOver { pid: std::process::id(), line: listener.path() };
        let taken = rt.block_on(client.take_over(&request)).context("cannot take over")?;
        let instance = Uuid::try_parse(&taken.instance).with_context(|| {
            format!(
                "cannot take over: found the instance {:?}; expected 32 hexadecimal digits",
                taken.instance
            )
        })?;
        let line = listener.accept(Instant::now() + PATIENCE).context("cannot take over")?;
        let (_, of_eal) = split_vdevs(&config.eal);
        let vdevs: Vec<String> = of_eal.iter().chain(config.eal_vdevs()).cloned().collect();
        let is_beside = vdevs.iter().all(|vdev| can_be_shared(vdev));
        Ok(HandOver { line, pid, instance, neighbours: taken.neighbours, vdevs, is_beside, passed: None })
    }
}

/// A hand-over to this process.
#[derive(Debug)]
pub struct HandOver {
    line: Line,
    pid: u32,
    instance: Uuid,
    neighbours: Vec<KnownNeighbour>,
    vdevs: Vec<String>,
    is_beside: bool,
    passed: Option<Passed>,
}

impl HandOver {
    /// By what the host is registered at the board.
    #[must_use]
    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    /// What was known on the underlay.
    #[must_use]
    pub fn neighbours(&self) -> &[KnownNeighbour] {
        &self.neighbours
    }

    /// All devices can be opened while the other process forwards.
    #[must_use]
    pub const fn is_beside(&self) -> bool {
        self.is_beside
    }

    /// Opens the devices: before the other process stops, if all can be; else afterwards. Sockets of VMMs that are opened
    /// from now on wait for [`Self::connect`].
    ///
    /// # Errors
    /// A device cannot be used.
    pub fn open_devices(&mut self, eal: &Eal, config: &Appliance) -> Result<()> {
        dpdk::vhost::relay()?.await_passed()?;
        prepare_folders(config)?;
        if !self.is_beside {
            self.take(&mut [])?;
            self.await_closed()?;
        }
        self.vdevs.iter().try_for_each(|vdev| Ok(Device::probe(eal, vdev)?))
    }

    /// Has the other process stop. What devices of this one receive until then, the other has received, too: it is dropped.
    /// What arrives later waits in them.
    ///
    /// # Errors
    /// It refuses, and goes on; or it is not there any more.
    pub fn take(&mut self, started: &mut [Started]) -> Result<()> {
        if self.passed.is_some() {
            return Ok(());
        }
        let Self { line, pid, .. } = self;
        Word::Ready.send(line).context("cannot take over")?;
        let until = Instant::now() + PATIENCE;
        let word = loop {
            discard(started);
            match Word::poll(line, PAUSE).context("cannot take over")? {
                None if Instant::now() < until => {}
                word => break word,
            }
        };
        match word {
            Some(Word::Stopped) => discard(started),
            Some(Word::Refused(error)) => bail!("cannot take over: {error}"),
            other => bail!(
                "cannot take over: found {other:?} of process {pid}; expected that it stops; hint: see its log"
            ),
        }
        log::info!("takes over from process {pid}");
        self.passed = Some(Passed::receive(line, until).context("the sockets of VMMs")?);
        for started in started {
            if let Err(e) = started.port.reset_stats() {
                log::debug!("{e}");
            }
        }
        Ok(())
    }

    /// Opens the sockets of VMMs whose ports have started, with the connections that there were.
    ///
    /// # Errors
    /// A path cannot be used.
    pub fn connect(&mut self, config: &Appliance) -> Result<()> {
        let passed = self.passed.take().unwrap_or_default();
        for (_, vhost) in config.vhosts().filter(|(_, vhost)| !passed.has_listener(&vhost.path)) {
            prepare_socket(&vhost)?;
        }
        let taken = dpdk::vhost::relay()?.take(passed)?;
        log::info!("{} VMMs stay connected, {} have to reconnect", taken.connections, taken.closed);
        Ok(())
    }

    /// Waits until the other process has closed what only one can have.
    ///
    /// # Errors
    /// It has not, or is not there any more.
    pub fn await_closed(&self) -> Result<()> {
        match Word::receive(&self.line, Instant::now() + PATIENCE) {
            Ok(Word::Closed) => Ok(()),
            other => bail!(
                "found {other:?} of process {}; expected that it closes its sockets; hint: see its log, and start the appliance again",
                self.pid
            ),
        }
    }
}

/// Drops what devices have received. Where more arrives than can be dropped, the rest is for the next time.
fn discard(started: &mut [Started]) {
    let mut burst = Burst::new();
    for queue in started.iter_mut().flat_map(|started| &mut started.queues.rx) {
        for _ in 0..MOST_BURSTS {
            if queue.burst(&mut burst, dpdk::BURST_MAX) == 0 {
                break;
            }
            burst = Burst::new();
        }
    }
}

/// EAL arguments without virtual devices, and these.
fn split_vdevs(eal: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut vdevs) = (Vec::new(), Vec::new());
    let mut words = eal.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--vdev=") {
            Some(vdev) => vdevs.push(vdev.to_owned()),
            None if word == "--vdev" => vdevs.extend(words.next().cloned()),
            None => kept.push(word.clone()),
        }
    }
    (kept, vdevs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_not_opened_beside_another_process() {
        let eal = ["-l", "0-1", "--vdev=net_tap0", "--no-pci", "--vdev", "net_null0,size=64"];
        let (kept, vdevs) = split_vdevs(&eal.map(str::to_owned));
        assert_eq!(kept, ["-l", "0-1", "--no-pci"]);
        assert_eq!(vdevs, ["net_tap0", "net_null0,size=64"]);
        let (kept, vdevs) = split_vdevs(&["--vdev".to_owned()]);
        assert_eq!((kept.len(), vdevs.len()), (0, 0));
    }
}
