//! All waiting times of a handshake in one place.

use std::time::Duration;

/// Waiting times. [`Timing::default`] has those of the product; tests may have others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After the first datagrams of an initiation, before they are repeated. The wait doubles each time.
    pub retry_first: Duration,
    /// The longest wait before a repetition.
    pub retry_most: Duration,
    /// How long an initiation is repeated. Then a fresh one follows.
    pub attempt_life: Duration,
    /// How long initiations follow each other without a frame to be sent.
    pub wanted_life: Duration,
    /// How long a responder keeps a session that its initiator does not confirm.
    pub unconfirmed_life: Duration,
    /// How long an initiator repeats a confirmation. Then a fresh handshake follows.
    pub confirm_life: Duration,
    /// Between initiations of a peer that are answered.
    pub initiation_gap: Duration,
    /// Age at which a session in use is replaced, by the host with the lower public key.
    pub rekey_after: Duration,
    /// Up to so much earlier, by chance: so peers of one start do not rekey all at once.
    pub rekey_jitter: Duration,
    /// How much later the other host replaces it, if the first has not.
    pub follow_after: Duration,
    /// Age at which a session ends.
    pub reject_after: Duration,
    /// How long old inbound SAs stay after frames came under the new ones: longer than any queue on the way.
    pub grace: Duration,
    /// How long frames are sent without any from the peer, before it is probed.
    pub probe_after: Duration,
    /// Between probes. After the third without answer the peer is down.
    pub probe_every: Duration,
    /// Between handshakes that reports of unknown SPIs start.
    pub hint_gap: Duration,
}

impl Timing {
    /// How long inbound SAs stay at most: the peer may count the age of the session from up to an initiation's life
    /// later.
    pub(super) fn inbound_life(&self) -> Duration {
        self.reject_after + 2 * self.attempt_life + self.grace
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_millis(3200),
            attempt_life: Duration::from_secs(10),
            wanted_life: Duration::from_secs(90),
            unconfirmed_life: Duration::from_secs(20),
            confirm_life: Duration::from_secs(10),
            initiation_gap: Duration::from_millis(20),
            rekey_after: Duration::from_secs(120),
            rekey_jitter: Duration::from_secs(20),
            follow_after: Duration::from_secs(15),
            reject_after: Duration::from_secs(180),
            grace: Duration::from_secs(5),
            probe_after: Duration::from_secs(10),
            probe_every: Duration::from_secs(1),
            hint_gap: Duration::from_secs(1),
        }
    }
}
