//! The handshake's machine between two hosts over a network that loses, delays, doubles and reorders, with hosts that
//! start at once and restart at any time. After each step the rules of `world` hold; when the network is sound again,
//! so do these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod cases;
mod host;
mod world;

use proptest::prelude::*;
use std::time::Duration;
use stopover_tunnel::cipher::Algorithm;
use stopover_tunnel::handshake::{Config, Timing};
use world::{Faults, World};

/// The product's times, with sessions that live for seconds.
fn timing() -> Timing {
    Timing {
        rekey_after: Duration::from_secs(6),
        rekey_jitter: Duration::from_secs(1),
        follow_after: Duration::from_secs(2),
        reject_after: Duration::from_secs(20),
        grace: Duration::from_millis(1500),
        probe_after: Duration::from_secs(3),
        probe_every: Duration::from_millis(300),
        ..Timing::default()
    }
}

fn config(queues: u8) -> Config {
    Config { queues, algorithm: Algorithm::Aes128Gcm, sas: 400, busy_above: 1000, timing: timing() }
}

/// What happens to a host at a time.
#[derive(Debug, Clone, Copy)]
enum Event {
    Restart,
    Rekey,
    Close,
}

fn faults() -> impl Strategy<Value = Faults> {
    (0u64..40, 0u64..30, 0u64..300).prop_map(|(loss, doubled, delay)| Faults { loss, doubled, delay })
}

fn events(kinds: &'static [Event]) -> impl Strategy<Value = Vec<(u64, usize, Event)>> {
    prop::collection::vec((0u64..30_000, 0usize..2, prop::sample::select(kinds)), 0..6)
}

fn run(world: &mut World, mut events: Vec<(u64, usize, Event)>, faulty_ms: u64) {
    events.sort_by_key(|(at, ..)| *at);
    for (at, host, event) in events {
        world.run_until(at.min(faulty_ms));
        match event {
            Event::Restart => world.restart(host),
            Event::Rekey => world.rekey(host),
            Event::Close => world.close(host),
        }
    }
    world.run_until(faulty_ms);
    world.faults = Faults::default();
    // As long as an old session may live, and a fresh handshake may wait.
    world.run_until(faulty_ms + 60_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Without restarts nothing at all is lost, whatever happens to the handshakes.
    #[test]
    fn rekeys_lose_no_frame(
        seed: u64, faults in faults(), events in events(&[Event::Rekey]), queues in (1u8..4, 1u8..4),
    ) {
        let mut world = World::new(seed, [config(queues.0), config(queues.1)], faults);
        run(&mut world, events, 30_000);
        world.assert_in_step();
        prop_assert_eq!(world.lost, 0);
        prop_assert!(world.frames > 500 && world.sessions() >= 6, "{} {}", world.frames, world.sessions());
    }

    /// Whatever happens, both sides are in step again, and no key or SPI is used twice.
    #[test]
    fn hosts_that_restart_are_in_step_again(
        seed: u64, faults in faults(), clock_back: bool,
        events in events(&[Event::Restart, Event::Rekey, Event::Close]),
    ) {
        let mut world = World::new(seed, [config(2), config(1)], faults);
        world.clock_back = clock_back;
        run(&mut world, events, 30_000);
        world.assert_in_step();
    }
}
