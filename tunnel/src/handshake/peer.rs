//! One peer: its sessions, from the first initiation to the last retired SA. Enters: what `Endpoint` gives it. Leaves:
//! actions.
//!
//! A session passes through these places: `attempt` (initiated, no answer yet) or an initiation that came,
//! `installing` (keys agreed, inbound SAs not yet on every lcore), `next` (answered, the initiator has not confirmed),
//! `current` (it sends under it), `old` (it only receives under it). Nothing is taken out before what replaces it is
//! in use: a responder answers when its inbound SAs are installed, an initiator confirms when its own are, and each
//! keeps the inbound SAs of old sessions until frames came under the new ones.

mod exchange;
mod life;

use super::cookie::{COOKIE_USE, Cookie, Macs};
use super::datagram::MAC_LEN;
use super::noise::{Hello, Initiation};
use super::session::{Control, Session};
use super::{Action, Config, DownReason, NewSa, Now, PublicKey, Random, StaticKey, Timing, datagram};
use crate::Millis;
use crate::sa::Spis;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Which peer each session number is of.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    of: HashMap<u32, u32>,
}

impl Sessions {
    pub(super) fn peer_of(&self, session: u32) -> Option<u32> {
        self.of.get(&session).copied()
    }

    /// A number that no session has. It is random: so one from before a restart is unknown.
    fn take(&mut self, peer: u32, rng: &mut dyn Random) -> u32 {
        loop {
            let mut bytes = [0; 4];
            rng.fill(&mut bytes);
            let number = u32::from_be_bytes(bytes);
            if number != 0 && !self.of.contains_key(&number) {
                self.of.insert(number, peer);
                return number;
            }
        }
    }

    fn release(&mut self, session: u32) {
        self.of.remove(&session);
    }
}

/// What a peer may use of its host.
pub(super) struct Ctx<'a> {
    pub(super) key: &'a StaticKey,
    pub(super) config: &'a Config,
    pub(super) spis: &'a mut Spis,
    pub(super) sessions: &'a mut Sessions,
    pub(super) rng: &'a mut dyn Random,
    pub(super) now: Now,
    pub(super) out: &'a mut Vec<Action>,
}

impl Ctx<'_> {
    /// A random time below `most`.
    fn jitter(&mut self, most: Duration) -> Duration {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes);
        most.mul_f64(f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
    }
}

/// An initiation that is repeated until it is answered.
#[derive(Debug)]
struct Attempt {
    session: u32,
    initiation: Initiation,
    datagrams: Vec<Vec<u8>>,
    /// The first MACs of the datagrams as they were last sent.
    macs: Vec<[u8; MAC_LEN]>,
    since: Millis,
    resend: Millis,
    wait: Duration,
    /// Responses that could not be read.
    forged: u8,
}

/// A session whose inbound SAs are being installed.
#[derive(Debug)]
struct Installing {
    session: Session,
    then: Then,
}

/// What follows the installation.
#[derive(Debug)]
enum Then {
    /// Send the response.
    Respond(Vec<Vec<u8>>),
    /// Send under the session with these SAs, and confirm it.
    Confirm(Vec<NewSa>),
}

/// The session under which the host sends.
#[derive(Debug)]
struct Current {
    session: Session,
    /// The other side sends under it too, or will with its next frame.
    confirmed: bool,
    /// When the confirmation is repeated, and the wait after that.
    confirm: (Millis, Duration),
    rekey: Millis,
    /// Frames were sent or came.
    used: bool,
    /// Frames came.
    received: bool,
}

/// A session under which frames may still come.
#[derive(Debug)]
struct Old {
    session: Session,
    until: Millis,
}

/// The last initiation that was answered.
#[derive(Debug)]
struct Answered {
    digest: Vec<u8>,
    session: u32,
    stamp: u64,
    at: Millis,
    datagrams: Vec<Vec<u8>>,
}

/// Frames are sent, and none came since.
#[derive(Debug)]
struct Silence {
    probes: u32,
    next: Millis,
}

/// Probes without an answer, after which the peer is down.
const PROBES: u32 = 3;
/// Old sessions at most. Each is made by an initiation that took [`Timing::confirm_life`] and lives
/// [`Timing::reject_after`].
const MOST_OLD: usize = 24;
/// Responses that cannot be read, before an attempt takes no more.
const MOST_FORGED: u8 = 20;

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    number: u32,
    key: PublicKey,
    address: SocketAddr,
    macs: Macs,
    /// This host has the lower key: of two initiations at once its own goes on.
    lead: bool,
    cookie: Option<(Cookie, Millis)>,
    attempt: Option<Box<Attempt>>,
    installing: Option<Installing>,
    next: Option<Session>,
    current: Option<Current>,
    old: Vec<Old>,
    answered: Option<Answered>,
    /// The stamps of our last initiation, and of the newest that came.
    stamps: (u64, u64),
    wanted: Option<Millis>,
    up: bool,
    /// A missing answer was reported.
    unanswered: bool,
    silence: Option<Silence>,
    hinted: Option<Millis>,
    /// When the last valid frame or message came.
    received: Option<Millis>,
}

impl Peer {
    pub(super) fn new(number: u32, key: PublicKey, address: SocketAddr, lead: bool) -> Self {
        Self {
            number,
            key,
            address,
            macs: Macs::to(&key),
            lead,
            cookie: None,
            attempt: None,
            installing: None,
            next: None,
            current: None,
            old: Vec::new(),
            answered: None,
            stamps: (0, 0),
            wanted: None,
            up: false,
            unanswered: false,
            silence: None,
            hinted: None,
            received: None,
        }
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn set_address(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Starts a handshake, unless one is under way.
    pub(super) fn begin(&mut self, ctx: &mut Ctx<'_>) {
        let answering = self.next.as_ref().is_some_and(|next| {
            // The peer has just initiated itself, and its confirmation is on its way.
            !ctx.now.at.has_passed(next.born, 2 * ctx.config.timing.retry_first)
        });
        if self.attempt.is_some() || self.installing.is_some() || answering {
            return;
        }
        let session = ctx.sessions.take(self.number, ctx.rng);
        let stamp = ctx.now.wall_ns.max(self.stamps.0.saturating_add(1));
        let hello = Hello { session, stamp, queues: ctx.config.queues, algorithm: ctx.config.algorithm };
        let Ok((initiation, message)) = Initiation::new(ctx.key, &self.key, hello, ctx.rng) else {
            ctx.sessions.release(session);
            return;
        };
        self.stamps.0 = stamp;
        let datagrams = datagram::build_pieces(datagram::Message::Initiation, session, 0, &message);
        let (since, wait) = (ctx.now.at, ctx.config.timing.retry_first);
        let macs = Vec::new();
        let attempt = Attempt { session, initiation, datagrams, macs, since, resend: since, wait, forged: 0 };
        self.attempt = Some(Box::new(attempt));
        self.send_initiation(ctx);
    }

    /// Sends the datagrams of the attempt, and sets the time of their repetition.
    fn send_initiation(&mut self, ctx: &mut Ctx<'_>) {
        let Some(attempt) = &mut self.attempt else { return };
        let fresh = |(_, since): &(Cookie, Millis)| !ctx.now.at.has_passed(*since, COOKIE_USE);
        let cookie = self.cookie.filter(fresh).map(|(cookie, _)| cookie);
        attempt.macs.clear();
        for datagram in &mut attempt.datagrams {
            attempt.macs.push(self.macs.write(datagram, cookie.as_ref()));
            ctx.out.push(Action::Send { to: self.address, datagram: datagram.clone() });
        }
        let jitter = ctx.jitter(attempt.wait / 4);
        attempt.resend = ctx.now.at.after(attempt.wait + jitter);
    }

    fn send_response(&mut self, to: SocketAddr, datagrams: &[Vec<u8>], ctx: &mut Ctx<'_>) {
        for datagram in datagrams {
            let mut datagram = datagram.clone();
            self.macs.write(&mut datagram, None);
            ctx.out.push(Action::Send { to, datagram });
        }
    }

    fn send_control(address: SocketAddr, session: &mut Session, control: &Control, ctx: &mut Ctx<'_>) {
        if let Ok(datagram) = session.seal(control) {
            ctx.out.push(Action::Send { to: address, datagram });
        }
    }

    fn drop_attempt(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(attempt) = self.attempt.take() {
            ctx.sessions.release(attempt.session);
        }
    }

    fn retire(&self, session: &Session, ctx: &mut Ctx<'_>) {
        ctx.sessions.release(session.number);
        ctx.out.push(Action::Retire { peer: self.number, spis: session.spis.clone() });
    }

    fn set_up(&mut self, ctx: &mut Ctx<'_>) {
        self.unanswered = false;
        if !self.up {
            self.up = true;
            ctx.out.push(Action::Up { peer: self.number });
        }
    }

    fn set_down(&mut self, why: DownReason, ctx: &mut Ctx<'_>) {
        if self.up {
            self.up = false;
            ctx.out.push(Action::Down { peer: self.number, why });
        }
    }

    /// From now this is the session to send under.
    fn promote(&mut self, session: Session, sas: Vec<NewSa>, confirmed: bool, ctx: &mut Ctx<'_>) {
        let timing = &ctx.config.timing;
        let (jitter_most, retry) = (timing.rekey_jitter, timing.retry_first);
        let latest = if self.lead { timing.rekey_after } else { timing.rekey_after + timing.follow_after };
        let jitter = if self.lead { ctx.jitter(jitter_most) } else { Duration::ZERO };
        let rekey = session.born.after(latest.saturating_sub(jitter));
        ctx.out.push(Action::Activate { peer: self.number, session: session.number, sas });
        let confirm = (ctx.now.at.after(retry), retry);
        let current = Current { session, confirmed, confirm, rekey, used: false, received: false };
        if let Some(before) = self.current.replace(current) {
            self.keep(before.session, ctx);
        }
        // A session that this host answered before is older. Its confirmation may be under way, and must not bring it
        // back: the peer takes its SAs out once frames came under the newer one.
        if let Some(older) = self.next.take() {
            self.keep(older, ctx);
        }
        self.drop_attempt(ctx);
        self.silence = None;
        self.set_up(ctx);
    }

    /// Keeps the inbound SAs of a session, under which frames may still come.
    fn keep(&mut self, session: Session, ctx: &mut Ctx<'_>) {
        let until = session.born.after(ctx.config.timing.inbound_life());
        self.old.push(Old { session, until });
        if self.old.len() > MOST_OLD {
            let oldest = self.old.remove(0);
            self.retire(&oldest.session, ctx);
        }
    }

    /// Sets the end of the old sessions, once the new one is in use by both sides.
    fn end_old(&mut self, now: Millis, timing: &Timing) {
        let Some(current) = &self.current else { return };
        if current.confirmed && current.received {
            // One that is newer is not replaced by this one.
            let born = current.session.born;
            for old in self.old.iter_mut().filter(|old| old.session.born <= born) {
                old.until = old.until.min(now.after(timing.grace));
            }
        }
    }

    /// The peer is there: a valid frame or message came.
    const fn is_there(&mut self, now: Millis) {
        self.silence = None;
        self.received = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the control thread has of 10,000 peers with two sessions each, beside the SAs that the lcores have.
    #[test]
    fn ten_thousand_peers_have_room() {
        let sessions = 2 * (size_of::<Old>() + size_of::<(u32, u32)>() * 2);
        let megabytes = 10_000 * (size_of::<Peer>() + sessions) / 1_000_000;
        println!("peer {}, session {}: {megabytes} MB", size_of::<Peer>(), size_of::<Session>());
        assert!(megabytes <= 20, "{megabytes}");
    }
}
