//! A folder for sockets that only this user reaches. Enters: nothing. Leaves: its path; it is removed with its content.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// Where a container may write that has no folder for temporary files.
const OTHERS: [&str; 2] = ["/run", "/dev/shm"];
/// Folders of processes that were killed may have the name.
const ATTEMPTS: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, where this process may write.
    ///
    /// # Errors
    /// It may nowhere.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
            .or_else(|e| OTHERS.iter().find_map(|other| Self::within(Path::new(other)).ok()).ok_or(e))
    }

    /// A new one in this folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn within(folder: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let number = NEXT.fetch_add(1, Relaxed);
            let folder = folder.join(format!("stopover-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            log::debug!("{}: cannot be removed: {e}", self.0.display());
        }
    }
}
