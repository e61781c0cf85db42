//! The desired state of an appliance, sent to a board piece by piece, with different answers.

#[cfg(feature = "server")]
mod world;

use super::*;

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}
fn claim(n: u32, last: u8, ip: &str) -> Claim {
    Claim::declared(vni(n), Mac::new([2, 0, 0, 0, 0, last]), vec![ip.parse().unwrap()])
}

#[test]
fn withdrawals_precede_claims() {
    let now = Instant::now();
    let mut d = Desired::new([].into_iter());
    assert!(d.claim(claim(1, 1, "10.0.0.1"), now));
    assert!(!d.claim(claim(1, 2, "10.0.0.2"), now), "interest is there already");
    let Some(Work::Claim(batch)) = d.next_work(now, true) else { panic!() };
    assert_eq!(batch.len(), 2);
    for (c, v) in &batch {
        assert!(matches!(
            d.handle_result(c, *v, ClaimResult::Accepted(1, None), now),
            Some(ClaimEvent::Accepted { .. })
        ));
    }
    assert_eq!(d.next_work(now, true), Some(Work::Sync));
    d.mark_sent(&Work::Sync);
    assert_eq!(d.next_work(now, true), None);

    let last = d.last_claim();
    assert!(d.answered_claim() < last, "not before the answers have been taken");
    d.mark_answered();
    assert!(d.answered_claim() >= last);

    d.claim(claim(1, 2, "10.0.0.1"), now);
    assert!(d.answered_claim() < d.last_claim());
    d.withdraw(vni(1), Mac::new([2, 0, 0, 0, 0, 1]));
    let first = d.next_work(now, true).unwrap();
    assert_eq!(first, Work::Withdraw(vec![(vni(1), Mac::new([2, 0, 0, 0, 0, 1]))]));
    d.mark_sent(&first);
    assert!(matches!(d.next_work(now, true), Some(Work::Claim(b)) if b.len() == 1));
}

#[test]
fn a_wait_for_answers_ignores_later_and_withdrawn_claims() {
    let now = Instant::now();
    let mut d = Desired::new([].into_iter());
    d.claim(claim(1, 1, "10.0.0.1"), now);
    let first = d.last_claim();
    // Before each answer there is one more claim.
    for n in 2..50 {
        let Some(Work::Claim(_)) = d.next_work(now, false) else { panic!() };
        d.claim(claim(1, n, "10.0.0.2"), now);
        d.mark_answered();
        assert!(d.answered_claim() >= first && d.answered_claim() < d.last_claim());
    }
    // What is withdrawn before it was sent needs no answer.
    let last = d.last_claim();
    d.withdraw(vni(1), Mac::new([2, 0, 0, 0, 0, 49]));
    let Some(withdrawn) = d.next_work(now, false) else { panic!() };
    d.mark_sent(&withdrawn);
    assert_eq!(d.next_work(now, false), None);
    assert!(d.answered_claim() >= last);
    // After a new registration all of them are sent again.
    d.handle_registered();
    assert!(d.answered_claim() < d.last_claim());
}

#[test]
fn an_answer_to_an_older_version_is_ignored() {
    let now = Instant::now();
    let mut d = Desired::new([].into_iter());
    d.claim(claim(1, 1, "10.0.0.1"), now);
    let Some(Work::Claim(old)) = d.next_work(now, false) else { panic!() };
    d.claim(claim(1, 1, "10.0.0.9"), now);
    assert_eq!(d.handle_result(&old[0].0, old[0].1, ClaimResult::Accepted(1, None), now), None);
    let Some(Work::Claim(new)) = d.next_work(now, false) else { panic!() };
    assert_eq!(new[0].0.ips, claim(1, 1, "10.0.0.9").ips);
}

#[test]
fn a_refusal_is_reported_once_and_retried() {
    let now = Instant::now();
    let later = now + Duration::from_secs(3);
    let mut d = Desired::new([].into_iter());
    d.claim(claim(1, 1, "10.0.0.1"), now);
    let Some(Work::Claim(b)) = d.next_work(now, false) else { panic!() };
    assert!(matches!(
        d.handle_result(&b[0].0, b[0].1, ClaimResult::Refused("held".into()), later),
        Some(ClaimEvent::Refused { why, .. }) if why == "held"
    ));
    assert_eq!(d.next_work(now, false), None, "not before its time");
    let Some(Work::Claim(b)) = d.next_work(later, false) else { panic!() };
    assert_eq!(
        d.handle_result(&b[0].0, b[0].1, ClaimResult::Refused("held".into()), later),
        None,
        "reported already"
    );
    let Some(Work::Claim(b)) = d.next_work(later, false) else { panic!() };
    assert!(matches!(
        d.handle_result(&b[0].0, b[0].1, ClaimResult::Accepted(1, None), later),
        Some(ClaimEvent::Accepted { .. })
    ));
}

#[test]
fn a_migrated_node_is_claimed_again_only_after_a_delay() {
    let now = Instant::now();
    let later = now + Duration::from_secs(3);
    let (one, key) = (claim(1, 1, "10.0.0.1"), Mac::new([2, 0, 0, 0, 0, 1]));
    let accepted = |d: &mut Desired| {
        let Some(Work::Claim(b)) = d.next_work(now, false) else { panic!() };
        d.handle_result(&b[0].0, b[0].1, ClaimResult::Accepted(1, None), later);
    };
    let mut d = Desired::new([].into_iter());
    d.claim(one.clone(), now);
    accepted(&mut d);
    assert!(d.handle_elsewhere(vni(1), key, 2, later), "without a migration it is claimed at once");
    accepted(&mut d);
    d.handle_locked(vni(1), key);
    assert!(!d.handle_elsewhere(vni(1), key, 2, later) && !d.handle_unlocked(vni(1), key));
    assert_eq!(d.next_work(now, false), None);
    assert!(matches!(d.next_work(later, false), Some(Work::Claim(_))), "still here, then");

    // Withdrawn, and claimed again after the VM has returned: nothing of the old claim is left.
    d.withdraw(vni(1), key);
    let Some(work @ Work::Withdraw(_)) = d.next_work(now, false) else { panic!() };
    d.mark_sent(&work);
    assert!(!d.handle_removed(vni(1), key), "it is not claimed here");
    d.claim(one, now);
    accepted(&mut d);
    d.handle_locked(vni(1), key);
    assert!(!d.handle_elsewhere(vni(1), key, 2, later));
    assert!(d.handle_removed(vni(1), key), "no host has it");
    accepted(&mut d);
}

#[test]
fn an_answer_from_before_the_release_is_ignored() {
    let now = Instant::now();
    let later = now + Duration::from_secs(3);
    let key = Mac::new([2, 0, 0, 0, 0, 1]);
    for free in [Desired::handle_removed, Desired::handle_unlocked] {
        let mut d = Desired::new([].into_iter());
        d.claim(claim(1, 1, "10.0.0.1"), now);
        let Some(Work::Claim(old)) = d.next_work(now, false) else { panic!() };
        assert!(free(&mut d, vni(1), key), "while the answer is under way");
        assert_eq!(d.handle_result(&old[0].0, old[0].1, ClaimResult::Deferred(7), later), None);
        let Some(Work::Claim(new)) = d.next_work(now, false) else { panic!() };
        assert!(d.handle_result(&new[0].0, new[0].1, ClaimResult::Refused("held".into()), later).is_some());
        assert!(free(&mut d, vni(1), key), "and after it");
        assert!(matches!(d.next_work(now, false), Some(Work::Claim(_))), "without waiting");
    }
}

/// A learned station, received just now with an address.
fn learned(ip: &str) -> Claim {
    Claim::learned(vni(1), Mac::new([2, 0, 0, 0, 0, 1]), vec![ip.parse().unwrap()])
}

fn next_claim(d: &mut Desired, now: Instant) -> (Claim, u64) {
    let Some(Work::Claim(mut batch)) = d.next_work(now, false) else { panic!() };
    batch.remove(0)
}

#[test]
fn an_old_frame_takes_nothing_over() {
    let now = Instant::now();
    let mut d = Desired::new([].into_iter());
    d.claim(learned("10.0.0.1"), now);
    let (claim, version) = next_claim(&mut d, now);
    assert!(claim.received && claim.announced == claim.ips);
    assert!(d.handle_result(&claim, version, ClaimResult::Accepted(5, None), now).is_some());
    d.requeue_claims();
    assert_eq!(next_claim(&mut d, now).0, learned("10.0.0.1").stale(), "sent again, it is not new");
    d.claim(learned("10.0.0.2"), now);
    assert_eq!(next_claim(&mut d, now + FRESH).0, learned("10.0.0.2").stale(), "the board was away");
    // Another frame is received before the first claim is sent.
    d.claim(learned("10.0.0.1"), now);
    let mut more = learned("10.0.0.1").stale();
    more.ips.push("10.0.0.9".parse().unwrap());
    more.announced = vec!["10.0.0.9".parse().unwrap()];
    d.claim(more.clone(), now);
    let sent = next_claim(&mut d, now).0;
    assert!(sent.received && sent.announced.len() == 2, "{sent:?}");
}

#[test]
fn a_learned_node_moves_to_the_host_that_received_it_later() {
    let now = Instant::now();
    let (net, mac) = (vni(1), Mac::new([2, 0, 0, 0, 0, 1]));
    let moved = ClaimEvent::NodeMoved { vni: net, mac };
    let mut d = Desired::new([].into_iter());
    d.claim(learned("10.0.0.1"), now);
    let (claim, version) = next_claim(&mut d, now);
    d.handle_result(&claim, version, ClaimResult::Accepted(5, None), now);
    assert!(!d.handle_elsewhere(net, mac, 5, now) && d.events.is_empty(), "our claim was later");
    assert!(!d.handle_elsewhere(net, mac, 6, now));
    assert_eq!(d.events.pop_front(), Some(moved.clone()));
    assert_eq!(d.next_work(now + FRESH * 9, false), None, "it is not claimed back");
    // It is received here again, and there too while the answer is under way.
    for (accepted_at, theirs_at, ours) in [(9, 8, true), (9, 10, false)] {
        d.claim(learned("10.0.0.1"), now);
        let (claim, version) = next_claim(&mut d, now);
        assert!(!d.handle_elsewhere(net, mac, theirs_at, now) && d.events.is_empty());
        d.handle_result(&claim, version, ClaimResult::Accepted(accepted_at, None), now);
        d.apply_taken(net, mac);
        assert_eq!(d.events.pop_front(), (!ours).then_some(moved.clone()));
    }
}

#[test]
fn a_learned_address_moves_and_a_declared_one_is_claimed_again() {
    let now = Instant::now();
    let (net, mac) = (vni(1), Mac::new([2, 0, 0, 0, 0, 1]));
    let ip: IpAddr = "10.0.0.1".parse().unwrap();
    let mut d = Desired::new([].into_iter());
    d.claim(learned("10.0.0.1"), now);
    let (claim, version) = next_claim(&mut d, now);
    d.handle_result(&claim, version, ClaimResult::Accepted(5, None), now);
    assert!(!d.handle_lost(net, mac, &[ip], 5) && d.events.is_empty());
    assert!(!d.handle_lost(net, mac, &[ip], 6));
    assert_eq!(d.events.pop_front(), Some(ClaimEvent::AddressesMoved { vni: net, mac, ips: vec![ip] }));
    d.requeue_claims();
    assert!(next_claim(&mut d, now).0.ips.is_empty());
    // A declared address is always claimed again.
    d.claim(claim_of(&[ip]), now);
    let (claim, version) = next_claim(&mut d, now);
    d.handle_result(&claim, version, ClaimResult::Accepted(7, None), now);
    assert!(d.handle_lost(net, mac, &[ip], 8));
    assert_eq!(next_claim(&mut d, now).0.ips, [ip]);
}

fn claim_of(ips: &[IpAddr]) -> Claim {
    Claim::declared(vni(1), Mac::new([2, 0, 0, 0, 0, 1]), ips.to_vec())
}

#[test]
fn a_postponed_claim_is_repeated_and_still_fresh() {
    let now = Instant::now();
    let ms = Duration::from_millis;
    let mut d = Desired::new([].into_iter());
    d.claim(learned("10.0.0.1"), now);
    let (claim, version) = next_claim(&mut d, now);
    assert_eq!(d.handle_result(&claim, version, ClaimResult::Later(now + ms(500)), now + ms(3000)), None);
    assert_eq!(d.retry_delay(now, ms(750)), Some(ms(500)));
    assert_eq!(d.next_work(now + ms(499), false), None);
    let (again, version) = next_claim(&mut d, now + ms(500));
    assert!(again.received);
    assert!(d.handle_result(&again, version, ClaimResult::Accepted(5, None), now).is_some());
    // A claim that is accepted without an address of a declared node is repeated; of a learned one it is not.
    let held = || Accepted { ips: vec![], refused: vec!["held".into()] };
    d.claim(learned("10.0.0.2"), now);
    let (claim, version) = next_claim(&mut d, now);
    d.handle_result(&claim, version, ClaimResult::Accepted(6, Some(held())), now + ms(3000));
    assert_eq!(d.next_work(now + ms(3000), false), None);
    d.claim(claim_of(&["10.0.0.3".parse().unwrap()]), now);
    let (claim, version) = next_claim(&mut d, now);
    d.handle_result(&claim, version, ClaimResult::Accepted(7, Some(held())), now + ms(3000));
    assert_eq!(next_claim(&mut d, now + ms(3000)).0.ips.len(), 1);
}

#[test]
fn a_postponed_claim_ages_and_loses_to_a_later_one() {
    let start = Instant::now();
    let ms = Duration::from_millis;
    let mut d = Desired::new([].into_iter());
    d.claim(learned("10.0.0.1"), start);
    // Postponed again and again: after two seconds the frame is no longer new.
    let mut fresh = vec![];
    for n in 0..6 {
        let now = start + ms(500 * n);
        let (claim, version) = next_claim(&mut d, now);
        fresh.push(claim.received);
        assert_eq!(d.handle_result(&claim, version, ClaimResult::Later(now + ms(500)), now + ms(3000)), None);
    }
    assert_eq!(fresh, [true, true, true, true, false, false]);
    // Another host has got the node meanwhile: it received it later.
    let now = start + ms(10_000);
    d.claim(learned("10.0.0.1"), now);
    let (claim, version) = next_claim(&mut d, now);
    assert!(claim.received);
    d.handle_result(&claim, version, ClaimResult::Later(now + ms(500)), now + ms(3000));
    let Claim { vni, mac, .. } = claim;
    assert!(!d.handle_elsewhere(vni, mac, 9, now + ms(100)));
    assert!(!next_claim(&mut d, now + ms(500)).0.received);
}

#[test]
fn a_registration_sends_everything_again() {
    let now = Instant::now();
    let mut d = Desired::new([vni(9)].into_iter());
    assert!(d.join(vni(1), true));
    assert!(!d.claim(claim(1, 1, "10.0.0.1"), now));
    assert!(!d.leave(vni(1)), "the claim still needs it");
    assert!(d.withdraw(vni(1), Mac::new([2, 0, 0, 0, 0, 1])));
    assert_eq!(d.interest(), [vni(9)].into());
    d.join(vni(2), false);
    d.handle_registered();
    // What was withdrawn without a connection is sent first: the board may have kept it.
    for work in [Work::Withdraw(vec![(vni(1), Mac::new([2, 0, 0, 0, 0, 1]))]), Work::Leave(vec![vni(1)])] {
        assert_eq!(d.next_work(now, true).as_ref(), Some(&work));
        d.mark_sent(&work);
    }
    assert_eq!(d.next_work(now, true), Some(Work::Join(vec![(vni(2), false)])));
    d.mark_sent(&Work::Join(vec![(vni(2), false)]));
    assert_eq!(d.next_work(now, true), Some(Work::Sync));
}
