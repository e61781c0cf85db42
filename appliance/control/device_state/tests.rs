//! What becomes of a device, event by event, and of any order of events.

use super::*;
use proptest::prelude::*;

/// Has the lcores give its queues back.
fn leave(device: &mut Device, now_ms: u64) {
    assert_eq!(device.job(now_ms), Some(Job::Leave));
    device.begin_leaving();
    assert_eq!(device.job(now_ms), None, "the lcores are at work");
    device.left(now_ms);
}

#[test]
fn a_reset_is_made_when_no_lcore_has_a_queue() {
    let mut device = Device::default();
    assert!(device.job(5).is_none() && device.is_with_lcores());
    assert!(device.on_event(5, Event::Reset));
    assert_eq!(device.condition(), Condition::Out(Cause::Reset));
    leave(&mut device, 6);
    assert_eq!(device.job(6), Some(Job::Reset));
    device.started();
    assert_eq!(device.job(6), None, "the lcores are at work");
    assert!(device.returned(7) && device.is_with_lcores());
    assert_eq!((device.condition(), device.next_timeout()), (Condition::InService, None));
}

#[test]
fn one_reset_is_for_all_requests_before_it() {
    let mut device = Device::default();
    assert!(device.on_event(5, Event::Reset));
    assert!(!device.on_event(5, Event::Reset), "before the lcores know");
    device.begin_leaving();
    assert!(!device.on_event(5, Event::Reset), "while they leave");
    device.left(6);
    assert!(!device.on_event(6, Event::Reset), "before the reset");
    assert_eq!(device.job(6), Some(Job::Reset));
    device.started();
    assert!(device.on_event(7, Event::Reset), "after it another is needed");
    assert!(!device.returned(8));
    leave(&mut device, 8);
    assert_eq!((device.job(8), device.next_timeout()), (None, Some(8 + FIRST_MS)), "not at once");
    assert_eq!(device.job(8 + FIRST_MS), Some(Job::Reset));
}

#[test]
fn a_removed_device_is_closed_and_looked_for() {
    let mut device = Device::default();
    device.on_event(5, Event::Removed);
    leave(&mut device, 5);
    assert_eq!(device.job(5), Some(Job::Close));
    device.closed(5);
    assert_eq!(device.job(5), Some(Job::Open));
    device.failed(5);
    assert_eq!((device.job(5), device.next_timeout()), (None, Some(5 + FIRST_MS)));
    device.on_event(6, Event::Reset);
    assert_eq!((device.job(6), device.condition()), (None, Condition::Out(Cause::Removed)));
    device.on_event(7, Event::Present);
    assert_eq!(device.job(7), Some(Job::Open));
    device.started();
    assert!(device.returned(8));
}

#[test]
fn a_removal_outweighs_a_reset_at_any_time() {
    let removed = |device: &mut Device| assert!(device.on_event(9, Event::Removed));
    let mut leaving = Device::default();
    leaving.on_event(5, Event::Reset);
    leaving.begin_leaving();
    removed(&mut leaving);
    leaving.left(9);
    let mut out = Device::default();
    out.on_event(5, Event::Reset);
    leave(&mut out, 5);
    out.failed(5);
    removed(&mut out);
    let mut returning = Device::default();
    returning.on_event(5, Event::Reset);
    leave(&mut returning, 5);
    returning.started();
    removed(&mut returning);
    assert!(!returning.returned(9));
    leave(&mut returning, 9);
    for device in [leaving, out] {
        assert_eq!(device.job(9), Some(Job::Close));
    }
    assert_eq!(returning.job(9 + FIRST_MS), Some(Job::Close));
}

#[test]
fn resets_that_fail_end_in_another_opening() {
    let mut device = Device::default();
    device.on_event(0, Event::Reset);
    leave(&mut device, 0);
    let mut now_ms = 0;
    for tries in 1..=RESETS {
        assert_eq!(device.job(now_ms), Some(Job::Reset));
        device.failed(now_ms);
        let wait_ms = if tries < RESETS { delay_ms(tries) } else { 0 };
        assert_eq!(device.next_timeout(), Some(now_ms + wait_ms));
        now_ms += wait_ms;
    }
    assert_eq!((device.job(now_ms), device.condition()), (Some(Job::Close), Condition::Out(Cause::Failed)));
}

#[test]
fn a_driver_that_repairs_is_not_disturbed() {
    let mut device = Device::default();
    assert!(device.on_event(1, Event::Recovering));
    assert!(!device.on_event(2, Event::Recovering), "a larger error, says DPDK");
    assert_eq!((device.condition(), device.job(2)), (Condition::Recovering, None));
    assert!(device.is_with_lcores(), "its queues are dummies of the driver");
    device.on_event(3, Event::Recovered);
    assert_eq!(device.condition(), Condition::InService);

    device.on_event(4, Event::Recovering);
    device.on_event(4, Event::Reset);
    leave(&mut device, 4);
    assert_eq!((device.job(u64::MAX), device.next_timeout()), (None, None), "no control function");
    device.on_event(5, Event::Recovered);
    assert_eq!(device.job(5), Some(Job::Reset));

    let mut device = Device::default();
    device.on_event(1, Event::Recovering);
    assert!(device.on_event(2, Event::Failed));
    leave(&mut device, 2);
    assert_eq!(device.job(2), Some(Job::Close));
}

#[test]
fn delays_grow_and_end() {
    let delays: Vec<u64> = [0, 1, 2, 3, 7, 8, 100].map(delay_ms).into();
    assert_eq!(delays, [0, 250, 500, 1000, 16_000, 30_000, 30_000]);
}

/// A device that was sound for a while has its next reset at once; one that was not, later and later.
#[test]
fn a_device_that_is_never_sound_is_reset_less_and_less_often() {
    let reset = |device: &mut Device, now_ms: u64| {
        device.on_event(now_ms, Event::Reset);
        leave(device, now_ms);
        let due_ms = device.next_timeout().unwrap();
        assert_eq!(device.job(due_ms), Some(Job::Reset));
        device.started();
        assert!(device.returned(due_ms));
        due_ms
    };
    let mut device = Device::default();
    let (mut now_ms, mut waits) = (100_000, Vec::new());
    for _ in 0..9 {
        let due_ms = reset(&mut device, now_ms);
        waits.push(due_ms - now_ms);
        now_ms = due_ms + 1;
    }
    assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
    now_ms += SOUND_MS;
    assert_eq!(reset(&mut device, now_ms), now_ms);
}

/// A device, its lcores and its driver, as they are.
#[derive(Default)]
struct World {
    device: Device,
    now_ms: u64,
    /// The lcores have been asked for the queues, or are given them.
    lcores_busy: bool,
    lcores_have_queues: bool,
    is_open: bool,
    needs_reset: bool,
    /// One that can be opened.
    is_there: bool,
    /// The one that is open was removed.
    is_dead: bool,
    driver_repairs: bool,
    tried_ms: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Event(Event),
    /// Time passes, and what is due is done; `true`: with success where that is possible.
    Work(u16, bool),
    /// The lcores have done what they were asked.
    Lcores,
}

impl World {
    fn new() -> Self {
        Self { lcores_have_queues: true, is_open: true, is_there: true, ..Self::default() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Event(event) => self.event(event),
            Step::Work(ms, succeeds) => {
                self.now_ms += u64::from(ms);
                self.work(succeeds);
            }
            Step::Lcores => self.lcores(),
        }
    }

    /// Only what a driver can report in its state.
    fn event(&mut self, event: Event) {
        match event {
            Event::Reset | Event::Recovering | Event::Removed if !self.is_open => return,
            Event::Reset | Event::Recovering if self.is_dead => return,
            Event::Recovered | Event::Failed if !self.driver_repairs => return,
            Event::Reset => self.needs_reset = true,
            Event::Removed => (self.is_there, self.is_dead) = (false, true),
            Event::Recovering => self.driver_repairs = true,
            Event::Recovered | Event::Failed => self.driver_repairs = false,
            Event::Present => self.is_there = true,
        }
        self.device.on_event(self.now_ms, event);
    }

    fn lcores(&mut self) {
        if !std::mem::take(&mut self.lcores_busy) {
            return;
        }
        self.lcores_have_queues = !self.lcores_have_queues;
        if self.lcores_have_queues {
            self.device.returned(self.now_ms);
        } else {
            self.device.left(self.now_ms);
        }
    }

    fn work(&mut self, succeeds: bool) {
        while let Some(job) = self.device.job(self.now_ms) {
            assert!(!self.lcores_busy, "{job:?} while the lcores are at work");
            if job == Job::Leave {
                assert!(self.lcores_have_queues);
                self.device.begin_leaving();
                self.lcores_busy = true;
                continue;
            }
            assert!(!self.lcores_have_queues, "{job:?} while lcores poll");
            assert!(!self.driver_repairs || self.is_dead, "{job:?} while the driver repairs");
            assert_eq!(job == Job::Open, !self.is_open, "{job:?}");
            if job != Job::Close {
                self.tried_ms.push(self.now_ms);
            }
            if !succeeds || !self.is_there && job != Job::Close {
                self.device.failed(self.now_ms);
                continue;
            }
            if job == Job::Close {
                (self.is_open, self.is_dead, self.driver_repairs) = (false, false, false);
                self.device.closed(self.now_ms);
                continue;
            }
            (self.is_open, self.needs_reset) = (true, false);
            self.device.started();
            self.lcores_busy = true;
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        Just(Event::Reset),
        Just(Event::Removed),
        Just(Event::Recovering),
        Just(Event::Recovered),
        Just(Event::Failed),
        Just(Event::Present),
    ];
    prop_oneof![
        event.prop_map(Step::Event),
        (0_u16..2000, any::<bool>()).prop_map(|(ms, succeeds)| Step::Work(ms, succeeds)),
        Just(Step::Lcores),
    ]
}

proptest! {
    /// In any order of events: no job but with every lcore's queues back, none that the driver forbids, none for a closed
    /// device that is not closed; and when the events end, the device is in service again, with every reset made.
    #[test]
    fn any_events(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(*step));
        for event in [Event::Present, Event::Recovered] {
            world.event(event);
        }
        for _ in 0..20 {
            world.lcores();
            world.now_ms = world.now_ms.max(world.device.next_timeout().unwrap_or(0));
            world.work(true);
        }
        prop_assert_eq!(world.device.condition(), Condition::InService, "{:?}", &world.device);
        prop_assert!(world.lcores_have_queues && world.is_open && !world.needs_reset);
        prop_assert_eq!(world.device.next_timeout(), None);
    }

    /// However often a device needs help, tries are not more frequent than the delays allow.
    #[test]
    fn tries_are_rare(events in prop::collection::vec((0_u16..300, any::<bool>(), any::<bool>()), 1..200)) {
        let mut world = World::new();
        for (ms, removed, succeeds) in events {
            world.event(if removed { Event::Removed } else { Event::Reset });
            world.is_there = true;
            world.step(Step::Work(ms, succeeds));
            world.lcores();
            world.step(Step::Work(0, succeeds));
            world.lcores();
        }
        let within = |from: &u64| world.tried_ms.iter().filter(|at| (*from..*from + 1000).contains(at)).count();
        prop_assert!(world.tried_ms.iter().map(within).max().unwrap_or(0) <= 5, "{:?}", world.tried_ms);
    }
}
