//! The vhost-user session of a front end (the protocol of QEMU's docs/interop/vhost-user.rst, by rust-vmm's `vhost`).
//! Enters: a socket and what to ask for. Leaves: rings that the back end has enabled. It waits for answers, so it is not
//! for the thread that polls.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use crate::command::Add;
use crate::features::{Feature, acknowledge};
use crate::memory::{Layout, Memory};
use crate::ring::Ring;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(1);

/// A session whose rings are enabled.
pub struct Session {
    frontend: Frontend,
    rings: usize,
    /// To notify the back end, if it wants that.
    pub kick: EventFd,
    /// The features in use.
    pub features: u64,
}

/// What is made for a front end: its session, its memory, and the rings of all pairs.
pub struct Opened {
    /// To be kept as long as the rings are used.
    pub session: Session,
    /// With the rings in it.
    pub memory: Memory,
    /// A receiving and a sending one of each pair.
    pub rings: Vec<Ring>,
}

/// Connects, agrees on features, and gives memory and rings to the back end. `fill` puts the first buffers into the rings.
///
/// # Errors
/// There is no back end before `deadline`, or it does not accept what is asked for.
pub fn open(
    add: &Add,
    deadline: Instant,
    fill: impl FnOnce(&Memory, &mut [Ring]) -> anyhow::Result<()>,
) -> anyhow::Result<Opened> {
    let memory = Memory::new(&add.name, Layout::new(add.pairs, add.ring, add.buffer, add.page)?, add.huge)?;
    let stream = if add.listen { accept(&add.socket, deadline)? } else { connect(&add.socket, deadline)? };
    stream.set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(RETRY)))?;
    let count = usize::from(add.pairs) * 2;
    let mut frontend = Frontend::from_stream(stream, count as u64);
    let features = negotiate(&mut frontend, add)?;

    let packed = add.features.contains(&Feature::Packed);
    let mut rings = (0..count)
        .map(|n| Ring::new(packed, memory.layout.offsets(n), add.ring, memory.slice()))
        .collect::<Result<Vec<_>, _>>()?;
    fill(&memory, &mut rings)?;
    frontend.set_mem_table(&[VhostUserMemoryRegionInfo::from_guest_region(&memory.region)?])?;
    let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
    for (n, ring) in rings.iter().enumerate() {
        set_up(&frontend, n, ring, &memory, &kick, &call).with_context(|| format!("ring {n}"))?;
    }
    let session = Session { frontend, rings: count, kick, features };
    session.switch().enable(add.enabled)?;
    Ok(Opened { session, memory, rings })
}

fn negotiate(frontend: &mut Frontend, add: &Add) -> anyhow::Result<u64> {
    let offered = frontend.get_features()?;
    let features = acknowledge(&add.features, add.pairs, offered)?;
    let offered = frontend.get_protocol_features()?;
    let mut wanted = VhostUserProtocolFeatures::REPLY_ACK;
    if add.pairs > 1 {
        wanted |= VhostUserProtocolFeatures::MQ;
    }
    if !offered.contains(wanted) {
        bail!("the back end offers protocol features {offered:?}, without some of {wanted:?}");
    }
    frontend.set_protocol_features(wanted)?;
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    if add.pairs > 1 {
        let rings = frontend.get_queue_num()? * 2;
        if rings < u64::from(add.pairs) * 2 {
            bail!("the back end has {} queue pairs, {} are wanted", rings / 2, add.pairs);
        }
    }
    frontend.set_owner()?;
    frontend.set_features(features)?;
    Ok(features)
}

fn set_up(
    frontend: &Frontend,
    n: usize,
    ring: &Ring,
    memory: &Memory,
    kick: &EventFd,
    call: &EventFd,
) -> anyhow::Result<()> {
    let layout = memory.layout;
    let (begin, at) = (memory.region.as_ptr() as u64, layout.offsets(n));
    frontend.set_vring_num(n, layout.ring)?;
    frontend.set_vring_base(n, ring.base())?;
    frontend.set_vring_addr(
        n,
        &VringConfigData {
            queue_max_size: layout.ring,
            queue_size: layout.ring,
            flags: 0,
            desc_table_addr: begin + at.descriptors as u64,
            used_ring_addr: begin + at.device as u64,
            avail_ring_addr: begin + at.driver as u64,
            log_addr: None,
        },
    )?;
    frontend.set_vring_call(n, call)?;
    frontend.set_vring_kick(n, kick)?;
    Ok(())
}

fn connect(path: &Path, deadline: Instant) -> anyhow::Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => {
                return Err(e).with_context(|| format!("connecting to {}", path.display()));
            }
            Err(_) => sleep(RETRY),
        }
    }
}

/// For ports that connect to their guest. The socket's file is removed when it has connected.
fn accept(path: &Path, deadline: Instant) -> anyhow::Result<UnixStream> {
    let at = || format!("listening at {}", path.display());
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(at)?;
    listener.set_nonblocking(true)?;
    let accepted = loop {
        match listener.accept() {
            Ok((stream, _)) => break Ok(stream),
            Err(e) if e.kind() != ErrorKind::WouldBlock || Instant::now() > deadline => break Err(e),
            Err(_) => sleep(RETRY),
        }
    };
    let _ = std::fs::remove_file(path);
    let stream = accepted.with_context(at)?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Enables and disables the rings of a session.
pub struct Switch {
    frontend: Frontend,
    rings: usize,
}

impl Switch {
    /// Enables so many pairs and disables the others. The back end has done so when this returns.
    ///
    /// # Errors
    /// The back end does not answer.
    pub fn enable(mut self, pairs: u16) -> anyhow::Result<()> {
        for ring in 0..self.rings {
            self.frontend.set_vring_enable(ring, ring < usize::from(pairs) * 2)?;
        }
        // Requests are answered in turn: the back end has done with those before.
        self.frontend.get_features()?;
        Ok(())
    }
}

impl Session {
    /// What enables and disables its rings.
    pub fn switch(&self) -> Switch {
        Switch { frontend: self.frontend.clone(), rings: self.rings }
    }

    /// Stops the rings, as a VMM does when its guest's driver or the guest ends, and closes the connection.
    ///
    /// # Errors
    /// The back end does not answer.
    pub fn stop(self) -> anyhow::Result<()> {
        for ring in 0..self.rings {
            self.frontend.get_vring_base(ring)?;
        }
        Ok(())
    }
}
