//! The hold against a model that is nothing but a queue of byte vectors.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn meta(at: u64) -> Meta {
    Meta {
        kind: at as u8,
        unfinished: at.is_multiple_of(2),
        gso: (at.is_multiple_of(3)).then_some(at as u16),
        at,
    }
}

/// Bytes that tell their place and their frame.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(7).wrapping_add((i >> 8) as u8).wrapping_add(seed as u8))
        .collect()
}

fn push(queue: &mut HoldQueue, pool: &HoldPool, at: u64, frame: &[u8], cut: usize) -> Result<(), Full> {
    let (a, b) = frame.split_at(cut.min(frame.len()));
    queue.push(pool, meta(at), [a, b].into_iter(), frame.len())
}

fn front(queue: &HoldQueue) -> Option<(Meta, Vec<u8>)> {
    let bytes: Vec<u8> = queue.front_chunks().flatten().copied().collect();
    assert_eq!(bytes.len(), queue.front_len());
    queue.front().map(|meta| (meta, bytes))
}

/// Blocks that a stream has which begins where this model's front record does.
fn blocks_of(start: usize, bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (start + bytes).div_ceil(BLOCK_BYTES) }
}

#[derive(Debug, Clone)]
enum Op {
    Push { queue: usize, len: usize, cut: usize },
    Pop { queue: usize },
    Expire { queue: usize, age: u64 },
    Clear { queue: usize },
}

fn op() -> impl Strategy<Value = Op> {
    // Lengths around a block's border, where a header may come apart, ordinary ones, and the largest.
    let len = prop_oneof![
        4 => 0..1600_usize,
        2 => BLOCK_BYTES - 40..BLOCK_BYTES + 40,
        1 => 65_000..66_000_usize,
    ];
    prop_oneof![
        6 => (0..2_usize, len, 0..2000_usize).prop_map(|(queue, len, cut)| Op::Push { queue, len, cut }),
        5 => (0..2_usize).prop_map(|queue| Op::Pop { queue }),
        1 => (0..2_usize, 0..20_u64).prop_map(|(queue, age)| Op::Expire { queue, age }),
        1 => (0..40_usize).prop_map(|n| if n < 2 { Op::Clear { queue: n } } else { Op::Pop { queue: n % 2 } }),
    ]
}

struct Model {
    frames: VecDeque<(Meta, Vec<u8>)>,
    start: usize,
}

impl Model {
    fn bytes(&self) -> usize {
        self.frames.iter().map(|(_, frame)| frame.len() + RECORD_BYTES).sum()
    }

    fn blocks(&self) -> usize {
        blocks_of(self.start, self.bytes())
    }

    fn pop(&mut self) -> Option<(Meta, Vec<u8>)> {
        let (meta, frame) = self.frames.pop_front()?;
        self.start = (self.start + frame.len() + RECORD_BYTES) % BLOCK_BYTES;
        if self.frames.is_empty() {
            self.start = 0;
        }
        Some((meta, frame))
    }
}

const POOL_BLOCKS: usize = 12;
const MAX_BLOCKS: usize = 8;

proptest! {
    #[test]
    fn two_queues_on_one_pool_are_two_queues_of_vectors(ops in vec(op(), 1..200)) {
        let pool = HoldPool::new(POOL_BLOCKS * BLOCK_BYTES + 5);
        let mut queues = [HoldQueue::new(MAX_BLOCKS), HoldQueue::new(MAX_BLOCKS)];
        let mut models = [(); 2].map(|()| Model { frames: VecDeque::new(), start: 0 });
        for (now, op) in ops.into_iter().enumerate() {
            let now = now as u64;
            match op {
                Op::Push { queue: q, len, cut } => {
                    let frame = pattern(len, now);
                    let free = POOL_BLOCKS - models[0].blocks() - models[1].blocks();
                    let need = blocks_of(models[q].start, models[q].bytes() + RECORD_BYTES + len);
                    let fits = need <= MAX_BLOCKS && need - models[q].blocks() <= free;
                    let pushed = push(&mut queues[q], &pool, now, &frame, cut);
                    prop_assert_eq!(pushed, if fits { Ok(()) } else { Err(Full) });
                    if fits {
                        models[q].frames.push_back((meta(now), frame));
                    }
                }
                Op::Pop { queue: q } => {
                    let seen = front(&queues[q]);
                    let popped = queues[q].pop_front(&pool);
                    prop_assert_eq!(popped, seen.is_some());
                    prop_assert_eq!(seen, models[q].pop());
                }
                Op::Expire { queue: q, age } => {
                    let before = now.saturating_sub(age);
                    let mut old = 0;
                    while models[q].frames.front().is_some_and(|(meta, _)| meta.at < before) {
                        models[q].pop();
                        old += 1;
                    }
                    prop_assert_eq!(queues[q].expire_before(&pool, before), old);
                }
                Op::Clear { queue: q } => {
                    prop_assert_eq!(queues[q].clear(&pool), models[q].frames.len());
                    models[q] = Model { frames: VecDeque::new(), start: 0 };
                }
            }
            for (queue, model) in queues.iter().zip(&models) {
                prop_assert_eq!((queue.len(), queue.bytes()), (model.frames.len(), model.bytes()));
                prop_assert_eq!(queue.is_empty(), model.frames.is_empty());
                prop_assert_eq!(queue.front(), model.frames.front().map(|(meta, _)| *meta));
            }
            let free = POOL_BLOCKS - models[0].blocks() - models[1].blocks();
            prop_assert_eq!(pool.free_bytes(), free * BLOCK_BYTES);
        }
        for (queue, model) in queues.iter_mut().zip(&mut models) {
            while let Some(expected) = model.pop() {
                prop_assert_eq!(front(queue), Some(expected));
                prop_assert!(queue.pop_front(&pool));
            }
            prop_assert!(!queue.pop_front(&pool) && queue.front().is_none());
        }
        prop_assert_eq!(pool.free_bytes(), pool.total_bytes());
    }

    #[test]
    fn a_header_says_what_it_was_told(kind: u8, unfinished: bool, gso: Option<u16>, at: u64, len in 0..=FRAME_BYTES_MAX) {
        let meta = Meta { kind, unfinished, gso, at };
        prop_assert_eq!(decode(encode(meta, len)), (meta, len));
    }
}

#[test]
fn a_pool_has_whole_blocks_only() {
    for (bytes, blocks) in [(0, 0), (BLOCK_BYTES - 1, 0), (BLOCK_BYTES, 1), (10 * BLOCK_BYTES + 1, 10)] {
        let pool = HoldPool::new(bytes);
        assert_eq!((pool.total_bytes(), pool.free_bytes()), (blocks * BLOCK_BYTES, blocks * BLOCK_BYTES));
    }
    let none = HoldPool::new(0);
    let mut queue = HoldQueue::new(4);
    assert_eq!(push(&mut queue, &none, 0, &[1], 0), Err(Full));
    assert_eq!((queue.len(), queue.front(), queue.front_chunks().count()), (0, None, 0));
}

#[test]
fn a_queue_keeps_to_its_own_limit_and_full_changes_nothing() {
    let pool = HoldPool::new(8 * BLOCK_BYTES);
    let mut queue = HoldQueue::new(2);
    let fits = pattern(2 * BLOCK_BYTES - RECORD_BYTES, 1);
    assert_eq!(push(&mut queue, &pool, 0, &pattern(fits.len() + 1, 1), 9), Err(Full));
    assert_eq!((queue.bytes(), pool.free_bytes()), (0, pool.total_bytes()));
    assert_eq!(push(&mut queue, &pool, 0, &fits, 9), Ok(()));
    assert_eq!(push(&mut queue, &pool, 1, &[], 0), Err(Full), "not even an empty one");
    assert_eq!(front(&queue), Some((meta(0), fits)));
    assert_eq!((queue.len(), queue.bytes()), (1, 2 * BLOCK_BYTES));

    // The pool has two blocks left, and the second queue wants three: it gets none.
    let mut other = HoldQueue::new(8);
    assert_eq!(push(&mut other, &pool, 0, &pattern(4 * BLOCK_BYTES - 100, 0), 0), Ok(()));
    assert_eq!(push(&mut other, &pool, 1, &pattern(2 * BLOCK_BYTES + 100, 0), 0), Err(Full));
    assert_eq!((pool.free_bytes(), other.len()), (2 * BLOCK_BYTES, 1));
    assert_eq!(
        push(&mut other, &pool, 1, &pattern(2 * BLOCK_BYTES, 0), 0),
        Ok(()),
        "up to the pool's last byte"
    );
    assert_eq!(pool.free_bytes(), 0);
    assert_eq!((queue.clear(&pool), other.clear(&pool)), (1, 2));
    assert_eq!(pool.free_bytes(), pool.total_bytes());
    assert_eq!(HoldQueue::new(0).push(&pool, meta(0), [].into_iter(), 0), Err(Full));
}

#[test]
fn a_length_that_is_not_the_segments_is_put_right() {
    let pool = HoldPool::new(4 * BLOCK_BYTES);
    let mut queue = HoldQueue::new(4);
    let bytes = pattern(100, 3);
    assert_eq!(queue.push(&pool, meta(1), [&bytes[..]].into_iter(), 3 * BLOCK_BYTES), Ok(()));
    assert_eq!(queue.push(&pool, meta(2), [&bytes[..], &bytes].into_iter(), 120), Ok(()));
    assert_eq!((queue.len(), queue.bytes()), (2, 220 + 2 * RECORD_BYTES));
    assert_eq!(pool.free_bytes(), 3 * BLOCK_BYTES, "what was not needed is back");
    assert_eq!(front(&queue), Some((meta(1), bytes.clone())));
    assert!(queue.pop_front(&pool));
    assert_eq!(front(&queue), Some((meta(2), [&bytes[..], &bytes[..20]].concat())));
    let longest = HoldPool::new(20 * BLOCK_BYTES);
    let mut queue = HoldQueue::new(20);
    let frame = pattern(FRAME_BYTES_MAX + 1, 0);
    assert_eq!(push(&mut queue, &longest, 0, &frame, 9), Err(Full));
    assert_eq!(push(&mut queue, &longest, 0, &frame[1..], 9), Ok(()));
}

#[test]
fn as_many_blocks_as_are_said_are_enough() {
    for bytes in [2 * RECORD_BYTES, 1500, BLOCK_BYTES, 5 * BLOCK_BYTES - 1] {
        let blocks = HoldPool::blocks_for(bytes);
        let pool = HoldPool::new((blocks + 1) * BLOCK_BYTES);
        let mut queue = HoldQueue::new(blocks + 1);
        // The stream begins at a block's last byte.
        assert_eq!(push(&mut queue, &pool, 0, &pattern(BLOCK_BYTES - 1 - RECORD_BYTES, 0), 0), Ok(()));
        assert_eq!(push(&mut queue, &pool, 1, &[], 0), Ok(()));
        assert!(queue.pop_front(&pool));
        queue.max_blocks = blocks;
        let rest = bytes - 2 * RECORD_BYTES;
        assert_eq!(push(&mut queue, &pool, 2, &pattern(rest, 2), 0), Ok(()), "{bytes}");
    }
}

#[test]
fn the_largest_frame_comes_back_whole_wherever_it_begins() {
    let pool = HoldPool::new(10 * BLOCK_BYTES);
    for first in (0..BLOCK_BYTES).step_by(61) {
        let mut queue = HoldQueue::new(10);
        let (short, long) = (pattern(first, 1), pattern(65 * 1024 + 14, 2));
        assert_eq!(push(&mut queue, &pool, 1, &short, 5), Ok(()));
        assert_eq!(push(&mut queue, &pool, 2, &long, 1448), Ok(()));
        assert_eq!(front(&queue), Some((meta(1), short)));
        assert!(queue.pop_front(&pool));
        assert_eq!(front(&queue), Some((meta(2), long)));
        assert_eq!(queue.clear(&pool), 1);
    }
    assert_eq!(pool.free_bytes(), pool.total_bytes());
}

#[test]
fn a_queue_that_is_used_for_long_needs_no_more_than_it_holds() {
    let pool = HoldPool::new(2 * BLOCK_BYTES);
    let mut queue = HoldQueue::new(2);
    assert_eq!(push(&mut queue, &pool, 0, &pattern(1000, 0), 0), Ok(()));
    for i in 1..1000 {
        assert_eq!(push(&mut queue, &pool, i, &pattern(1000, i), 300), Ok(()));
        assert_eq!(front(&queue), Some((meta(i - 1), pattern(1000, i - 1))));
        assert!(queue.pop_front(&pool));
    }
    assert!(queue.pop_front(&pool));
    assert_eq!(pool.free_bytes(), pool.total_bytes());
}

#[test]
fn blocks_wander_between_threads() {
    let pool = HoldPool::new(16 * BLOCK_BYTES);
    std::thread::scope(|scope| {
        for seed in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                let mut queue = HoldQueue::new(8);
                let (mut next, mut held) = (0_u64, VecDeque::new());
                while next < 2000 {
                    let frame = pattern(next as usize * 37 % 20_000, next + seed);
                    match push(&mut queue, pool, next, &frame, 64) {
                        Ok(()) => held.push_back((meta(next), frame)),
                        Err(Full) => {
                            while let Some(expected) = held.pop_front() {
                                assert_eq!(front(&queue), Some(expected));
                                assert!(queue.pop_front(pool));
                            }
                        }
                    }
                    next += 1;
                }
                assert_eq!(queue.clear(pool), held.len());
            });
        }
    });
    assert_eq!(pool.free_bytes(), pool.total_bytes());
}
