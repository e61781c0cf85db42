//! One process takes the place of another on the same configuration: an upgrade. Enters: at the old process a request, at
//! the new one a configuration. Leaves: the old process has written its last checkpoint, and closed its devices and sockets
//! by the time it answers, and ends; the new one has what it then starts with.
//!
//! Until the old process begins to close, whatever fails at the new one leaves it as it was. From then on it does not
//! come back: if the new one fails, whoever supervises the processes has to start one.

use super::{
    Control,
    request::{Reply, ReplyTo},
    vhost_sockets::prepare_sockets,
};
use anyhow::{Context, Result, bail};
use dpdk::{Device, Eal};
use std::time::{Duration, Instant};
use stopover_config::appliance::{self as config, Appliance};
use stopover_ctl::{ApiError, Client, ClientError, TakeOver, TakenOver};
use tokio::runtime;
use uuid::Uuid;

/// The answer is written by a thread of the runtime, which ends with the process: so long it waits.
const ANSWERING: Duration = Duration::from_millis(200);

/// What may speak against a hand-over now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupied {
    /// It does not forward yet: it has nothing to hand over.
    pub starts: bool,
    /// The configuration is being changed.
    pub changes: bool,
    /// A node is migrating: frames may be held for it, which end with this process.
    pub migrates: bool,
    /// Another process has asked.
    pub yields: bool,
}

impl Occupied {
    /// Why it is refused.
    #[must_use]
    pub fn refusal(self) -> Option<ApiError> {
        let (found, expected, hint) = match self {
            Self { yields: true, .. } => {
                ("another process takes over already", "one at a time", "see the log of the other")
            }
            Self { starts: true, .. } => (
                "an appliance that does not forward yet",
                "one that forwards",
                "see `stopover show board`; stop it with SIGTERM and start the other",
            ),
            Self { changes: true, .. } => {
                ("a change of the configuration under way", "none", "try again when it has ended")
            }
            Self { migrates: true, .. } => (
                "a node that is migrating",
                "none: frames that are held for it would be lost",
                "see `stopover migration list --active`; try again when it has ended",
            ),
            Self { yields: false, starts: false, changes: false, migrates: false } => return None,
        };
        Some(ApiError::new(found, expected, hint))
    }
}

/// To whom this process gives its place.
#[derive(Debug)]
pub struct Successor {
    pid: u32,
    reply: ReplyTo,
}

impl Control {
    /// Another process asks for this one's place. If nothing speaks against it, the loop of the thread ends. The lcores
    /// forward while the checkpoint is written.
    pub(super) fn take_over(&mut self, request: TakeOver, reply: ReplyTo) {
        let occupied = Occupied {
            starts: !self.forwards(),
            changes: self.changes.is_changing(),
            migrates: self.migrations.is_any_migrating(),
            yields: self.successor.is_some(),
        };
        if let Some(error) = occupied.refusal() {
            log::warn!("process {} cannot take over: {error}", request.pid);
            let _ = reply.send(Err(error));
            return;
        }
        log::info!("process {} takes over", request.pid);
        self.write_last_checkpoint();
        if reply.is_closed() {
            return log::warn!("process {} has ended before it took over; this one goes on", request.pid);
        }
        self.successor = Some(Successor { pid: request.pid, reply });
    }

    /// Ends this process's part, so that the other one can begin.
    ///
    /// # Errors
    /// The other process is not there any more.
    pub(super) fn give_way(mut self, Successor { pid, reply }: Successor) -> Result<()> {
        let began = Instant::now();
        let instance = self.board.instance().simple().to_string();
        self.board.keep_lease();
        self.ports.shut_down();
        self.ports.close();
        self.api.close();
        let answer = serde_json::to_value(TakenOver { instance }).map(Reply::Json)?;
        if reply.send(Ok(answer)).is_err() {
            bail!("process {pid} has ended before it took over; hint: start the appliance again");
        }
        log::info!("process {pid} has the devices, {} ms after the last frame", began.elapsed().as_millis());
        std::thread::sleep(ANSWERING);
        Ok(())
    }
}

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

    /// Has the other process end, and takes its devices. Returns by what the host is registered at the board.
    ///
    /// # Errors
    /// It refuses, and goes on; or a device cannot be used, and it has ended.
    pub fn take_over(self, rt: &runtime::Handle, eal: &Eal, config: &Appliance) -> Result<Uuid> {
        let request = TakeOver { pid: std::process::id() };
        let taken = rt.block_on(self.client.take_over(request)).context("cannot take over")?;
        log::info!("takes over from process {}", self.pid);
        prepare_sockets(config)?;
        let (_, of_eal) = split_vdevs(&config.eal);
        for vdev in of_eal.iter().chain(config.eal_vdevs()) {
            Device::probe(eal, vdev)?;
        }
        Uuid::try_parse(&taken.instance).with_context(|| {
            format!(
                "cannot take over: found the instance {:?}; expected 32 hexadecimal digits",
                taken.instance
            )
        })
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
    use proptest::prelude::*;

    #[test]
    fn devices_are_not_opened_beside_another_process() {
        let eal = ["-l", "0-1", "--vdev=net_tap0", "--no-pci", "--vdev", "net_null0,size=64"];
        let (kept, vdevs) = split_vdevs(&eal.map(str::to_owned));
        assert_eq!(kept, ["-l", "0-1", "--no-pci"]);
        assert_eq!(vdevs, ["net_tap0", "net_null0,size=64"]);
        let (kept, vdevs) = split_vdevs(&["--vdev".to_owned()]);
        assert_eq!((kept.len(), vdevs.len()), (0, 0));
    }

    proptest! {
        /// Only a process that has nothing under way gives its place away, and a refusal tells what to do.
        #[test]
        fn what_is_under_way_is_not_interrupted(starts: bool, changes: bool, migrates: bool, yields: bool) {
            let refusal = Occupied { starts, changes, migrates, yields }.refusal();
            prop_assert_eq!(refusal.is_some(), starts || changes || migrates || yields);
            prop_assert!(refusal.is_none_or(|error| !error.hint.is_empty()));
        }
    }
}
