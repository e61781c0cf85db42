//! The queue between those who log and the thread that writes. Enters: whole lines, from any thread. Leaves: the same
//! lines, in order, on one output. It is bounded: while the output takes nothing (a pipe that nobody reads, a stopped
//! terminal, a full disk), further lines are dropped and counted, and no caller waits.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Most lines that wait.
const LINES: usize = 8192;
/// Most bytes that wait.
const BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    reported: u64,
    /// The thread has taken a line that is not written yet.
    writing: bool,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// A line has come.
    filled: Condvar,
    /// All lines are written.
    idle: Condvar,
}

impl Queue {
    /// Starts the thread that writes to `output`. After lines were dropped and all that waited are written, it calls
    /// `report` with how many were dropped since the last call.
    pub fn start(
        output: impl Write + Send + 'static,
        report: impl Fn(&Self, u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("log".into()).spawn(move || writer.run(output, report))?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The holder of the lock only moves lines: they are whole, also after a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or drops and counts it. Does not wait.
    pub fn push(&self, line: &[u8]) {
        let mut inner = self.lock();
        if inner.lines.len() >= LINES || inner.bytes + line.len() > BYTES {
            inner.dropped += 1;
            return;
        }
        inner.bytes += line.len();
        inner.lines.push_back(line.to_vec());
        drop(inner);
        self.filled.notify_one();
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until all lines are written, at most for `timeout`. Returns whether they are.
    pub fn flush(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut inner = self.lock();
        while inner.writing || !inner.lines.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return false;
            };
            (inner, _) = self.idle.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn run(&self, mut output: impl Write, report: impl Fn(&Self, u64)) {
        loop {
            let line = self.next();
            // There is no other place to report to.
            let _ = output.write_all(&line).and_then(|()| output.flush());
            let lost = {
                let mut inner = self.lock();
                inner.writing = false;
                let lost = inner.dropped - inner.reported;
                if !inner.lines.is_empty() || lost == 0 {
                    None
                } else {
                    inner.reported = inner.dropped;
                    Some(lost)
                }
            };
            match lost {
                Some(lost) => report(self, lost),
                None => self.idle.notify_all(),
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut inner = self.lock();
        loop {
            if let Some(line) = inner.lines.pop_front() {
                inner.bytes -= line.len();
                inner.writing = true;
                return line;
            }
            self.idle.notify_all();
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The end of a queue for a formatter.
#[derive(Debug)]
pub struct Sink(pub Arc<Queue>);

impl Write for Sink {
    /// `line` is whole: the formatter writes each record at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const LONG: Duration = Duration::from_secs(60);

    fn report(queue: &Queue, lost: u64) {
        queue.push(format!("lost {lost}\n").as_bytes());
    }

    #[test]
    fn all_lines_are_written_in_order_before_a_flush_returns() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, report).unwrap();
        for n in 0..100 {
            queue.push(format!("{n}\n").as_bytes());
        }
        assert!(queue.flush(LONG));
        let lines: Vec<_> = BufReader::new(reader).lines().take(100).map(Result::unwrap).collect();
        assert_eq!(lines, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_pipe_that_nobody_reads_stops_nobody_and_what_it_cost_is_reported_once() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, report).unwrap();
        // More than a pipe holds (64 KiB) and more than may wait.
        let pushed = 3 * LINES as u64;
        for n in 0..pushed {
            queue.push(format!("{n:0100}\n").as_bytes());
        }
        let dropped = queue.dropped();
        assert!(dropped >= LINES as u64, "{dropped} of {pushed}");
        assert!(!queue.flush(Duration::from_millis(10)), "nobody has read");
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        for n in 0..pushed - dropped {
            assert_eq!(lines.next().unwrap().parse::<u64>().unwrap(), n, "the first lines are kept");
        }
        assert_eq!(lines.next().unwrap(), format!("lost {dropped}"));
        queue.push(b"after\n");
        assert_eq!(lines.next().unwrap(), "after", "no second report");
        assert!(queue.flush(LONG));
        assert_eq!(queue.dropped(), dropped);
    }

    #[test]
    fn few_huge_lines_are_bounded_too() {
        let (_reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, report).unwrap();
        let line = vec![b'x'; BYTES / 4];
        for _ in 0..10 {
            queue.push(&line);
        }
        // Four wait, and the thread may have taken one.
        assert!((5..=6).contains(&queue.dropped()), "{}", queue.dropped());
        assert!(queue.lock().bytes <= BYTES);
    }

    #[test]
    fn an_output_that_fails_does_not_end_the_thread() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = Queue::start(writer, report).unwrap();
        for _ in 0..3 {
            queue.push(b"line\n");
            assert!(queue.flush(LONG));
        }
    }
}
