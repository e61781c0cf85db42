//! What a VMM has set up on its connection, as far as a successor of this process needs it. Enters: messages of the VMM
//! that librte_vhost has got, and its replies, on plain data. Leaves: the messages that set up the same at another
//! librte_vhost, in their order; or why the connection cannot be passed on.
//!
//! This is no log: a ring that was set up again is set up once, and what no longer holds is forgotten.

use crate::message::{Change, Message, REGION, RingChange, request};
use std::collections::{BTreeMap, VecDeque};

/// `VHOST_F_LOG_ALL`: the VM migrates.
const LOG_ALL: u64 = 1 << 26;
/// `VIRTIO_F_ACCESS_PLATFORM`: addresses are translated by an IOMMU of the guest.
const ACCESS_PLATFORM: u64 = 1 << 33;
/// Features of the protocol that decide whether there is a reply.
const LOG_SHMFD: u64 = 1 << 1;
const REPLY_ACK: u64 = 1 << 3;

/// Most requests that may wait for a reply. The protocol has one at a time.
const MAX_AWAITED: usize = 64;

/// Why a connection cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// A message of no known kind may have changed anything.
    #[error("its VMM has sent request {0}, of which nothing is kept")]
    Unknown(u32),
    /// The VM migrates.
    #[error("its VM migrates")]
    Migrates,
    /// librte_vhost has learned translations, which are not kept.
    #[error("its guest has an IOMMU")]
    Iommu,
    /// A reply is under way.
    #[error("its VMM waits for a reply")]
    Awaits,
}

/// What a message is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has no answer.
    None,
    /// This number. Another back end that offers something else is no successor.
    Exactly(u64),
    /// Any number.
    Any,
}

impl Answer {
    /// Whether a message answers a request.
    #[must_use]
    pub fn is_given_by<F>(self, request: u32, message: &Message<F>) -> bool {
        let number = message.number();
        message.request == request && number.is_some_and(|n| self == Self::Any || self == Self::Exactly(n))
    }
}

/// A message of the set-up, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<F> {
    /// The message.
    pub message: Message<F>,
    /// Its answer.
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ring<F> {
    num: Option<u32>,
    base: Option<u32>,
    addr: Option<Message<F>>,
    call: Option<Message<F>>,
    err: Option<Message<F>>,
    /// There is one while it runs.
    kick: Option<Message<F>>,
    enabled: Option<u32>,
}

impl<F> Default for Ring<F> {
    fn default() -> Self {
        Self { num: None, base: None, addr: None, call: None, err: None, kick: None, enabled: None }
    }
}

impl<F> Ring<F> {
    fn change(&mut self, change: RingChange, message: Message<F>) {
        match change {
            RingChange::Num(num) => self.num = Some(num),
            RingChange::Base(base) => self.base = Some(base),
            RingChange::Addr => self.addr = Some(message),
            RingChange::Kick => self.kick = Some(message),
            RingChange::Call => self.call = Some(message),
            RingChange::Err => self.err = Some(message),
            RingChange::Enable(on) => self.enabled = Some(on),
            RingChange::Stop => self.kick = None,
        }
    }
}

/// What holds since the VMM connected, or since it reset the device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SetUp<F> {
    is_owned: bool,
    features: Option<u64>,
    protocol: Option<u64>,
    channel: Option<Message<F>>,
    memory: Option<Message<F>>,
    /// Regions that were added one by one.
    regions: Vec<Message<F>>,
    mtu: Option<Message<F>>,
    status: Option<Message<F>>,
    rings: BTreeMap<u8, Ring<F>>,
}

impl<F> Default for SetUp<F> {
    fn default() -> Self {
        Self {
            is_owned: false,
            features: None,
            protocol: None,
            channel: None,
            memory: None,
            regions: Vec::new(),
            mtu: None,
            status: None,
            rings: BTreeMap::new(),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<F> {
    set_up: SetUp<F>,
    /// What librte_vhost has offered, by request.
    offered: BTreeMap<u32, u64>,
    /// Requests whose reply is not there yet.
    awaited: VecDeque<u32>,
    unknown: Option<u32>,
}

impl<F> Default for Record<F> {
    fn default() -> Self {
        Self { set_up: SetUp::default(), offered: BTreeMap::new(), awaited: VecDeque::new(), unknown: None }
    }
}

impl<F> Record<F> {
    /// The VMM has sent this.
    pub fn sent(&mut self, message: Message<F>) {
        if self.has_reply(&message) {
            if self.awaited.len() < MAX_AWAITED {
                self.awaited.push_back(message.request);
            } else {
                self.unknown = Some(message.request);
            }
        }
        let set_up = &mut self.set_up;
        match message.change() {
            Change::Nothing => {}
            Change::Ring(at, change) => set_up.rings.entry(at).or_default().change(change, message),
            Change::Owner => set_up.is_owned = true,
            Change::Reset => *set_up = SetUp::default(),
            Change::Features(features) => set_up.features = Some(features),
            Change::Protocol(features) => set_up.protocol = Some(features),
            Change::Mtu => set_up.mtu = Some(message),
            Change::Status => set_up.status = Some(message),
            Change::Memory => (set_up.memory, set_up.regions) = (Some(message), Vec::new()),
            Change::AddRegion => set_up.regions.push(message),
            Change::RemoveRegion => self.remove_region(&message),
            Change::Channel => set_up.channel = Some(message),
            Change::Unknown => self.unknown = Some(message.request),
        }
    }

    /// A region that was added by itself. One of the table cannot be taken out of it here.
    fn remove_region(&mut self, message: &Message<F>) {
        // Behind eight bytes that are unused: its address, its length, the VMM's address.
        let place = |message: &Message<F>| message.payload().get(8..REGION - 8).map(<[u8]>::to_vec);
        let removed = place(message);
        match self.set_up.regions.iter().position(|region| place(region) == removed) {
            Some(at) => drop(self.set_up.regions.remove(at)),
            None => self.unknown = Some(message.request),
        }
    }

    /// librte_vhost has sent this.
    pub fn replied<G>(&mut self, message: &Message<G>) {
        let Some(at) = self.awaited.iter().position(|awaited| *awaited == message.request) else { return };
        self.awaited.drain(..=at);
        let offers = [request::GET_FEATURES, request::GET_PROTOCOL_FEATURES, request::GET_QUEUE_NUM];
        match message.number() {
            Some(number) if offers.contains(&message.request) => {
                self.offered.insert(message.request, number);
            }
            _ => {}
        }
    }

    /// Whether librte_vhost sends a reply.
    fn has_reply(&self, message: &Message<F>) -> bool {
        use request::*;
        let has = |feature: u64| self.set_up.protocol.is_some_and(|features| features & feature != 0);
        match message.request {
            GET_FEATURES
            | GET_PROTOCOL_FEATURES
            | GET_QUEUE_NUM
            | GET_VRING_BASE
            | GET_CONFIG
            | GET_MAX_MEM_SLOTS
            | GET_STATUS => true,
            SET_LOG_BASE => has(LOG_SHMFD),
            _ => message.needs_reply() && has(REPLY_ACK),
        }
    }

    /// Whether the VMM waits for a reply.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Why the connection cannot be passed on now.
    #[must_use]
    pub fn hindrance(&self) -> Option<Hindrance> {
        let has = |feature: u64| self.set_up.features.is_some_and(|features| features & feature != 0);
        match self {
            Self { unknown: Some(request), .. } => Some(Hindrance::Unknown(*request)),
            _ if has(LOG_ALL) => Some(Hindrance::Migrates),
            _ if has(ACCESS_PLATFORM) => Some(Hindrance::Iommu),
            _ if self.is_awaited() => Some(Hindrance::Awaits),
            _ => None,
        }
    }

    /// The rings that run: each must be stopped, and [`Self::stopped_at`] be told where.
    #[must_use]
    pub fn running(&self) -> Vec<u8> {
        let rings = self.set_up.rings.iter();
        rings.filter(|(_, ring)| ring.kick.is_some()).map(|(ring, _)| *ring).collect()
    }

    /// A ring that runs continues from here. In a packed ring the upper bit is its wrap counter.
    pub fn stopped_at(&mut self, ring: u8, base: u32) {
        if let Some(ring) = self.set_up.rings.get_mut(&ring) {
            ring.base = Some(base);
        }
    }

    /// The messages that set up the same. First what both must agree on, then all that rings need before they run; the
    /// last is answered when librte_vhost has done all of it.
    #[must_use]
    pub fn steps(&self) -> Vec<Step<&F>> {
        use request::*;
        let mut steps = Steps(Vec::new());
        let set_up = &self.set_up;
        let offered = |request| self.offered.get(&request).copied();
        steps.ask(GET_FEATURES, offered(GET_FEATURES));
        if set_up.is_owned {
            steps.give(Message::new(SET_OWNER, &[], Vec::new()));
        }
        steps.ask(GET_PROTOCOL_FEATURES, offered(GET_PROTOCOL_FEATURES));
        steps.give_number(SET_PROTOCOL_FEATURES, set_up.protocol);
        steps.ask(GET_QUEUE_NUM, offered(GET_QUEUE_NUM));
        steps.repeat(&set_up.channel);
        steps.repeat(&set_up.mtu);
        steps.give_number(SET_FEATURES, set_up.features);
        steps.repeat(&set_up.memory);
        set_up.regions.iter().for_each(|region| steps.give(region.borrowed()));
        for (at, ring) in &set_up.rings {
            steps.give_state(SET_VRING_NUM, *at, ring.num);
            steps.give_state(SET_VRING_BASE, *at, ring.base);
            for message in [&ring.addr, &ring.call, &ring.err, &ring.kick] {
                steps.repeat(message);
            }
            steps.give_state(SET_VRING_ENABLE, *at, ring.enabled);
        }
        steps.repeat(&set_up.status);
        let last = offered(GET_FEATURES).map_or(Answer::Any, Answer::Exactly);
        steps.0.push(Step { message: Message::new(GET_FEATURES, &[], Vec::new()), answer: last });
        steps.0
    }
}

/// Steps that are being put together.
struct Steps<'r, F>(Vec<Step<&'r F>>);

impl<'r, F> Steps<'r, F> {
    fn give(&mut self, message: Message<&'r F>) {
        self.0.push(Step { message, answer: Answer::None });
    }

    fn repeat(&mut self, message: &'r Option<Message<F>>) {
        if let Some(message) = message {
            self.give(message.borrowed());
        }
    }

    fn give_number(&mut self, request: u32, number: Option<u64>) {
        if let Some(number) = number {
            self.give(Message::new(request, &number.to_ne_bytes(), Vec::new()));
        }
    }

    fn give_state(&mut self, request: u32, ring: u8, value: Option<u32>) {
        if let Some(value) = value {
            let state = [u32::from(ring), value].map(u32::to_ne_bytes).concat();
            self.give(Message::new(request, &state, Vec::new()));
        }
    }

    fn ask(&mut self, request: u32, offered: Option<u64>) {
        if let Some(offered) = offered {
            let message = Message::new(request, &[], Vec::new());
            self.0.push(Step { message, answer: Answer::Exactly(offered) });
        }
    }
}

#[cfg(test)]
mod tests;
