//! When a sender stops sending to a moved node by its old host. Enters: the old host's authentic report that the node
//! moved, frames of the node on a direct tunnel, what the board reports, and whether that tunnel is up. Leaves: the
//! host to send to. Nothing here needs the board: a move completes while it cannot be reached.
//!
//! | Sends | Event | Then it sends |
//! |---|---|---|
//! | to the old host | it reports the move, of a newer generation | to the old host, and wants a direct tunnel |
//! | to the old host | the report is there, and K frames of the node came on the direct tunnel | to the new host |
//! | to the old host | the board reports the move, and the direct tunnel is up | to the new host |
//! | to the old host | the direct tunnel goes down | to the old host; the frames are counted again |
//! | to the new host, unknown to the board | the direct tunnel goes down | to the old host: it still redirects |
//! | to the new host, known to the board | the direct tunnel goes down | to the new host: frames wait |
//!
//! One report alone moves nothing: a host that lies about a move cannot make another host seal the node's frames, and
//! a host that seals frames of a foreign node is named by no report.

use std::num::NonZeroU32;

/// Where a node is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    generation: u64,
    host: u32,
    /// The tunnel to it is up.
    ready: bool,
    /// Valid frames of the node from there, since the tunnel is up.
    frames: u32,
    /// The board has reported it.
    confirmed: bool,
}

/// The way to one node. Hosts are numbers that the caller gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutover {
    need: NonZeroU32,
    host: u32,
    /// Of the move that made it the host.
    generation: u64,
    next: Option<Next>,
    /// The old host, while it still redirects: until the board reports the move.
    fallback: Option<(u32, u64)>,
}

impl Cutover {
    /// A node at this host since this generation; K is `need`.
    #[must_use]
    pub const fn new(host: u32, generation: u64, need: NonZeroU32) -> Self {
        Self { need, host, generation, next: None, fallback: None }
    }

    /// The host to send to.
    #[must_use]
    pub const fn host(&self) -> u32 {
        self.host
    }

    /// The host to which a direct tunnel is wanted.
    #[must_use]
    pub fn wanted(&self) -> Option<u32> {
        self.next.map(|next| next.host)
    }

    /// A host reports, in an authentic message, that the node moved to another. Ignored unless frames go to that host
    /// now, and the generation is newer. `ready`: the tunnel to the new host is up.
    pub fn moved(&mut self, from: u32, generation: u64, to: u32, ready: bool) {
        let newest = self.next.map_or(self.generation, |next| next.generation.max(self.generation));
        if from == self.host && to != self.host && generation > newest {
            self.next = Some(Next { generation, host: to, ready, frames: 0, confirmed: false });
        }
    }

    /// A valid frame of the node came on the tunnel of this host. Returns whether the host to send to is another now.
    pub fn frame(&mut self, from: u32) -> bool {
        if let Some(next) = self.next.as_mut().filter(|next| next.host == from && next.ready) {
            next.frames = next.frames.saturating_add(1);
        }
        self.switch()
    }

    /// The board reports the node at this host. Returns whether the host to send to is another now.
    pub fn board(&mut self, generation: u64, host: u32, ready: bool) -> bool {
        if generation < self.generation {
            return false;
        }
        if host == self.host {
            // The way back is closed: the old host redirects no more.
            (self.generation, self.fallback) = (generation, None);
            self.next = self.next.filter(|next| next.generation > generation);
            return false;
        }
        if self.next.is_none_or(|next| next.generation <= generation) {
            let frames = self.next.filter(|next| next.host == host).map_or(0, |next| next.frames);
            self.next = Some(Next { generation, host, ready, frames, confirmed: true });
        }
        self.switch()
    }

    /// The tunnel to a host is up or down. Returns whether the host to send to is another now.
    pub fn tunnel(&mut self, host: u32, up: bool) -> bool {
        if let Some(next) = self.next.as_mut().filter(|next| next.host == host) {
            next.ready = up;
            next.frames = if up { next.frames } else { 0 };
            return self.switch();
        }
        if host != self.host || up {
            return false;
        }
        let Some((old, before)) = self.fallback.take() else { return false };
        // It is tried again from the start.
        let (generation, host) = (self.generation, self.host);
        (self.host, self.generation) = (old, before);
        self.next = Some(Next { generation, host, ready: false, frames: 0, confirmed: false });
        true
    }

    fn switch(&mut self) -> bool {
        let proven = |next: &mut Next| next.ready && (next.confirmed || next.frames >= self.need.get());
        let Some(next) = self.next.take_if(proven) else { return false };
        self.fallback = (!next.confirmed).then_some((self.host, self.generation));
        (self.host, self.generation) = (next.host, next.generation);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: u32) -> Cutover {
        Cutover::new(host, 10, NonZeroU32::new(3).unwrap())
    }

    #[test]
    fn it_takes_the_report_and_the_frames() {
        let mut node = at(1);
        assert!(!(0..9).any(|_| node.frame(3)), "frames alone");
        node.moved(1, 11, 3, true);
        assert_eq!((node.host(), node.wanted()), (1, Some(3)), "the report alone");
        assert_eq!([(); 4].map(|()| node.frame(3)), [false, false, true, false]);
        assert_eq!((node.host(), node.wanted()), (3, None));
    }

    #[test]
    fn only_the_host_it_is_sent_to_reports_a_newer_move() {
        let mut node = at(1);
        node.moved(2, 11, 3, true);
        node.moved(1, 10, 3, true);
        node.moved(1, 11, 1, true);
        assert_eq!(node.wanted(), None);
        node.moved(1, 12, 3, true);
        node.moved(1, 11, 4, true);
        assert_eq!(node.wanted(), Some(3), "the newest counts");
        assert!(!(0..9).any(|_| node.frame(4)), "frames of another host");
    }

    #[test]
    fn the_board_alone_switches_to_a_tunnel_that_is_up() {
        let mut node = at(1);
        assert!(!node.board(11, 3, false));
        assert_eq!((node.host(), node.wanted()), (1, Some(3)));
        assert!(node.tunnel(3, true));
        assert!(!node.tunnel(3, false), "the old host redirects no more");
        assert_eq!(node.host(), 3);
        assert!(!node.board(10, 1, true), "old news");
    }

    #[test]
    fn a_direct_path_that_dies() {
        let mut node = at(1);
        node.moved(1, 11, 3, true);
        node.frame(3);
        node.frame(3);
        assert!(!node.tunnel(3, false));
        assert!(!node.frame(3), "before: counted again");
        node.tunnel(3, true);
        assert!((0..3).any(|_| node.frame(3)));
        assert!(node.tunnel(3, false), "after: by the old host again");
        assert_eq!((node.host(), node.wanted()), (1, Some(3)));
        node.tunnel(3, true);
        assert!((0..3).any(|_| node.frame(3)));
        assert!(!node.board(11, 3, true));
        assert!(!node.tunnel(3, false), "the board has confirmed it");
        assert_eq!(node.host(), 3);
    }

    #[test]
    fn fifty_moves_in_a_row() {
        let mut node = at(0);
        for step in 1..=50 {
            let to = step % 3;
            node.moved(node.host(), 10 + u64::from(step), to, true);
            assert!((0..3).any(|_| node.frame(to)), "move {step}");
            assert_eq!(node.host(), to);
            if step % 4 == 0 {
                assert!(!node.board(10 + u64::from(step), to, true));
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Moved(u32, u64, u32),
        Frame(u32),
        Board(u64, u32),
        Tunnel(u32, bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u32..4, 0u64..20, 0u32..4)
                .prop_map(|(from, generation, to)| Event::Moved(from, generation, to)),
            (0u32..4).prop_map(Event::Frame),
            (0u64..20, 0u32..4).prop_map(|(generation, host)| Event::Board(generation, host)),
            (0u32..4, any::<bool>()).prop_map(|(host, up)| Event::Tunnel(host, up)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn it_moves_only_with_proof(events in prop::collection::vec(event(), 0..200)) {
            let mut node = at(0);
            let mut up = [true; 4];
            // Hosts that frames came from since their tunnel is up, and those that the board named.
            let (mut frames, mut named) = ([0u32; 4], [false; 4]);
            let mut been = [false; 4];
            been[0] = true;
            for event in events {
                let before = node.host();
                let switched = match event {
                    Event::Moved(from, generation, to) => {
                        node.moved(from, generation, to, up[to as usize]);
                        false
                    }
                    Event::Frame(from) => {
                        frames[from as usize] += u32::from(up[from as usize]);
                        node.frame(from)
                    }
                    Event::Board(generation, host) => {
                        named[host as usize] = true;
                        node.board(generation, host, up[host as usize])
                    }
                    Event::Tunnel(host, is_up) => {
                        up[host as usize] = is_up;
                        if !is_up {
                            frames[host as usize] = 0;
                        }
                        node.tunnel(host, is_up)
                    }
                };
                prop_assert_eq!(switched, node.host() != before);
                let to = node.host() as usize;
                if switched && !been[to] {
                    prop_assert!(up[to], "no switch to a tunnel that is down");
                    prop_assert!(frames[to] >= 3 || named[to], "no switch without proof");
                }
                been[to] = true;
                prop_assert_ne!(node.wanted(), Some(node.host()));
            }
        }
    }
}
