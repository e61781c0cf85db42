//! One connection of a VMM, and the one to librte_vhost that belongs to it. Enters: messages of both. Leaves: the same at
//! the other side; of a connection that is passed on, what its successor needs.

use crate::{
    message::{Message, request},
    passing::{PassedConnection, Piece},
    record::{Answer, Hindrance, Record},
    wire::{Broken, Incoming, Outgoing, wait},
};
use rustix::{
    event::{PollFlags, epoll::EventFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, socket_with},
};
use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// Most messages in one direction before others get their turn.
const TURN: usize = 16;
/// A message or a reply that is under way when a connection is passed on is waited for so long.
const CALM: Duration = Duration::from_millis(20);
/// librte_vhost has so long to do what it is asked.
const ANSWER: Duration = Duration::from_secs(1);

/// Why a connection is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPassed {
    #[error("{0}")]
    Hindered(#[from] Hindrance),
    #[error("{0}")]
    Broken(#[from] Broken),
    /// Part of a message is under way.
    #[error("it sends just now")]
    Busy,
    #[error("another answer than that of its predecessor")]
    Differs,
}

/// What is under way in one direction.
#[derive(Debug, Default)]
struct Direction {
    incoming: Incoming,
    outgoing: Option<Outgoing<OwnedFd>>,
}

impl Direction {
    /// Passes on what there is. `passed` gets each message after it was sent.
    fn advance(
        &mut self,
        from: impl AsFd,
        to: impl AsFd,
        mut passed: impl FnMut(Message<OwnedFd>),
    ) -> Result<(), Broken> {
        for _ in 0..TURN {
            if let Some(mut outgoing) = self.outgoing.take() {
                if !outgoing.send(to.as_fd())? {
                    self.outgoing = Some(outgoing);
                    return Ok(());
                }
                passed(outgoing.into_message());
            }
            match self.incoming.next(from.as_fd())? {
                Some(message) => self.outgoing = Some(Outgoing::new(message)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    const fn is_calm(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_none()
    }
}

/// How connections to librte_vhost come about. The descriptors are needed as long as there may be one.
#[derive(Debug)]
pub enum BackEnd {
    /// It listens at this socket (`O_PATH`), which needs no path any more.
    Listens(OwnedFd),
    /// It connects to this one, which does not wait, and connects again when it has lost the connection.
    Connects(OwnedFd),
}

impl BackEnd {
    /// A new connection; `until`: how long to wait for it.
    fn connect(&self, until: Instant) -> Result<OwnedFd, Broken> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match self {
            Self::Listens(socket) => {
                let back = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                connect(&back, &SocketAddrUnix::new(format!("/proc/self/fd/{}", socket.as_raw_fd()))?)?;
                Ok(back)
            }
            Self::Connects(listener) if wait(listener, PollFlags::IN, until)? => {
                Ok(accept_with(listener, flags)?)
            }
            Self::Connects(_) => Err(Broken::Late),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    /// To the VMM.
    pub(crate) front: OwnedFd,
    /// To librte_vhost.
    pub(crate) back: OwnedFd,
    /// From the VMM.
    up: Direction,
    /// To the VMM.
    down: Direction,
    record: Record<OwnedFd>,
}

impl Connection {
    /// For a VMM that has connected.
    pub(crate) fn new(front: OwnedFd, back: &BackEnd, until: Instant) -> Result<Self, Broken> {
        let back = back.connect(until)?;
        Ok(Self {
            front,
            back,
            up: Direction::default(),
            down: Direction::default(),
            record: Record::default(),
        })
    }

    /// For a VMM that was connected to another process. Everything is set up when this returns.
    pub(crate) fn resume(passed: PassedConnection, back: &BackEnd) -> Result<Self, NotPassed> {
        let until = Instant::now() + ANSWER;
        let mut connection = Self::new(passed.front, back, until)?;
        for step in passed.steps {
            let mut outgoing = Outgoing::new(step.message);
            outgoing.send_by(&connection.back, until)?;
            let message = outgoing.into_message();
            let request = message.request;
            connection.record.sent(message);
            if step.answer == Answer::None {
                continue;
            }
            let reply = connection.down.incoming.next_by(&connection.back, until)?;
            if !step.answer.is_given_by(request, &reply) {
                return Err(NotPassed::Differs);
            }
            connection.record.replied(&reply);
        }
        Ok(connection)
    }

    /// Passes on what both sides have sent.
    pub(crate) fn advance(&mut self) -> Result<(), Broken> {
        let Self { front, back, up, down, record } = self;
        up.advance(&*front, &*back, |message| record.sent(message))?;
        down.advance(&*back, &*front, |message| record.replied(&message))
    }

    /// What to wait for, at the VMM and at librte_vhost.
    pub(crate) fn interest(&self) -> [EventFlags; 2] {
        let reads =
            |way: &Direction| if way.outgoing.is_none() { EventFlags::IN } else { EventFlags::empty() };
        let writes =
            |way: &Direction| if way.outgoing.is_some() { EventFlags::OUT } else { EventFlags::empty() };
        [reads(&self.up) | writes(&self.down), reads(&self.down) | writes(&self.up)]
    }

    /// Stops the rings, so that the connection can be passed on. What the VMM sends from now on waits in it.
    pub(crate) fn stop_all(&mut self) -> Result<(), NotPassed> {
        self.calm(Instant::now() + CALM)?;
        if let Some(hindrance) = self.record.hindrance() {
            return Err(hindrance.into());
        }
        let until = Instant::now() + ANSWER;
        for ring in self.record.running() {
            let base = self.stop(ring, until)?;
            self.record.stopped_at(ring, base);
        }
        Ok(())
    }

    /// What the successor needs, after that.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<&OwnedFd>> {
        let steps = self.record.steps().into_iter().map(Piece::Step);
        std::iter::once(Piece::Connection(&self.front)).chain(steps).chain([Piece::Complete])
    }

    /// Ends with whole messages, and with their replies.
    fn calm(&mut self, until: Instant) -> Result<(), NotPassed> {
        loop {
            self.advance()?;
            if self.up.is_calm() && self.down.is_calm() && !self.record.is_awaited() {
                return Ok(());
            }
            // Whichever side it is: the other is looked at, too.
            let soon = until.min(Instant::now() + Duration::from_millis(1));
            wait(&self.back, PollFlags::IN, soon).map_err(Broken::from)?;
            if Instant::now() >= until {
                let awaits = self.record.is_awaited();
                return Err(if awaits { Hindrance::Awaits.into() } else { NotPassed::Busy });
            }
        }
    }

    /// Stops a ring; returns where.
    fn stop(&mut self, ring: u8, until: Instant) -> Result<u32, NotPassed> {
        let state = [u32::from(ring), 0].map(u32::to_ne_bytes).concat();
        let message = Message::<OwnedFd>::new(request::GET_VRING_BASE, &state, Vec::new());
        Outgoing::new(message).send_by(&self.back, until)?;
        let reply = self.down.incoming.next_by(&self.back, until)?;
        match reply.ring_state() {
            Some((of, base)) if of == ring && reply.request == request::GET_VRING_BASE => Ok(base),
            _ => Err(NotPassed::Differs),
        }
    }
}
