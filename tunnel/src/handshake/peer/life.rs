//! What time and traffic do to the sessions of a peer.

use super::super::session::Control;
use super::super::{Action, DownReason, Timing, Traffic};
use super::{Ctx, PROBES, Peer, Silence};
use crate::Millis;

impl Peer {
    /// What the data path saw.
    pub(in super::super) fn traffic(&mut self, traffic: Traffic, ctx: &mut Ctx<'_>) {
        let now = ctx.now.at;
        if traffic.sent {
            self.wanted = Some(now.after(ctx.config.timing.wanted_life));
            if self.current.is_none() {
                self.begin(ctx);
            } else if self.silence.is_none() {
                let next = now.after(ctx.config.timing.probe_after);
                self.silence = Some(Silence { probes: 0, next });
            }
        }
        if let Some(current) = &mut self.current {
            current.used |= traffic.sent;
            if traffic.wants_rekey {
                current.rekey = current.rekey.min(now);
                current.used = true;
            }
        }
        if let Some(session) = traffic.received {
            self.frames_came(session, ctx);
        }
    }

    /// Valid frames came under a session.
    fn frames_came(&mut self, session: u32, ctx: &mut Ctx<'_>) {
        self.is_there(ctx.now.at);
        if self.current.is_some() {
            self.set_up(ctx);
        }
        let Some(current) = &mut self.current else { return };
        current.used = true;
        if current.session.number == session {
            // The responder sends under it only after the confirmation.
            (current.confirmed, current.received) = (true, true);
            self.end_old(ctx.now.at, &ctx.config.timing);
        }
    }

    /// The peer may not know that we restarted.
    pub(in super::super) fn hint(&mut self, ctx: &mut Ctx<'_>) {
        let (now, gap) = (ctx.now.at, ctx.config.timing.hint_gap);
        let recent = |at: Option<Millis>| at.is_some_and(|at| !now.has_passed(at, gap));
        if !recent(self.hinted) && !recent(self.received) {
            self.hinted = Some(now);
            self.wanted = self.wanted.max(Some(now.after(ctx.config.timing.attempt_life)));
            self.begin(ctx);
        }
    }

    /// When something is to be done next.
    pub(in super::super) fn next_timeout(&self, timing: &Timing) -> Option<Millis> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.resend);
        let next = self.next.as_ref().map(|next| next.born.after(timing.unconfirmed_life));
        let silence = self.silence.as_ref().map(|silence| silence.next);
        let busy = self.attempt.is_some() || self.installing.is_some();
        let current = self.current.as_ref().map(|current| {
            let confirm = (!current.confirmed).then_some(current.confirm.0);
            // While a handshake is under way its own times count.
            let rekey = (current.used && !busy).then_some(current.rekey);
            let end = current.session.born.after(timing.reject_after);
            confirm.into_iter().chain(rekey).fold(end, Millis::min)
        });
        let old = self.old.iter().map(|old| old.until).min();
        [attempt, next, silence, current, old].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(in super::super) fn tick(&mut self, ctx: &mut Ctx<'_>) {
        self.tick_attempt(ctx);
        let timing = ctx.config.timing;
        let now = ctx.now.at;
        if let Some(next) = self.next.take_if(|next| now.has_passed(next.born, timing.unconfirmed_life)) {
            self.retire(&next, ctx);
        }
        self.tick_current(ctx);
        self.tick_silence(ctx);
        for old in self.old.extract_if(.., |old| old.until <= now).collect::<Vec<_>>() {
            self.retire(&old.session, ctx);
        }
    }

    fn tick_attempt(&mut self, ctx: &mut Ctx<'_>) {
        let (now, timing) = (ctx.now.at, ctx.config.timing);
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.resend <= now) else { return };
        if !now.has_passed(attempt.since, timing.attempt_life) {
            attempt.wait = (attempt.wait * 2).min(timing.retry_most);
            self.send_initiation(ctx);
            return;
        }
        self.drop_attempt(ctx);
        if !self.unanswered && self.current.is_none() {
            self.unanswered = true;
            self.up = false;
            ctx.out.push(Action::Down { peer: self.number, why: DownReason::NoAnswer });
        }
        if self.wanted.is_some_and(|until| until > now) {
            self.begin(ctx);
        }
    }

    fn tick_current(&mut self, ctx: &mut Ctx<'_>) {
        let (now, timing) = (ctx.now.at, ctx.config.timing);
        let Some(current) = &mut self.current else { return };
        if now.has_passed(current.session.born, timing.reject_after) {
            if let Some(current) = self.current.take() {
                ctx.out.push(Action::Deactivate { peer: self.number });
                self.keep(current.session, ctx);
            }
            self.silence = None;
            self.set_down(DownReason::Expired, ctx);
            if self.wanted.is_some_and(|until| until > now) {
                self.begin(ctx);
            }
            return;
        }
        let mut fresh = current.used && current.rekey <= now;
        if !current.confirmed && current.confirm.0 <= now {
            let wait = (current.confirm.1 * 2).min(timing.retry_most);
            current.confirm = (now.after(wait), wait);
            let confirm = Control::Confirm(current.session.spis.clone());
            Self::send_control(self.address, &mut current.session, &confirm, ctx);
            fresh |= now.has_passed(current.session.born, timing.confirm_life);
        }
        if fresh {
            // Not at once again, if this one finds no answer.
            current.rekey = now.after(timing.attempt_life);
            self.begin(ctx);
        }
    }

    fn tick_silence(&mut self, ctx: &mut Ctx<'_>) {
        let (now, timing) = (ctx.now.at, ctx.config.timing);
        let Some(silence) = self.silence.as_mut().filter(|silence| silence.next <= now) else { return };
        let Some(current) = &mut self.current else {
            self.silence = None;
            return;
        };
        if silence.probes < PROBES {
            silence.probes += 1;
            silence.next = now.after(timing.probe_every);
            let probe = Control::Probe(silence.probes);
            Self::send_control(self.address, &mut current.session, &probe, ctx);
            return;
        }
        self.silence = None;
        self.set_down(DownReason::Silent, ctx);
        self.begin(ctx);
    }
}
