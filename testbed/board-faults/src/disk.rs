//! A disk that forgets: storage beneath the embedded store. Enters: the store's writes. They are kept in memory until the
//! store makes them durable. At a power cut some of them reach the disk and some do not, by sectors of 512 bytes, in any
//! order; what was made durable stays.
//!
//! Two uses: in a test, around storage in memory, where [`Disk::cut`] is the power cut; and around the file of a process
//! that will be killed ([`Disk::write_back`]), where the kill is.

use fastrand::Rng;
use redb::{BackendError, StorageBackend};
use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a disk writes as a whole, or not at all.
pub const SECTOR: usize = 512;
/// Sectors that are written back in one piece.
const PIECE: usize = 8;

type Sector = [u8; SECTOR];

/// A step that is not durable yet.
#[derive(Debug, Clone)]
enum Step {
    Sector(u64, Box<Sector>),
    Length(u64),
}

/// Which of the steps since the last durable state survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// None.
    Nothing,
    /// The first ones, up to a random one.
    First,
    /// Any of them: each by chance.
    Any,
    /// All.
    Everything,
}

#[derive(Debug, Default)]
struct Cache {
    /// In the order in which the store made them.
    steps: Vec<Step>,
    /// The last content of each sector in `steps`.
    sectors: BTreeMap<u64, Box<Sector>>,
    length: u64,
    /// Steps until the power fails; `None` = it does not.
    left: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    /// What is durable.
    disk: Box<dyn StorageBackend>,
    cache: Mutex<Cache>,
}

/// See the module. A clone is the same disk.
#[derive(Debug, Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

fn no_power() -> io::Error {
    io::Error::other("the power has failed")
}

impl Disk {
    /// What is in `disk` is durable.
    pub fn new(disk: impl StorageBackend) -> io::Result<Self> {
        let cache = Mutex::new(Cache { length: disk.len()?, ..Cache::default() });
        Ok(Self { shared: Arc::new(Shared { disk: Box::new(disk), cache }) })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails after so many steps of the store. From then on the store gets errors, until [`Disk::cut`].
    pub fn fail_after(&self, steps: u64) {
        self.cache().left = Some(steps);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.cache().left == Some(0)
    }

    /// The power cut. What survives is on the disk afterwards, and the power is back.
    pub fn cut(&self, survives: Survives, random: &mut Rng) -> io::Result<()> {
        let steps = std::mem::take(&mut self.cache().steps);
        let first = random.usize(0..=steps.len());
        // Sometimes nearly all of them, sometimes hardly any.
        let chance = random.f64();
        for (n, step) in steps.into_iter().enumerate() {
            let survives = match survives {
                Survives::Nothing => false,
                Survives::First => n < first,
                Survives::Any => random.f64() < chance,
                Survives::Everything => true,
            };
            if survives {
                self.apply(&step)?;
            }
        }
        *self.cache() = Cache { length: self.shared.disk.len()?, ..Cache::default() };
        Ok(())
    }

    /// One step reaches the disk. A sector behind the end of the file is as if it had not.
    fn apply(&self, step: &Step) -> io::Result<()> {
        let disk = &self.shared.disk;
        match step {
            Step::Length(length) => disk.set_len(*length),
            Step::Sector(number, bytes) => {
                let (at, length) = (number * SECTOR as u64, disk.len()?);
                let fits = usize::try_from(length.saturating_sub(at)).unwrap_or(SECTOR).min(SECTOR);
                match bytes.get(..fits) {
                    Some([]) | None => Ok(()),
                    Some(bytes) => disk.write(at, bytes),
                }
            }
        }
    }

    /// Writes back what is not durable yet, as a kernel does: some of it, in any order, for ever. So a process that is
    /// killed leaves a disk on which some of it is.
    pub fn write_back(self, mut random: Rng, every: Duration) -> io::Result<()> {
        loop {
            std::thread::sleep(every.mul_f64(random.f64() * 2.0));
            let cache = self.cache();
            let Some(last) = cache.steps.len().checked_sub(1) else { continue };
            let from = random.usize(0..=last);
            let some = cache.steps.get(from..=last.min(from + PIECE)).unwrap_or_default().to_vec();
            // While no other step is made: a later one must not be overwritten.
            for step in &some {
                if let Step::Sector(number, _) = step
                    && let Some(newest) = cache.sectors.get(number)
                {
                    self.apply(&Step::Sector(*number, newest.clone()))?;
                }
            }
        }
    }

    /// Counts a step; an error if the power has failed.
    fn step(cache: &mut Cache) -> io::Result<()> {
        match &mut cache.left {
            Some(0) => Err(no_power()),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(no_power()) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn powered(cache: &Cache) -> io::Result<()> {
        if cache.left == Some(0) { Err(no_power()) } else { Ok(()) }
    }

    /// A sector as the store sees it.
    fn sector(&self, cache: &Cache, number: u64) -> io::Result<Box<Sector>> {
        if let Some(bytes) = cache.sectors.get(&number) {
            return Ok(bytes.clone());
        }
        let mut bytes = Box::new([0; SECTOR]);
        let (at, length) = (number * SECTOR as u64, self.shared.disk.len()?);
        let there = usize::try_from(length.saturating_sub(at)).unwrap_or(SECTOR).min(SECTOR);
        if let Some(part) = bytes.get_mut(..there).filter(|part| !part.is_empty()) {
            self.shared.disk.read(at, part)?;
        }
        Ok(bytes)
    }
}

/// The parts of sectors that `length` bytes at `offset` touch: the sector, where in it, and where in the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let sector = SECTOR as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % sector) as usize;
        let count = (SECTOR - within).min(length - done);
        let range = done..done + count;
        done += count;
        Some((at / sector, within, range))
    })
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let cache = self.cache();
        Self::powered(&cache)?;
        Ok(cache.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let cache = self.cache();
        Self::powered(&cache)?;
        if offset + out.len() as u64 > cache.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, range) in parts(offset, out.len()) {
            let sector = self.sector(&cache, number)?;
            let count = range.len();
            if let (Some(out), Some(bytes)) = (out.get_mut(range), sector.get(within..within + count)) {
                out.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut cache = self.cache();
        Self::step(&mut cache)?;
        if length < cache.length {
            // What is behind the end is gone, also if the file grows again.
            let from = length.div_ceil(SECTOR as u64);
            cache.sectors.split_off(&from);
            for number in from..cache.length.div_ceil(SECTOR as u64) {
                cache.sectors.insert(number, Box::new([0; SECTOR]));
            }
        }
        cache.length = length;
        cache.steps.push(Step::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut cache = self.cache();
        Self::step(&mut cache)?;
        for step in &cache.steps {
            if let Step::Length(_) = step {
                self.apply(step)?;
            }
        }
        // In any order: a process that is killed here leaves some of them.
        let sectors: Vec<_> = cache.sectors.iter().collect();
        let mut pieces: Vec<_> = sectors.chunks(PIECE).collect();
        fastrand::shuffle(&mut pieces);
        for (number, bytes) in pieces.concat() {
            self.apply(&Step::Sector(*number, bytes.clone()))?;
        }
        self.shared.disk.sync_data()?;
        cache.steps.clear();
        cache.sectors.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut cache = self.cache();
        Self::step(&mut cache)?;
        let end = offset + data.len() as u64;
        if end > cache.length {
            cache.length = end;
            cache.steps.push(Step::Length(end));
        }
        for (number, within, range) in parts(offset, data.len()) {
            let mut sector = self.sector(&cache, number)?;
            let count = range.len();
            if let (Some(bytes), Some(data)) = (sector.get_mut(within..within + count), data.get(range)) {
                bytes.copy_from_slice(data);
            }
            cache.steps.push(Step::Sector(number, sector.clone()));
            cache.sectors.insert(number, sector);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.shared.disk.close()
    }

    // One process has the file. The locks are those of the file beneath.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.shared.disk.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.shared.disk.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.shared.disk.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.shared.disk.query_lock_range(start, end)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    fn content(disk: &Disk) -> Vec<u8> {
        let mut bytes = vec![0; disk.len().unwrap() as usize];
        disk.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_cut_keeps_what_was_made_durable_and_any_part_of_the_rest_by_whole_sectors() {
        const SECTORS: usize = 20;
        let (mut torn, mut whole, mut none) = (0, 0, 0);
        for seed in 0..200 {
            let disk = Disk::new(InMemoryBackend::new()).unwrap();
            disk.write(0, &[1; SECTORS * SECTOR]).unwrap();
            disk.sync_data().unwrap();
            // Not at the borders of sectors; the file grows by it.
            disk.write(100, &[2; SECTORS * SECTOR]).unwrap();
            assert_eq!(content(&disk).iter().filter(|byte| **byte == 2).count(), SECTORS * SECTOR);
            disk.cut(Survives::Any, &mut Rng::with_seed(seed)).unwrap();
            let found = content(&disk);
            assert!(found.iter().take(100).all(|byte| *byte == 1));
            let changed = |sector: &[u8]| sector.iter().skip(100).any(|byte| *byte == 2);
            for sector in found.chunks(SECTOR).take(SECTORS) {
                assert!(sector.iter().skip(100).all(|byte| (*byte == 2) == changed(sector)), "half a sector");
            }
            match found.chunks(SECTOR).take(SECTORS).filter(|sector| changed(sector)).count() {
                0 => none += 1,
                SECTORS => whole += 1,
                _ => torn += 1,
            }
        }
        assert!(torn > 100 && whole > 0 && none > 0, "{torn} {whole} {none}");
    }

    #[test]
    fn after_the_power_has_failed_nothing_works_before_the_cut() {
        let disk = Disk::new(InMemoryBackend::new()).unwrap();
        disk.write(0, b"durable").unwrap();
        disk.sync_data().unwrap();
        disk.fail_after(2);
        disk.write(0, b"another").unwrap();
        assert!(!disk.has_failed());
        assert!(disk.sync_data().is_err() && disk.has_failed());
        assert!(disk.write(0, b"more").is_err() && disk.read(0, &mut [0]).is_err() && disk.len().is_err());
        disk.cut(Survives::Nothing, &mut Rng::with_seed(1)).unwrap();
        assert_eq!(content(&disk), b"durable");
    }

    #[test]
    fn a_file_that_was_shortened_has_nothing_behind_its_end() {
        let disk = Disk::new(InMemoryBackend::new()).unwrap();
        disk.write(0, &[7; 3 * SECTOR]).unwrap();
        disk.sync_data().unwrap();
        disk.set_len(SECTOR as u64).unwrap();
        disk.set_len(3 * SECTOR as u64).unwrap();
        let expected = [vec![7; SECTOR], vec![0; 2 * SECTOR]].concat();
        assert!(content(&disk) == expected);
        disk.sync_data().unwrap();
        disk.cut(Survives::Everything, &mut Rng::with_seed(1)).unwrap();
        assert!(content(&disk) == expected);
    }
}
