//! What a guest has taken of what its rings were given. A guest with several rings empties them one after another, so a
//! frame in one can overtake an earlier one in another. Enters: a queue, a place in its ring. Leaves: whether the guest
//! is past that place; whether rings that have come may be given frames.
//!
//! A driver that has no more to do asks for a notification of the first entry that it has not seen (virtio 1.2 section
//! 2.7.7.1; Linux: `virtqueue_enable_cb_prepare`). While it works it may ask for an earlier one, or for entry 0; but it
//! offers new buffers for those that it has taken. So a guest that is slow can be told from one that does not run.

use std::ffi::c_int;
use std::sync::atomic::Ordering::Relaxed;

use super::{Direction, NO_RING, Own, Place, Rings};
use crate::cycles;
use crate::sys;

/// A guest that has frames in rings that have come or changed gets no others until it has taken those, or has taken
/// none for so long.
const SETTLE_MS: u64 = 1500;

/// Where a ring is; each number but `size` is modulo 2^16.
#[derive(Debug, Clone, Copy)]
struct Positions {
    /// Entries that it has been given.
    given: u16,
    /// The entry for which the guest wants a notification.
    wanted: u16,
    /// Buffers that the guest has offered.
    offered: u16,
    /// Most buffers that it can have offered and not yet taken: at most 2^15.
    size: u16,
}

impl Positions {
    /// Whether the guest has taken what was given before `place`. A driver that waits for entry `wanted` has seen all
    /// before it. One that always finds more never waits; but a buffer that it offers again was taken before.
    const fn is_past(self, place: u16) -> bool {
        let since = self.given.wrapping_sub(place);
        let offered_again = self.offered.wrapping_sub(self.size);
        self.given.wrapping_sub(self.wanted) <= since || self.given.wrapping_sub(offered_again) <= since
    }

    /// Whether the guest has taken all.
    const fn is_empty(self) -> bool {
        self.is_past(self.given)
    }

    /// Another number whenever the guest has visibly taken something.
    const fn progress(self) -> u32 {
        (self.wanted as u32) << 16 | self.offered as u32
    }
}

impl Rings {
    /// Whether a frame in another ring cannot overtake what the queue gave before this place, or all that it gave: the
    /// guest uses one ring, or has taken that. `None` if it does not report what it has taken.
    #[cold]
    pub(crate) fn has_taken(&self, own: &Own, place: Option<u16>) -> Option<bool> {
        let Some((at, ring)) = self.ring_among_several(own) else { return Some(true) };
        self.within(at, |device| {
            let positions = self.positions(device, ring)?;
            Some(positions.is_past(place.unwrap_or(positions.given)))
        })
        .unwrap_or(Some(true))
    }

    /// How many entries the ring of a queue has been given so far, modulo 2^16.
    #[cold]
    pub(crate) fn given(&self, own: &Own) -> u16 {
        self.positions_of(own).map_or(0, |positions| positions.given)
    }

    /// Another number whenever the guest has visibly taken something from the ring of a queue.
    #[cold]
    pub(crate) fn progress(&self, own: &Own) -> u32 {
        self.positions_of(own).map_or(0, Positions::progress)
    }

    fn positions_of(&self, own: &Own) -> Option<Positions> {
        let (at, ring) = self.ring_among_several(own)?;
        self.within(at, |device| self.positions(device, ring)).flatten()
    }

    /// The ring of a queue, if the guest uses others, too.
    fn ring_among_several(&self, own: &Own) -> Option<(&Place, u16)> {
        let ring = self.ring_of.get(usize::from(own.queue))?.load(Relaxed);
        let at = self.places.get(usize::from(Direction::ToGuest.ring(own.queue)))?;
        (ring != NO_RING && self.used_rings.load(Relaxed) > 1).then_some((at, ring))
    }

    /// Where a ring is, if the guest reports that. The caller is within the device, or called by librte_vhost for it.
    fn positions(&self, device: c_int, ring: u16) -> Option<Positions> {
        if !self.has(sys::SHIM_VIRTIO_F_EVENT_IDX) || self.has(sys::SHIM_VIRTIO_F_RING_PACKED) {
            return None;
        }
        let mut state = sys::shim_ring_state { given: 0, wanted: 0, offered: 0, size: 0 };
        // SAFETY: the device and the guest's memory exist; the numbers are ours.
        let known = unsafe { sys::shim_vhost_ring_state(device, ring, &mut state) } == 0;
        let sys::shim_ring_state { given, wanted, offered, size } = state;
        known.then_some(Positions { given, wanted, offered, size })
    }

    fn is_empty(&self, device: c_int, ring: u16) -> bool {
        self.positions(device, ring).is_none_or(Positions::is_empty)
    }

    /// These rings of a guest have come or changed: nothing is given to it before it has taken what is in them.
    pub(super) fn begin_to_settle(&self, device: c_int, enabled: &[u16]) {
        let settles = enabled.len() > 1 && enabled.iter().any(|ring| !self.is_empty(device, *ring));
        let until = if settles { cycles::tsc() + cycles::tsc_hz() / 1000 * SETTLE_MS } else { 0 };
        self.settles_until.store(until, Relaxed);
    }

    /// Whether the guest gets no frames because it has still to take those.
    #[cold]
    pub(crate) fn settles(&self) -> bool {
        cycles::tsc() < self.settles_until.load(Relaxed)
    }

    /// Whether the guest has taken that. One that takes nothing is not waited for without end.
    #[cold]
    pub(super) fn has_settled(&self, device: c_int) -> bool {
        let until = self.settles_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let (mut settled, mut progress) = (true, 0_u32);
        for (ring, place) in (0..).zip(&self.places).step_by(2) {
            if place.enabled_by.load(Relaxed) != device {
                continue;
            }
            let Some(positions) = self.positions(device, ring) else { continue };
            progress = progress.rotate_left(5) ^ positions.progress();
            if !positions.is_empty() {
                settled = false;
                // The guest may have missed the notification: one that moves from host to host does.
                // SAFETY: within the device; not from a callback, which may hold the lock that this takes.
                unsafe { sys::rte_vhost_vring_call(device, ring) };
            }
        }
        if !settled && self.settle_progress.swap(progress, Relaxed) != progress {
            let later = cycles::tsc() + cycles::tsc_hz() / 1000 * SETTLE_MS;
            // Another lcore may have found it settled meanwhile.
            let _ = self.settles_until.compare_exchange(until, later, Relaxed, Relaxed);
            return false;
        }
        if !settled && cycles::tsc() < until {
            return false;
        }
        self.settles_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Positions;

    const SIZE: u16 = 8;

    #[test]
    fn a_driver_is_past_what_is_before_the_entry_it_waits_for() {
        for base in [0_u16, 100, u16::MAX - 5] {
            let n = |n: u16| base.wrapping_add(n);
            let is_past = |place: u16, wanted: u16| {
                Positions { given: n(10), wanted: n(wanted), offered: n(11), size: SIZE }.is_past(n(place))
            };
            assert!(is_past(10, 10) && is_past(7, 10) && is_past(7, 7));
            assert!(!is_past(10, 9) && !is_past(7, 6) && !is_past(4, 0));
        }
        let busy = Positions { given: 40_100, wanted: 0, offered: 40_104, size: SIZE };
        assert!(!busy.is_past(40_098), "it works, and asks for no entry");
    }

    #[test]
    fn a_driver_that_never_waits_is_past_what_it_has_offered_again() {
        for base in [0_u16, 100, u16::MAX - 5] {
            let n = |n: u16| base.wrapping_add(n);
            // Of 18 offered, at most 8 are not taken: at least 10 are.
            let busy =
                Positions { given: n(14), wanted: n(14).wrapping_sub(30_000), offered: n(18), size: SIZE };
            assert!(busy.is_past(n(10)) && busy.is_past(n(3)));
            assert!(!busy.is_past(n(11)) && !busy.is_empty());
            assert!(Positions { offered: n(22), ..busy }.is_empty(), "all were offered again");
        }
    }
}
