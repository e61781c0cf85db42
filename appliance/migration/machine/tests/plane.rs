//! A model of the packet path. Enters: actions. Leaves: whether they are consistent: held frames have exactly one
//! exit.

use crate::migration::machine::{Action, State};
use crate::migration::record::RedirectTarget;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hold {
    Off,
    Keep(u16),
    Forward(u16, RedirectTarget),
}

/// The state of the packet path.
#[derive(Debug)]
pub struct Plane {
    pub local: Option<u16>,
    pub hold: Hold,
    pub arrival: bool,
    pub stand_in: bool,
}

impl Plane {
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::ShowLocal { port } => self.local = Some(port),
            Action::Forget => {
                assert_eq!(self.hold, Hold::Off, "frames are left behind");
                self.local = None;
            }
            Action::Depart { .. } => {
                assert!(!matches!(self.hold, Hold::Keep(_)), "kept frames are left behind");
                (self.local, self.hold) = (None, Hold::Off);
            }
            Action::Hold { port } => self.hold = Hold::Keep(port),
            Action::Release { .. } => {
                assert_ne!(self.hold, Hold::Off, "nothing to release");
                self.hold = Hold::Off;
            }
            Action::Discard { port } => {
                assert!(matches!(self.hold, Hold::Keep(p) | Hold::Forward(p, _) if p == port));
                self.hold = Hold::Off;
            }
            Action::Forward { port, to } => {
                assert!(
                    matches!(self.hold, Hold::Off)
                        || matches!(self.hold, Hold::Keep(p) | Hold::Forward(p, _) if p == port)
                );
                self.hold = Hold::Forward(port, to);
            }
            Action::StartArrival { .. } => {
                assert!(!self.arrival);
                self.arrival = true;
            }
            Action::EndArrival => {
                assert!(self.arrival);
                self.arrival = false;
            }
            Action::StandIn(on) => self.stand_in = on,
            Action::Claim
            | Action::Withdraw
            | Action::Lock
            | Action::Complete { .. }
            | Action::Abort { .. }
            | Action::Announce { .. }
            | Action::Report => {}
        }
    }

    pub fn assert_agrees(&self, state: &State, claims: bool, exact: bool) {
        let (local, hold, arrival, claimed) = match *state {
            State::Away => (None, Hold::Off, false, Some(false)),
            State::Here { port } => (Some(port), Hold::Off, false, Some(true)),
            State::Leaving { port } => (Some(port), Hold::Keep(port), false, Some(true)),
            State::Paused { port, .. } => (Some(port), Hold::Keep(port), false, None),
            State::Forwarding { port, to } => {
                (Some(port), Hold::Forward(port, to), false, Some(matches!(to, RedirectTarget::Port(_))))
            }
            State::Arriving { port, .. } => (Some(port), Hold::Off, true, Some(true)),
            State::Expected { port, .. } => (Some(port), Hold::Keep(port), false, Some(true)),
        };
        assert_eq!((self.local, self.hold, self.arrival), (local, hold, arrival), "in {state:?}");
        assert!(claimed.is_none_or(|claimed| claimed == claims), "claim in {state:?}");
        match state {
            State::Leaving { .. } => assert_eq!(self.stand_in, !exact),
            State::Paused { .. } | State::Forwarding { .. } => {}
            _ => assert!(!self.stand_in),
        }
    }
}
