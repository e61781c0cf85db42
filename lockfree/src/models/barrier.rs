//! A frame that was in another lcore's queue when a moment was asked about has left it when that is over.

use super::explore;
use crate::barrier::{Barrier, Member, Ring};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use loom::{sync::Arc, thread};

/// One round of an lcore with one queue, whose frames go into the other's ring.
fn round(member: &mut Member, queue: &AtomicU64, ring: &AtomicU64) {
    if member.begin_round() {
        let n = queue.swap(0, Relaxed);
        ring.fetch_add(n, Relaxed);
        member.polled(0, n as usize);
        member.end_round(|_| Ring { taken: 0, len: 0 }, |_| Ring::default());
    }
}

#[test]
fn frames_of_before_the_request_have_left_the_queue() {
    explore(3, || {
        let barrier = Barrier::new(2);
        let (queue, ring) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut asker = Member::new(barrier.clone(), 0, vec![1], 0);
        let mut other = Member::new(barrier, 1, vec![1], 0);
        let thread = thread::spawn({
            let (queue, ring) = (Arc::clone(&queue), Arc::clone(&ring));
            move || {
                for _ in 0..3 {
                    round(&mut other, &queue, &ring);
                }
            }
        });
        queue.store(1, Relaxed);
        let ticket = asker.request();
        let nothing = AtomicU64::new(0);
        for _ in 0..2 {
            round(&mut asker, &nothing, &nothing);
            if asker.is_complete(ticket) {
                assert_eq!((queue.load(Relaxed), ring.load(Relaxed)), (0, 1));
            }
        }
        thread.join().unwrap();
    });
}
