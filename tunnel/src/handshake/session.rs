//! A session: what two hosts have agreed on, and the control messages that they send each other under it. A control
//! message is sealed with AES-256-GCM; its header is authenticated; its counter goes up, and is the nonce.

use super::datagram::{self, CONTROL_HEADER_LEN};
use super::keys::Role;
use super::noise::Agreed;
use super::{Failed, Moved, NewSa};
use crate::cipher::{AwsLc, Engine, SaSecret};
use crate::esp::{self, NONCE_LEN, TAG_LEN};
use crate::{Millis, Spi};
use stopover_net::{Mac, Vni};

/// A message under a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// From the initiator: its SPIs, one for each sender queue of the responder. The session is in use.
    Confirm(Vec<Spi>),
    /// From the responder: it sends under the session.
    Confirmed,
    /// Is there anybody?
    Probe(u32),
    /// The answer to the probe of this number.
    Alive(u32),
    /// The sender ends all its sessions with the receiver.
    Close,
    /// A node has moved.
    Moved(Moved),
}

mod kind {
    pub(super) const CONFIRM: u8 = 1;
    pub(super) const CONFIRMED: u8 = 2;
    pub(super) const PROBE: u8 = 3;
    pub(super) const ALIVE: u8 = 4;
    pub(super) const CLOSE: u8 = 5;
    pub(super) const MOVED: u8 = 6;
}

impl Control {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Confirm(spis) => {
                let spis = spis.iter().flat_map(|spi| spi.bits().to_be_bytes());
                std::iter::once(kind::CONFIRM).chain(spis).collect()
            }
            Self::Confirmed => vec![kind::CONFIRMED],
            Self::Probe(number) => [&[kind::PROBE], &number.to_be_bytes()[..]].concat(),
            Self::Alive(number) => [&[kind::ALIVE], &number.to_be_bytes()[..]].concat(),
            Self::Close => vec![kind::CLOSE],
            Self::Moved(moved) => moved.to_bytes(),
        }
    }

    /// Reads an opened text; `None` if it is no message.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let number = |rest: &[u8]| rest.try_into().ok().map(u32::from_be_bytes);
        match text {
            [kind::CONFIRM, spis @ ..] => {
                let (spis, []) = spis.as_chunks() else { return None };
                spis.iter()
                    .map(|spi| Spi::from_bits(u32::from_be_bytes(*spi)))
                    .collect::<Option<_>>()
                    .map(Self::Confirm)
            }
            [kind::CONFIRMED] => Some(Self::Confirmed),
            [kind::PROBE, rest @ ..] => number(rest).map(Self::Probe),
            [kind::ALIVE, rest @ ..] => number(rest).map(Self::Alive),
            [kind::CLOSE] => Some(Self::Close),
            [kind::MOVED, rest @ ..] => Moved::parse(rest).map(Self::Moved),
            _ => None,
        }
    }
}

impl Moved {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![kind::MOVED];
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.vni.get().to_be_bytes());
        bytes.extend(self.node.octets());
        bytes.extend(self.host.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_first_chunk()?;
        let (vni, rest) = rest.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk()?;
        let node = Mac::new(*node);
        if node.is_zero() || node.is_group() {
            return None;
        }
        Some(Self {
            generation: u64::from_be_bytes(*generation),
            vni: Vni::new(u32::from_be_bytes(*vni)).ok()?,
            node,
            host: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// One direction of the control messages. These are few, so the key is expanded for each: expanded keys of all
/// sessions of 10,000 peers would take 30 MB.
#[derive(Debug)]
struct Channel {
    secret: SaSecret,
    /// The last counter that was used.
    last: u64,
}

impl Channel {
    fn key(&self) -> Result<<AwsLc as Engine>::Key, Failed> {
        AwsLc.expand(&self.secret).map_err(|_| Failed)
    }

    fn nonce(&self, counter: u64) -> [u8; NONCE_LEN] {
        esp::nonce(self.secret.salt(), counter.to_be_bytes())
    }
}

/// What two hosts have agreed on.
#[derive(Debug)]
pub(super) struct Session {
    /// Our number of it.
    pub(super) number: u32,
    peer_number: u32,
    pub(super) role: Role,
    pub(super) born: Millis,
    out: Channel,
    into: Channel,
    /// Our SPIs.
    pub(super) spis: Vec<Spi>,
    /// The secrets of our outbound SAs, until these are in use.
    outbound: Vec<SaSecret>,
}

impl Session {
    /// A session with our SPIs, one for each sender queue of the peer, for our own so many sender queues. Returns the
    /// inbound SAs too.
    pub(super) fn new(
        agreed: &Agreed,
        number: u32,
        spis: Vec<Spi>,
        own_queues: u8,
        now: Millis,
    ) -> Result<(Self, Vec<NewSa>), Failed> {
        let Agreed { role, schedule, algorithm, peer_session, peer_queues } = agreed;
        let inbound = schedule.sas(role.other(), *peer_queues, *algorithm).ok_or(Failed)?;
        let inbound = spis.iter().zip(inbound).map(|(spi, secret)| NewSa { spi: *spi, secret }).collect();
        let session = Self {
            number,
            peer_number: *peer_session,
            role: *role,
            born: now,
            out: Channel { secret: schedule.control(*role).ok_or(Failed)?, last: 0 },
            into: Channel { secret: schedule.control(role.other()).ok_or(Failed)?, last: 0 },
            spis,
            outbound: schedule.sas(*role, own_queues, *algorithm).ok_or(Failed)?,
        };
        Ok((session, inbound))
    }

    /// The outbound SAs, once, under the peer's SPIs; `None` if those are not one for each sender queue.
    pub(super) fn take_outbound(&mut self, spis: &[Spi]) -> Option<Vec<NewSa>> {
        if spis.len() != self.outbound.len() || spis.is_empty() {
            return None;
        }
        let secrets = std::mem::take(&mut self.outbound);
        Some(spis.iter().zip(secrets).map(|(spi, secret)| NewSa { spi: *spi, secret }).collect())
    }

    /// The datagram of a control message.
    pub(super) fn seal(&mut self, control: &Control) -> Result<Vec<u8>, Failed> {
        self.out.last += 1;
        let counter = self.out.last;
        let mut datagram = datagram::control_header(self.number, self.peer_number, counter);
        datagram.extend(control.to_bytes());
        datagram.extend([0; TAG_LEN]);
        let nonce = self.out.nonce(counter);
        let (header, text_and_tag) = datagram.split_at_mut_checked(CONTROL_HEADER_LEN).ok_or(Failed)?;
        AwsLc.seal(&self.out.key()?, &nonce, header, text_and_tag).map_err(|_| Failed)?;
        Ok(datagram)
    }

    /// Opens the datagram of a control message with this counter. `Ok(None)`: authentic, but older than another, or of
    /// a kind that this version does not know.
    pub(super) fn open(&mut self, datagram: &[u8], counter: u64) -> Result<Option<Control>, Failed> {
        let (header, sealed) = datagram.split_at_checked(CONTROL_HEADER_LEN).ok_or(Failed)?;
        let mut text = sealed.to_vec();
        AwsLc.open(&self.into.key()?, &self.into.nonce(counter), header, &mut text).map_err(|_| Failed)?;
        if counter <= self.into.last {
            return Ok(None);
        }
        self.into.last = counter;
        Ok(text.len().checked_sub(TAG_LEN).and_then(|len| text.get(..len)).and_then(Control::parse))
    }
}
