//! The queue of calls for the board's thread. Enters: calls, each of a caller. Leaves: the same, one of each caller in turn,
//! so that a caller who calls too often waits for its own calls alone. Each caller's part is bounded: a call more is
//! refused at once, and none waits for room.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Who calls, in the order of their turns.
#[derive(Debug)]
struct Turns<T> {
    queues: HashMap<String, VecDeque<T>>,
    /// Each caller with a queue once.
    order: VecDeque<String>,
}

impl<T> Turns<T> {
    fn push(&mut self, caller: &str, item: T, most: usize) -> Result<(), T> {
        match self.queues.get_mut(caller) {
            Some(queue) if queue.len() >= most => return Err(item),
            Some(queue) => queue.push_back(item),
            None => {
                self.queues.insert(caller.to_owned(), [item].into());
                self.order.push_back(caller.to_owned());
            }
        }
        Ok(())
    }

    /// Takes one item of each caller, again and again: at most `most` in all and `each` of one caller.
    fn take(&mut self, most: usize, each: usize) -> Vec<T> {
        let mut items = Vec::new();
        for _ in 0..each {
            for _ in 0..self.order.len() {
                if items.len() == most {
                    return items;
                }
                let Some(caller) = self.order.pop_front() else { return items };
                let Some(queue) = self.queues.get_mut(&caller) else { continue };
                items.extend(queue.pop_front());
                if queue.is_empty() {
                    self.queues.remove(&caller);
                } else {
                    self.order.push_back(caller);
                }
            }
        }
        items
    }
}

#[derive(Debug)]
struct Inner<T> {
    turns: Turns<T>,
    /// Before all callers.
    first: VecDeque<T>,
    is_closed: bool,
}

/// Why an item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its caller has as many queued as it may.
    Full,
    /// Nobody takes from the queue any more.
    Closed,
}

/// Shared by all callers and the thread.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    per_caller: usize,
}

impl<T> Queue<T> {
    pub fn new(per_caller: usize) -> Self {
        let turns = Turns { queues: HashMap::new(), order: VecDeque::new() };
        let inner = Inner { turns, first: VecDeque::new(), is_closed: false };
        Self { inner: Mutex::new(inner), filled: Condvar::new(), per_caller }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item of a caller.
    pub fn push(&self, caller: &str, item: T) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(Refused::Closed);
        }
        inner.turns.push(caller, item, self.per_caller).map_err(|_| Refused::Full)?;
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Queues an item of the board itself. It is taken first, and never refused.
    pub fn push_first(&self, item: T) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(Refused::Closed);
        }
        inner.first.push_back(item);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for items, and takes at most `most`, and `each` of one caller. Empty = the queue is closed, and was emptied.
    pub fn take(&self, most: usize, each: usize) -> Vec<T> {
        let mut inner = self.lock();
        loop {
            let count = inner.first.len().min(most);
            let mut items: Vec<_> = inner.first.drain(..count).collect();
            items.extend(inner.turns.take(most - count, each));
            if !items.is_empty() || inner.is_closed {
                return items;
            }
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more items. What is queued can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_itself() {
        let queue = Queue::new(100);
        for n in 0..100 {
            assert_eq!(queue.push("flood", ("flood", n)), Ok(()));
        }
        assert_eq!(queue.push("flood", ("flood", 100)), Err(Refused::Full));
        for n in 0..3 {
            assert_eq!(queue.push("good", ("good", n)), Ok(()), "room of its own");
        }
        let expected =
            [("flood", 0), ("good", 0), ("flood", 1), ("good", 1), ("flood", 2), ("good", 2), ("flood", 3)];
        assert_eq!(queue.take(1000, 4), expected, "in turn, each in order, four of each");
        assert_eq!(queue.take(5, 1000), (4..9).map(|n| ("flood", n)).collect::<Vec<_>>());
        assert_eq!(queue.push("good", ("good", 3)), Ok(()));
        assert_eq!(
            queue.take(2, 1000),
            [("flood", 9), ("good", 3)],
            "at most one call of each other caller before"
        );
    }

    #[test]
    fn the_board_itself_comes_first_and_a_closed_queue_is_emptied() {
        let queue = Queue::new(1);
        assert_eq!((queue.push("a", 1), queue.push("a", 2)), (Ok(()), Err(Refused::Full)));
        for n in 10..20 {
            assert_eq!(queue.push_first(n), Ok(()));
        }
        assert_eq!(queue.take(5, 5), [10, 11, 12, 13, 14]);
        queue.close();
        assert_eq!((queue.push("b", 3), queue.push_first(4)), (Err(Refused::Closed), Err(Refused::Closed)));
        assert_eq!(queue.take(100, 5), [15, 16, 17, 18, 19, 1]);
        assert!(queue.take(100, 5).is_empty());
        assert!(queue.lock().turns.queues.is_empty() && queue.lock().turns.order.is_empty());
    }
}
