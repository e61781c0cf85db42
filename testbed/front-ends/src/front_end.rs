//! A front end in use: its rings are polled, its buffers are filled and read. Enters: frames to send. Leaves: what
//! arrived, to [`Flows`].

use std::time::Instant;

use anyhow::bail;
use vm_memory::VolatileMemory;

use crate::command::Add;
use crate::flows::{Flows, Number};
use crate::frame::{self, MAX_LEN, MIN_LEN, NET_HEADER, Received, Station};
use crate::job::JobFlow;
use crate::memory::{GUEST_BASE, Memory};
use crate::ring::{Access, Buffer, Ring};
use crate::session::{self, Session, Switch};

/// Most frames that are received from a ring at a time, so that sending does not wait long.
const RECEIVE: usize = 64;
/// Room for a frame and its header.
const ROOM: usize = NET_HEADER + MAX_LEN + 2;

/// A receiving and a sending ring.
struct Pair {
    rx: Ring,
    tx: Ring,
    /// The number of the receiving ring; the other one follows.
    first: usize,
    /// Buffers of the sending ring that are not in it.
    free: Vec<u16>,
}

/// A front end whose rings the back end has enabled.
pub struct FrontEnd {
    /// As the command has it.
    pub name: String,
    /// Its place among all.
    pub number: Number,
    /// Who it is.
    pub station: Station,
    /// When the command was read, and the time from then until the rings were enabled.
    pub began: Instant,
    /// See `began`.
    pub setup_ms: f64,
    /// When it is given up if its link is not up.
    pub deadline: Instant,
    session: Session,
    memory: Memory,
    pairs: Vec<Pair>,
    /// The pairs that it sends by, from the first on.
    enabled: usize,
    /// The pairs that are or were enabled; frames may still be in their rings.
    polled: usize,
    taken: u64,
}

impl FrontEnd {
    /// Makes it, and waits for the back end.
    ///
    /// # Errors
    /// Those of [`session::open`].
    pub fn open(add: &Add, number: Number, began: Instant, deadline: Instant) -> anyhow::Result<Self> {
        let station = Station { mac: add.mac()?, ip: add.ip };
        let enabled = usize::from(add.enabled);
        let opened = session::open(add, deadline, |memory, rings| {
            // Like Linux, it has no buffers in the rings that it does not use.
            for (first, ring) in rings.iter_mut().enumerate().take(enabled * 2).step_by(2) {
                fill(ring, first, memory)?;
            }
            Ok(())
        })?;
        let (memory, mut rings) = (opened.memory, opened.rings.into_iter());
        let mut pairs = Vec::new();
        while let (Some(rx), Some(tx)) = (rings.next(), rings.next()) {
            pairs.push(Pair {
                rx,
                tx,
                first: pairs.len() * 2,
                free: (0..memory.layout.ring).rev().collect(),
            });
        }
        Ok(Self {
            name: add.name.clone(),
            number,
            station,
            began,
            setup_ms: began.elapsed().as_secs_f64() * 1e3,
            deadline,
            session: opened.session,
            memory,
            pairs,
            enabled,
            polled: enabled,
            taken: 0,
        })
    }

    /// The features in use.
    pub fn features(&self) -> u64 {
        self.session.features
    }

    /// Whether a frame of so many bytes fits a buffer.
    pub fn fits(&self, len: usize) -> bool {
        NET_HEADER + len.clamp(MIN_LEN, MAX_LEN) <= self.memory.layout.buffer as usize
    }

    /// Whether the back end has taken a frame.
    pub fn is_up(&self) -> bool {
        self.taken > 0
    }

    /// Announces itself, as a guest whose link comes up.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub fn announce(&mut self) -> anyhow::Result<()> {
        let bytes = frame::announcement(self.station);
        let Some(pair) = self.pairs.first_mut() else { return Ok(()) };
        if pair.transmit(&bytes, &self.memory)? && pair.tx.publish(self.memory.slice())? {
            self.session.kick.write(1)?;
        }
        Ok(())
    }

    /// Receives what has arrived. Takes back what was sent until its link is up; later, [`send`](Self::send) does. Returns
    /// the number of frames.
    ///
    /// # Errors
    /// The back end does not obey the rules of rings.
    #[inline]
    pub fn poll(&mut self, flows: &mut Flows) -> anyhow::Result<usize> {
        let mut frames = 0;
        for pair in self.pairs.iter_mut().take(self.polled) {
            frames += pair.receive(&self.memory, self.number, flows)?;
            if self.taken == 0 {
                self.taken += pair.take_back(&self.memory)?;
            }
        }
        Ok(frames)
    }

    /// Sends up to `count` frames of a flow. Returns how many; the ring had no room for the others.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub fn send(&mut self, flow: &mut JobFlow, count: u16, flows: &mut Flows) -> anyhow::Result<u16> {
        let JobFlow { flow, template, .. } = flow;
        let n = *flow as usize % self.enabled.max(1);
        let Some(pair) = self.pairs.get_mut(n) else { return Ok(0) };
        self.taken += pair.take_back(&self.memory)?;
        let mut sent = 0;
        while sent < count && pair.transmit(template.stamped(flows.next(*flow)), &self.memory)? {
            flows.sent(*flow);
            sent += 1;
        }
        if sent > 0 && pair.tx.publish(self.memory.slice())? {
            self.session.kick.write(1)?;
        }
        Ok(sent)
    }

    /// Prepares to use so many pairs, at least 1: others are sent by no more, new ones can receive.
    ///
    /// # Errors
    /// It has fewer pairs.
    pub fn prepare(&mut self, pairs: u16) -> anyhow::Result<()> {
        let pairs = usize::from(pairs);
        if !(1..=self.pairs.len()).contains(&pairs) {
            bail!("{} has {} queue pairs", self.name, self.pairs.len());
        }
        for pair in self.pairs.iter_mut().take(pairs).skip(self.polled) {
            fill(&mut pair.rx, pair.first, &self.memory)?;
        }
        self.polled = self.polled.max(pairs);
        self.enabled = self.enabled.min(pairs);
        Ok(())
    }

    /// Whether the back end has taken all frames of the pairs that are sent by no more.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub fn is_drained(&mut self) -> anyhow::Result<bool> {
        let whole = usize::from(self.memory.layout.ring);
        for pair in self.pairs.iter_mut().skip(self.enabled) {
            pair.take_back(&self.memory)?;
            if pair.free.len() < whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What enables and disables its rings, for another thread.
    pub fn switch(&self) -> Switch {
        self.session.switch()
    }

    /// The back end has enabled so many pairs, and no others.
    pub fn switched(&mut self, pairs: u16) {
        self.enabled = usize::from(pairs);
    }

    /// Ends it: stops its rings, unless `abrupt`, and closes the connection.
    ///
    /// # Errors
    /// Those of [`Session::stop`].
    pub fn close(self, abrupt: bool) -> anyhow::Result<()> {
        if abrupt { Ok(()) } else { self.session.stop() }
    }
}

impl Pair {
    /// Puts a frame into a buffer and that into the ring. Returns false if there is no room.
    #[inline]
    fn transmit(&mut self, bytes: &[u8], memory: &Memory) -> anyhow::Result<bool> {
        let Some(id) = self.free.pop() else { return Ok(false) };
        let at = memory.layout.buffer_at(self.first + 1, id);
        memory.slice().get_slice(at, bytes.len())?.copy_from(bytes);
        let len = bytes.len() as u32;
        self.tx.offer(buffer(memory, self.first + 1, id, len, Access::Reads), memory.slice())?;
        Ok(true)
    }

    /// Takes back the buffers that the device has sent. Returns how many.
    #[inline]
    fn take_back(&mut self, memory: &Memory) -> anyhow::Result<u64> {
        let mut taken = 0;
        while let Some(used) = self.tx.take(memory.slice())? {
            self.free.push(used.id);
            taken += 1;
        }
        Ok(taken)
    }

    /// Receives up to [`RECEIVE`] frames. Returns how many.
    #[inline]
    fn receive(&mut self, memory: &Memory, at: Number, flows: &mut Flows) -> anyhow::Result<usize> {
        let mut frames = 0;
        let mut bytes = [0; ROOM];
        while frames < RECEIVE
            && let Some(len) = self.receive_one(memory, &mut bytes)?
        {
            frames += 1;
            match bytes.get(..len).map_or(Received::Other, frame::read) {
                Received::Stamped { flow, sequence } => flows.arrived(flow, sequence, at),
                Received::Damaged => flows.other(at).damaged += 1,
                Received::Other => flows.other(at).foreign += 1,
            }
        }
        if frames > 0 {
            self.rx.publish(memory.slice())?;
        }
        Ok(frames)
    }

    /// Copies the next received frame with its header, as far as there is room, and gives its buffers back to the ring.
    /// Returns its whole length.
    #[inline]
    fn receive_one(&mut self, memory: &Memory, bytes: &mut [u8; ROOM]) -> anyhow::Result<Option<usize>> {
        let slice = memory.slice();
        let (mut len, mut left) = (0, 1);
        while left > 0 {
            let Some(used) = self.rx.take(slice)? else {
                if len == 0 {
                    return Ok(None);
                }
                bail!("the back end used fewer buffers than the header of a frame says");
            };
            let part = (used.len as usize).min(memory.layout.buffer as usize);
            if let Some(room) = bytes.get_mut(len..) {
                let fits = part.min(room.len());
                slice.get_slice(memory.layout.buffer_at(self.first, used.id), fits)?.copy_to(room);
            }
            if len == 0 {
                left = bytes.first_chunk().map_or(1, frame::buffers).max(1);
            }
            len += part;
            left -= 1;
            let whole = memory.layout.buffer;
            self.rx.offer(buffer(memory, self.first, used.id, whole, Access::Writes), slice)?;
        }
        Ok(Some(len))
    }
}

/// Gives all buffers of a receiving ring to the device.
fn fill(ring: &mut Ring, number: usize, memory: &Memory) -> anyhow::Result<()> {
    for id in 0..memory.layout.ring {
        ring.offer(buffer(memory, number, id, memory.layout.buffer, Access::Writes), memory.slice())?;
    }
    ring.publish(memory.slice())?;
    Ok(())
}

/// A buffer of a ring.
#[inline]
fn buffer(memory: &Memory, ring: usize, id: u16, len: u32, for_device: Access) -> Buffer {
    Buffer { id, address: GUEST_BASE + memory.layout.buffer_at(ring, id) as u64, len, for_device }
}
