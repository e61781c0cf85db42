//! When the board takes no writes and still answers everything else. Enters: the free space of the store's disk, and which
//! records could not be read at the start. Leaves: which commands are refused, and why.
//!
//! | The store's disk has | Clients | Sessions, and the ends of migrations |
//! |---|---|---|
//! | [`ROOM`] or more | write | go on |
//! | less | are refused | go on: they need little |
//! | less than [`RESERVE`] | are refused | begin no session, end no migration; no lease expires |
//!
//! A transaction that fails for lack of space would leave open what the file has. So the space is looked at before, for
//! each batch of calls, and the board goes on by itself when there is space again. With an unreadable record it does not
//! know what a write would contradict: it takes writes again after the store was repaired or restored.

use crate::{
    board::{Command, Refusal},
    table::{Table, Unreadable},
};
use std::fmt::Write as _;
use tokio::sync::watch;

/// Free bytes with which clients may write.
pub const ROOM: u64 = 16 << 20;
/// Free bytes with which the board writes what is its own.
pub const RESERVE: u64 = 4 << 20;
/// Free bytes that each row of a load needs in addition: its records, twice, in half-full pages.
const ROW_BYTES: u64 = 1024;
/// Unreadable records that a message names.
const NAMED: usize = 5;

/// What the board may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Nothing,
    Upkeep,
    Everything,
}

/// See the module.
pub(super) struct ReadOnly {
    unreadable: Option<(Level, String)>,
    level: Level,
    free: u64,
    /// Why clients may not write, for whoever asks.
    why: watch::Sender<Option<String>>,
}

impl ReadOnly {
    pub fn new(unreadable: &[Unreadable]) -> Self {
        let unreadable = damage(unreadable);
        let mut read_only =
            Self { unreadable, level: Level::Everything, free: u64::MAX, why: watch::Sender::new(None) };
        read_only.update(None);
        read_only
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.why.subscribe()
    }

    /// Whether clients may not write.
    pub fn is_set(&self) -> bool {
        self.level != Level::Everything
    }

    /// The free bytes of the store's disk; `None` = it has no limit.
    pub fn update(&mut self, free: Option<u64>) {
        self.free = free.unwrap_or(u64::MAX);
        let of_disk = match self.free {
            0..RESERVE => Level::Nothing,
            RESERVE..ROOM => Level::Upkeep,
            ROOM.. => Level::Everything,
        };
        let (level, why) = match (&self.unreadable, of_disk) {
            (None, Level::Everything) => (Level::Everything, None),
            (Some((level, why)), Level::Everything) => (*level, Some(why.clone())),
            (None, level) => (level, Some(self.full(ROOM))),
            (Some((damaged, _)), level) => (level.min(*damaged), Some(self.full(ROOM))),
        };
        if (self.level, self.why.borrow().is_some()) != (level, why.is_some()) {
            match &why {
                Some(why) => log::error!("{why}"),
                None => log::info!("the store's disk has space again: the board takes writes"),
            }
        }
        self.level = level;
        self.why.send_replace(why);
    }

    fn full(&self, needed: u64) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "the board takes no writes: the disk of its store is full, with {:.1} MiB free; expected {:.1} MiB; reads go \
             on, and writes when there is space again; hint: free some",
            mib(self.free),
            mib(needed)
        )
    }

    /// The refusal of a command that must not be executed now.
    pub fn refuse(&self, command: &Command) -> Option<Refusal> {
        if let Command::Load(rows) = command
            && self.level == Level::Everything
        {
            let needed = (rows.len() as u64).saturating_mul(ROW_BYTES).saturating_add(ROOM);
            return (self.free < needed).then(|| Refusal::ReadOnly(self.full(needed)));
        }
        let allowed = match self.level {
            Level::Everything => true,
            Level::Upkeep => !is_change(command),
            Level::Nothing => is_sign_of_life(command),
        };
        (!allowed).then(|| Refusal::ReadOnly(self.why.borrow().clone().unwrap_or_default()))
    }

    /// Whether leases and deadlines are waited for. Their ends are written.
    pub fn time_passes(&self) -> bool {
        self.level != Level::Nothing
    }
}

/// What may be written with these records unreadable, and why no more.
fn damage(unreadable: &[Unreadable]) -> Option<(Level, String)> {
    let first = unreadable.first()?;
    let mut why = format!("the board takes no writes: {first}");
    for other in unreadable.iter().skip(1).take(NAMED - 1) {
        // Writing to a String cannot fail.
        let _ = write!(why, "; {other}");
    }
    if unreadable.len() > NAMED {
        let _ = write!(why, "; and {} more", unreadable.len() - NAMED);
    }
    why.push_str(
        "; reads of everything else go on; hint: stop the board, look at its store with `stopover-bbs check`, and \
         restore a backup",
    );
    // Sessions need the hosts, and the ends of migrations need the migrations.
    let upkeep = [Table("nodes"), Table("members"), Table("networks"), Table("events"), Table("keys")];
    let level = if unreadable.iter().all(|record| upkeep.contains(&record.table)) {
        Level::Upkeep
    } else {
        Level::Nothing
    };
    Some((level, why))
}

/// What clients want changed.
fn is_change(command: &Command) -> bool {
    match command {
        Command::Claim { .. }
        | Command::Withdraw { .. }
        | Command::Join { .. }
        | Command::Leave { .. }
        | Command::SyncClaims(_)
        | Command::Declare(_)
        | Command::Delete(_)
        | Command::BeginMigration { .. }
        | Command::Load(_) => true,
        Command::Register(_)
        | Command::Heartbeat(_)
        | Command::WatchOpened { .. }
        | Command::WatchClosed(_)
        | Command::Deregister { .. }
        | Command::CompleteMigration { .. }
        | Command::AbortMigration { .. }
        | Command::ReportMigration { .. }
        | Command::Acked(_)
        | Command::Tick => false,
    }
}

/// What writes nothing as long as no lease expires.
fn is_sign_of_life(command: &Command) -> bool {
    matches!(command, Command::Heartbeat(_) | Command::WatchOpened { .. } | Command::WatchClosed(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Session;
    use stopover_net::HostName;

    fn session() -> Session {
        Session { host: HostName::new("gw-a").unwrap(), number: 1 }
    }

    fn refused(read_only: &ReadOnly) -> [bool; 3] {
        let sync = Command::SyncClaims(session());
        let end = Command::Deregister { session: session(), withdraw_all: false };
        [sync, end, Command::Heartbeat(session())].map(|command| read_only.refuse(&command).is_some())
    }

    #[test]
    fn a_full_disk_closes_the_board_in_steps_and_opens_it_again() {
        let mut read_only = ReadOnly::new(&[]);
        let why = read_only.subscribe();
        for (free, expected, passes) in [
            (ROOM, [false; 3], true),
            (ROOM - 1, [true, false, false], true),
            (RESERVE, [true, false, false], true),
            (RESERVE - 1, [true, true, false], false),
            (0, [true, true, false], false),
            (ROOM, [false; 3], true),
        ] {
            read_only.update(Some(free));
            assert_eq!(refused(&read_only), expected, "{free}");
            assert_eq!(read_only.time_passes(), passes, "{free}");
            assert_eq!((read_only.is_set(), why.borrow().is_some()), (expected[0], expected[0]), "{free}");
        }
        read_only.update(Some(5 << 20));
        let Some(Refusal::ReadOnly(why)) = read_only.refuse(&Command::SyncClaims(session())) else {
            panic!()
        };
        assert!(why.contains("the disk of its store is full, with 5.0 MiB free; expected 16.0 MiB"), "{why}");
    }

    #[test]
    fn a_load_needs_space_for_all_of_it() {
        let mut read_only = ReadOnly::new(&[]);
        read_only.update(Some(ROOM));
        assert!(read_only.refuse(&Command::Load(vec![])).is_none());
        let network = stopover_config::bulk::NetworkRow {
            vni: stopover_net::Vni::new(1).unwrap(),
            name: None,
            flood: Default::default(),
            mtu: 0,
        };
        let rows = vec![(1, crate::model::Row::Network(network))];
        let refusal = read_only.refuse(&Command::Load(rows.clone())).unwrap();
        assert!(refusal.to_string().contains("16.0 MiB free; expected 16.0"), "{refusal}");
        read_only.update(Some(ROOM + ROW_BYTES));
        assert!(read_only.refuse(&Command::Load(rows)).is_none());
    }

    #[test]
    fn unreadable_records_are_named_and_stay() {
        let record = |table, key: &str| Unreadable { table: Table(table), key: key.into() };
        let nodes: Vec<_> = (0..7).map(|n| record("nodes", &format!("VNI 7, 02:00:00:00:00:0{n}"))).collect();
        let mut read_only = ReadOnly::new(&nodes);
        read_only.update(Some(u64::MAX));
        assert_eq!(refused(&read_only), [true, false, false], "sessions go on");
        let why = read_only.subscribe().borrow().clone().unwrap();
        for text in ["record `VNI 7, 02:00:00:00:00:00` of table `nodes`", "and 2 more", "hint: "] {
            assert!(why.contains(text), "{why}");
        }
        let read_only = ReadOnly::new(&[record("hosts", "3")]);
        assert_eq!(refused(&read_only), [true, true, false], "a session needs the hosts");
    }
}
