//! What a TX port counts as held, and when an end marker waits at it.

use super::*;
use crate::migration::record::RedirectTarget;

#[test]
fn marker_waits_only_at_a_port_with_a_hold() {
    for mode in [HoldMode::Hold, HoldMode::Discard, HoldMode::Forward(RedirectTarget::Port(1))] {
        assert!(marker_waits(mode, true, true) && !marker_waits(mode, false, true));
    }
    assert!(!marker_waits(HoldMode::Off, true, true), "the hold would hold all frames, without a limit");
    assert!(marker_waits(HoldMode::Off, false, false), "in order behind earlier held frames");
}

#[test]
fn frames_waiting_for_a_device_count_as_held() {
    let (packets, mut held_count) = (PacketCounters::default(), HeldCount::default());
    add(&packets.received, 100);
    for (waits, sent) in [(100, 0), (64, 36), (64, 0), (25, 39)] {
        add(&packets.sent, sent);
        held_count.count(waits, &packets);
        assert_eq!((packets.read().held, packets.read().unaccounted()), (waits as u64, 0));
    }
    packets.drop(DropReason::HoldExpired, 25);
    held_count.count(0, &packets);
    assert_eq!((packets.read().held, packets.read().unaccounted()), (0, 0));
}
