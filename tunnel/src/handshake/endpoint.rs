//! A host's side of all handshakes: it checks datagrams as cheaply as it can, and gives them to the peer they are of.

use super::cookie::{Cookies, Macs};
use super::datagram::{self, Message, Parsed, Piece};
use super::noise::Received;
use super::peer::{Ctx, Peer, Sessions};
use super::pieces::Pieces;
use super::{Action, Config, HandshakeDrop, Moved, Now, PublicKey, Random, StaticKey, Traffic};
use crate::sa::Spis;
use crate::{Millis, Spi};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

/// Milliseconds in which initiations are counted.
const BUSY_WINDOW_MS: u64 = 1000;

/// A host's side of all handshakes.
#[derive(Debug)]
pub struct Endpoint {
    key: StaticKey,
    config: Config,
    macs: Macs,
    cookies: Cookies,
    pieces: Pieces,
    spis: Spis,
    sessions: Sessions,
    peers: BTreeMap<u32, Peer>,
    by_key: HashMap<PublicKey, u32>,
    /// One of the peers at each address: forged hints can be many.
    by_ip: HashMap<IpAddr, u32>,
    /// Pieces of initiations in the second that began then.
    recent: (Millis, u32),
}

/// Runs a method of a peer with all that it may use.
macro_rules! with_peer {
    ($self:ident, $peer:expr, $now:ident, $rng:expr, $out:ident, $method:ident($($arg:expr),*)) => {{
        let mut ctx = Ctx {
            key: &$self.key,
            config: &$self.config,
            spis: &mut $self.spis,
            sessions: &mut $self.sessions,
            rng: $rng,
            now: $now,
            out: $out,
        };
        $self.peers.get_mut(&$peer).map(|peer| peer.$method($($arg,)* &mut ctx))
    }};
}

impl Endpoint {
    /// The side of the host with this key. It has no peers yet.
    #[must_use]
    pub fn new(key: StaticKey, config: Config, now: Now, rng: &mut dyn Random) -> Self {
        let mut generation = [0; 2];
        rng.fill(&mut generation);
        Self {
            macs: Macs::to(&key.public()),
            cookies: Cookies::new(now.at, rng),
            pieces: Pieces::default(),
            spis: Spis::new(config.sas, u16::from_be_bytes(generation)),
            sessions: Sessions::default(),
            peers: BTreeMap::new(),
            by_key: HashMap::new(),
            by_ip: HashMap::new(),
            recent: (now.at, 0),
            key,
            config,
        }
    }

    /// A peer with this key may have a tunnel, and is reached at this address. `number` is the host's own; a peer that
    /// had it before is forgotten, as by [`Endpoint::remove_peer`]. A peer that is there already only gets the
    /// address.
    pub fn add_peer(
        &mut self,
        number: u32,
        key: PublicKey,
        address: SocketAddr,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if let Some(peer) = self.peers.get_mut(&number).filter(|peer| *peer.key() == key) {
            let before = peer.address().ip();
            peer.set_address(address);
            self.forget_ip(before, number);
            self.by_ip.insert(address.ip(), number);
            return;
        }
        self.remove_peer(number, now, out);
        if let Some(before) = self.by_key.insert(key, number) {
            self.remove_peer(before, now, out);
            self.by_key.insert(key, number);
        }
        let lead = self.key.public() < key;
        self.peers.insert(number, Peer::new(number, key, address, lead));
        self.by_ip.insert(address.ip(), number);
    }

    /// The peer is not at this address any more. Another one may be.
    fn forget_ip(&mut self, ip: IpAddr, number: u32) {
        if self.by_ip.get(&ip) == Some(&number) {
            self.by_ip.remove(&ip);
        }
    }

    /// The peer may have no tunnel any more.
    pub fn remove_peer(&mut self, number: u32, now: Now, out: &mut Vec<Action>) {
        with_peer!(self, number, now, &mut NoRandom, out, end(true));
        if let Some(peer) = self.peers.remove(&number) {
            self.by_key.remove(peer.key());
            self.forget_ip(peer.address().ip(), number);
        }
    }

    /// There are frames for the peer: a tunnel is wanted.
    pub fn start(&mut self, peer: u32, now: Now, rng: &mut dyn Random, out: &mut Vec<Action>) {
        self.traffic(peer, Traffic { sent: true, ..Traffic::default() }, now, rng, out);
    }

    /// What the data path saw of the peer.
    pub fn traffic(
        &mut self,
        peer: u32,
        traffic: Traffic,
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) {
        with_peer!(self, peer, now, rng, out, traffic(traffic));
    }

    /// The inbound SAs of a session are installed on every lcore.
    pub fn installed(
        &mut self,
        peer: u32,
        session: u32,
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) {
        with_peer!(self, peer, now, rng, out, installed(session));
    }

    /// No lcore can use these inbound SAs any more.
    pub fn retired(&mut self, spis: &[Spi]) {
        for spi in spis {
            self.spis.give_back(*spi);
        }
    }

    /// A new session for the peer, now.
    pub fn rekey(&mut self, peer: u32, now: Now, rng: &mut dyn Random, out: &mut Vec<Action>) {
        with_peer!(self, peer, now, rng, out, begin());
    }

    /// Ends the tunnel to the peer. It may come up again.
    pub fn close(&mut self, peer: u32, now: Now, rng: &mut dyn Random, out: &mut Vec<Action>) {
        with_peer!(self, peer, now, rng, out, end(true));
    }

    /// Reports to the peer that a node has moved away from this host. The message is not repeated here. Returns
    /// whether it was sent: there is a session.
    pub fn report_moved(&mut self, peer: u32, moved: Moved, now: Now, out: &mut Vec<Action>) -> bool {
        with_peer!(self, peer, now, &mut NoRandom, out, report_moved(moved)).unwrap_or(false)
    }

    /// ESP under an SPI that no SA has came from this address. Anybody can send that, so all it can do is start a
    /// handshake, now and then: a peer there may not know that we restarted.
    pub fn unknown_spi(&mut self, from: SocketAddr, now: Now, rng: &mut dyn Random, out: &mut Vec<Action>) {
        // Not the port: flows spread over many.
        let Some(number) = self.by_ip.get(&from.ip()).copied() else { return };
        with_peer!(self, number, now, rng, out, hint());
    }

    /// When [`Endpoint::tick`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        self.peers.values().filter_map(|peer| peer.next_timeout(&self.config.timing)).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, rng: &mut dyn Random, out: &mut Vec<Action>) {
        let due = |peer: &&Peer| peer.next_timeout(&self.config.timing).is_some_and(|at| at <= now.at);
        let due: Vec<u32> = self.peers.values().filter(due).map(Peer::number).collect();
        for number in due {
            with_peer!(self, number, now, rng, out, tick());
        }
    }

    /// A datagram of a handshake came.
    ///
    /// # Errors
    /// It is dropped. A cookie may be among the actions none the less.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) -> Result<(), HandshakeDrop> {
        match datagram::parse(bytes).map_err(|_| HandshakeDrop::Malformed)? {
            Parsed::Piece(piece) => {
                if !self.macs.first_is_right(bytes) {
                    return Err(HandshakeDrop::BadMac);
                }
                match piece.message {
                    Message::Initiation => self.initiation(from, &piece, bytes, now, rng, out),
                    Message::Response => self.response(from, &piece, now, rng, out),
                }
            }
            Parsed::Control { receiver, counter, .. } => {
                let Some(peer) = self.sessions.peer_of(receiver) else {
                    self.unknown_spi(from, now, rng, out);
                    return Err(HandshakeDrop::UnknownSession);
                };
                with_peer!(self, peer, now, rng, out, control(receiver, bytes, counter))
                    .unwrap_or(Err(HandshakeDrop::UnknownSession))
            }
            Parsed::Cookie { receiver, nonce, sealed } => {
                let peer = self.sessions.peer_of(receiver).ok_or(HandshakeDrop::UnknownSession)?;
                with_peer!(self, peer, now, rng, out, cookie(receiver, nonce, sealed))
                    .unwrap_or(Err(HandshakeDrop::UnknownSession))
            }
        }
    }

    fn busy(&mut self, now: Millis) -> bool {
        if now.0 >= self.recent.0.0.saturating_add(BUSY_WINDOW_MS) {
            self.recent = (now, 0);
        }
        self.recent.1 = self.recent.1.saturating_add(1);
        // An initiation has two pieces.
        self.recent.1 > self.config.busy_above.saturating_mul(2)
    }

    fn initiation(
        &mut self,
        from: SocketAddr,
        piece: &Piece<'_>,
        bytes: &[u8],
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) -> Result<(), HandshakeDrop> {
        let busy = self.busy(now.at);
        let proven = self.cookies.second_is_right(bytes, from, now.at, rng);
        if busy && !proven {
            self.send_cookie(from, piece, bytes, now, rng, out);
            return Err(HandshakeDrop::NeedsCookie);
        }
        let Some(whole) = self.pieces.add(piece, from, proven, now.at) else { return Ok(()) };
        let received = Received::new(&self.key, &whole.bytes, rng)?;
        let peer = *self.by_key.get(&received.peer).ok_or(HandshakeDrop::UnknownPeer)?;
        if received.hello.session != piece.sender {
            return Err(HandshakeDrop::Unexpected);
        }
        let done = with_peer!(self, peer, now, rng, out, initiation(received, &whole));
        if done == Some(Err(HandshakeDrop::Stale)) {
            self.send_cookie(from, piece, bytes, now, rng, out);
        }
        done.unwrap_or(Err(HandshakeDrop::UnknownPeer))
    }

    fn send_cookie(
        &mut self,
        from: SocketAddr,
        piece: &Piece<'_>,
        bytes: &[u8],
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) {
        let cookie = self.cookies.of(from, now.at, rng);
        out.extend(
            self.macs
                .reply(piece.sender, bytes, cookie, rng)
                .map(|datagram| Action::Send { to: from, datagram }),
        );
    }

    fn response(
        &mut self,
        from: SocketAddr,
        piece: &Piece<'_>,
        now: Now,
        rng: &mut dyn Random,
        out: &mut Vec<Action>,
    ) -> Result<(), HandshakeDrop> {
        let peer = self.sessions.peer_of(piece.receiver).ok_or(HandshakeDrop::UnknownSession)?;
        let Some(whole) = self.pieces.add(piece, from, false, now.at) else { return Ok(()) };
        with_peer!(self, peer, now, rng, out, response(piece.receiver, &whole.bytes))
            .unwrap_or(Err(HandshakeDrop::UnknownPeer))
    }
}

/// For what needs no random bytes.
struct NoRandom;

impl Random for NoRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}
