//! What the datagrams of a peer do.

use super::super::cookie::Macs;
use super::super::datagram::{self, Message, SEALED_COOKIE_LEN};
use super::super::keys::Role;
use super::super::noise::{Answer, Received};
use super::super::pieces::Whole;
use super::super::session::{Control, Session};
use super::super::{Action, DownReason, HandshakeDrop, Moved};
use super::{Answered, Ctx, Installing, MOST_FORGED, Peer, Then};
use crate::Spi;
use aws_lc_rs::digest;

impl Peer {
    /// An initiation of this peer came.
    pub(in super::super) fn initiation(
        &mut self,
        received: Received,
        whole: &Whole,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), HandshakeDrop> {
        let digest = digest::digest(&digest::SHA256, &whole.bytes);
        if self.answered.as_ref().is_some_and(|answered| answered.digest == digest.as_ref()) {
            return self.answer_again(ctx);
        }
        self.admit(&received, whole.proven, ctx)?;
        let hello = received.hello;
        let spis = take_spis(hello.queues, ctx).ok_or(HandshakeDrop::NoSpi)?;
        let number = ctx.sessions.take(self.number, ctx.rng);
        let algorithm = hello.algorithm.max(ctx.config.algorithm);
        let answer = Answer { session: number, queues: ctx.config.queues, algorithm, spis: spis.clone() };
        let made = received.respond(&answer).and_then(|(agreed, message)| {
            let (session, sas) = Session::new(&agreed, number, spis.clone(), ctx.config.queues, ctx.now.at)?;
            Ok((session, sas, message))
        });
        let (session, sas, message) = match made {
            Ok(made) => made,
            Err(failed) => {
                give_back(number, &spis, ctx);
                return Err(failed.into());
            }
        };
        // What is under way gives place: its initiator is this peer itself, or this host, which gives in.
        self.drop_attempt(ctx);
        if let Some(installing) = self.installing.take() {
            self.retire(&installing.session, ctx);
        }
        self.stamps.1 = self.stamps.1.max(hello.stamp);
        let datagrams = datagram::build_pieces(Message::Response, number, hello.session, &message);
        self.answered = Some(Answered {
            digest: digest.as_ref().to_vec(),
            session: number,
            stamp: hello.stamp,
            at: ctx.now.at,
            datagrams: datagrams.clone(),
        });
        ctx.out.push(Action::InstallInbound { peer: self.number, session: number, sas });
        self.installing = Some(Installing { session, then: Then::Respond(datagrams) });
        Ok(())
    }

    /// The same initiation came again: its response may be lost.
    fn answer_again(&mut self, ctx: &mut Ctx<'_>) -> Result<(), HandshakeDrop> {
        let awaited = |number| self.next.as_ref().is_some_and(|next| next.number == number);
        let Some(answered) = self.answered.take_if(|answered| awaited(answered.session)) else {
            return Err(HandshakeDrop::Unexpected);
        };
        self.send_response(self.address, &answered.datagrams, ctx);
        self.answered = Some(answered);
        Ok(())
    }

    /// Whether an initiation is answered.
    fn admit(&self, received: &Received, proven: bool, ctx: &Ctx<'_>) -> Result<(), HandshakeDrop> {
        let initiating = self.attempt.is_some()
            || self.installing.as_ref().is_some_and(|installing| matches!(installing.then, Then::Confirm(_)));
        let stamp = received.hello.stamp;
        if stamp <= self.stamps.1 {
            // A replay, or a peer whose clock went back while it was down. The latter can answer a cookie, and a replay
            // takes no place of a newer one.
            let newer = self.answered.as_ref().is_some_and(|answered| {
                let pending = self.next.is_some() || self.installing.is_some();
                pending && answered.stamp >= stamp
            });
            if !proven || newer {
                return Err(HandshakeDrop::Stale);
            }
        }
        if initiating && self.lead {
            return Err(HandshakeDrop::Crossed);
        }
        let gap = ctx.config.timing.initiation_gap;
        if self.answered.as_ref().is_some_and(|answered| !ctx.now.at.has_passed(answered.at, gap)) {
            return Err(HandshakeDrop::TooSoon);
        }
        Ok(())
    }

    /// A response to our initiation of this session came.
    pub(in super::super) fn response(
        &mut self,
        session: u32,
        message: &[u8],
        ctx: &mut Ctx<'_>,
    ) -> Result<(), HandshakeDrop> {
        let unexpected = HandshakeDrop::Unexpected;
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.session == session).ok_or(unexpected)?;
        if attempt.forged >= MOST_FORGED {
            return Err(HandshakeDrop::BadSeal);
        }
        let (agreed, theirs) =
            attempt.initiation.read_response(message).inspect_err(|_| attempt.forged += 1)?;
        let spis = take_spis(agreed.peer_queues, ctx).ok_or(HandshakeDrop::NoSpi);
        // The session is as old as its initiation: older than the responder counts it.
        let born = attempt.since;
        self.attempt = None;
        let made = spis.and_then(|spis| {
            let (mut made, sas) = Session::new(&agreed, session, spis, ctx.config.queues, born)?;
            let outbound = made.take_outbound(&theirs).ok_or(HandshakeDrop::BadSeal)?;
            Ok((made, sas, outbound))
        });
        let (made, sas, outbound) = made.inspect_err(|_| ctx.sessions.release(session))?;
        self.is_there(ctx.now.at);
        ctx.out.push(Action::InstallInbound { peer: self.number, session, sas });
        self.installing = Some(Installing { session: made, then: Then::Confirm(outbound) });
        Ok(())
    }

    /// The inbound SAs of a session are installed.
    pub(in super::super) fn installed(&mut self, number: u32, ctx: &mut Ctx<'_>) {
        let Some(installing) = self.installing.take_if(|installing| installing.session.number == number)
        else {
            return;
        };
        let Installing { mut session, then } = installing;
        match then {
            Then::Respond(datagrams) => {
                session.born = ctx.now.at;
                // Its initiator may send under the one before, if only the confirmation was lost.
                if let Some(before) = self.next.replace(session) {
                    self.keep(before, ctx);
                }
                self.send_response(self.address, &datagrams, ctx);
            }
            Then::Confirm(outbound) => {
                let confirm = Control::Confirm(session.spis.clone());
                Self::send_control(self.address, &mut session, &confirm, ctx);
                self.promote(session, outbound, false, ctx);
            }
        }
    }

    /// A cookie for our initiation of this session came.
    pub(in super::super) fn cookie(
        &mut self,
        session: u32,
        nonce: [u8; 12],
        sealed: &[u8; SEALED_COOKIE_LEN],
        ctx: &mut Ctx<'_>,
    ) -> Result<(), HandshakeDrop> {
        let unexpected = HandshakeDrop::Unexpected;
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.session == session).ok_or(unexpected)?;
        let macs: &Macs = &self.macs;
        let cookie = attempt.macs.iter().find_map(|first| macs.read_reply(nonce, sealed, first));
        let cookie = cookie.ok_or(HandshakeDrop::BadSeal)?;
        let known = self.cookie.is_some_and(|(known, _)| known == cookie);
        self.cookie = Some((cookie, ctx.now.at));
        // The initiation with that cookie is under way already.
        if known && attempt.macs.len() == attempt.datagrams.len() && attempt.resend > ctx.now.at {
            return Ok(());
        }
        self.send_initiation(ctx);
        Ok(())
    }

    fn session_mut(&mut self, number: u32) -> Option<&mut Session> {
        let current = self.current.as_mut().map(|current| &mut current.session);
        let old = self.old.iter_mut().map(|old| &mut old.session);
        let mut all = current.into_iter().chain(&mut self.next).chain(old);
        all.find(|session| session.number == number)
    }

    /// A control message under this session came.
    pub(in super::super) fn control(
        &mut self,
        number: u32,
        datagram: &[u8],
        counter: u64,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), HandshakeDrop> {
        let session = self.session_mut(number).ok_or(HandshakeDrop::UnknownSession)?;
        let control = session.open(datagram, counter)?.ok_or(HandshakeDrop::Unexpected)?;
        self.is_there(ctx.now.at);
        match control {
            Control::Confirm(spis) => self.confirm(number, &spis, ctx)?,
            Control::Confirmed => {
                let current = self.current.as_mut().filter(|current| current.session.number == number);
                let current = current.ok_or(HandshakeDrop::Unexpected)?;
                current.confirmed = true;
                self.end_old(ctx.now.at, &ctx.config.timing);
            }
            Control::Probe(probe) => {
                let to = self.address;
                if let Some(session) = self.session_mut(number) {
                    Self::send_control(to, session, &Control::Alive(probe), ctx);
                }
            }
            Control::Alive(_) => {}
            Control::Moved(moved) => ctx.out.push(Action::Moved { peer: self.number, moved }),
            Control::Close => {
                self.end(false, ctx);
                return Ok(());
            }
        }
        if self.current.is_some() {
            self.set_up(ctx);
        }
        Ok(())
    }

    /// Reports a moved node to the peer. Returns whether there is a session to do so.
    pub(in super::super) fn report_moved(&mut self, moved: Moved, ctx: &mut Ctx<'_>) -> bool {
        let Some(current) = &mut self.current else { return false };
        Self::send_control(self.address, &mut current.session, &Control::Moved(moved), ctx);
        true
    }

    /// The initiator confirms a session, for the first time or again.
    fn confirm(&mut self, number: u32, spis: &[Spi], ctx: &mut Ctx<'_>) -> Result<(), HandshakeDrop> {
        if let Some(mut session) = self.next.take_if(|next| next.number == number) {
            let Some(outbound) = session.take_outbound(spis) else {
                self.next = Some(session);
                return Err(HandshakeDrop::Unexpected);
            };
            self.promote(session, outbound, true, ctx);
            // Its initiator has the response.
            if let Some(answered) = &mut self.answered {
                answered.datagrams = Vec::new();
            }
        }
        let current = self
            .current
            .as_mut()
            .filter(|current| current.session.number == number && current.session.role == Role::Responder);
        let current = current.ok_or(HandshakeDrop::Unexpected)?;
        Self::send_control(self.address, &mut current.session, &Control::Confirmed, ctx);
        Ok(())
    }

    /// Ends all sessions, and reports that to the peer if asked to.
    pub(in super::super) fn end(&mut self, report: bool, ctx: &mut Ctx<'_>) {
        if let Some(current) = self.current.as_mut().filter(|_| report) {
            Self::send_control(self.address, &mut current.session, &Control::Close, ctx);
        }
        self.drop_attempt(ctx);
        let installing = self.installing.take().map(|installing| installing.session);
        let current = self.current.take().map(|current| current.session);
        if current.is_some() {
            ctx.out.push(Action::Deactivate { peer: self.number });
        }
        let old = std::mem::take(&mut self.old).into_iter().map(|old| old.session);
        for session in installing.into_iter().chain(self.next.take()).chain(current).chain(old) {
            self.retire(&session, ctx);
        }
        (self.wanted, self.silence, self.answered) = (None, None, None);
        self.set_down(DownReason::Closed, ctx);
    }
}

/// SPIs for all sender queues of a peer, or none.
fn take_spis(queues: u8, ctx: &mut Ctx<'_>) -> Option<Vec<Spi>> {
    if ctx.spis.free() < usize::from(queues) {
        return None;
    }
    (0..queues).map(|_| ctx.spis.take()).collect()
}

fn give_back(session: u32, spis: &[Spi], ctx: &mut Ctx<'_>) {
    ctx.sessions.release(session);
    for spi in spis {
        ctx.spis.give_back(*spi);
    }
}
