//! Writes the state file in a thread of its own: a disk may take longer than a migration can wait for the control thread.

use anyhow::{Context, Result};
use crossbeam::channel::{self, Receiver, Sender};
use std::{io, path::PathBuf};
use stopover_config::appliance::State;

/// The thread's two ends. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    orders: Sender<(PathBuf, State)>,
    stored: Receiver<io::Result<()>>,
}

impl Writer {
    /// # Errors
    /// No thread can be started.
    pub fn start() -> Result<Self> {
        let (orders, to_store) = channel::unbounded::<(PathBuf, State)>();
        let (done, stored) = channel::unbounded();
        let run = move || {
            for (path, state) in to_store {
                if done.send(state.store(&path)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("stopover-state".to_owned());
        thread.spawn(run).context("cannot start the thread that writes the state file")?;
        Ok(Self { orders, stored })
    }

    /// Has the file written. The result arrives at [`Writer::stored`].
    pub fn store(&self, path: PathBuf, state: State) {
        // The thread lives as long as this.
        let _ = self.orders.send((path, state));
    }

    /// One result for each order.
    pub const fn stored(&self) -> &Receiver<io::Result<()>> {
        &self.stored
    }
}
