//! Files of keys and certificates on disk: each is replaced as a whole, so that after a crash or a power cut there is the
//! old one or the new one. A folder of credentials is replaced as a whole too.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};
use stopover_config::ConfigError;

/// Of files that everyone may read.
pub const PUBLIC: u32 = 0o644;
/// Of files and folders with a key.
pub const SECRET: u32 = 0o600;
const SECRET_FOLDER: u32 = 0o700;
/// No file of a CA is longer: a list of some hundred thousand certificates.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of a file; `None` if there is no such file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("more than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(Some(bytes))
}

/// Writes or replaces a file.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), ConfigError> {
    let new = beside(path, "new");
    let work = || {
        remove_file(&new)?;
        write_new(&new, mode, bytes)?;
        fs::rename(&new, path)?;
        File::open(parent(path))?.sync_all()
    };
    work().map_err(|e| not_written(path, &e))
}

/// Makes a folder that only its owner may enter, if it does not exist.
pub fn make_folder(path: &Path) -> Result<(), ConfigError> {
    let made = fs::DirBuilder::new().recursive(true).mode(SECRET_FOLDER).create(path);
    made.map_err(|e| not_written(path, &e))
}

/// Whether [`replace_folder`] can make its new folder; this one is removed again.
pub fn try_folder(path: &Path) -> Result<(), ConfigError> {
    let new = beside(path, "try");
    let work = || {
        remove_folder(&new, &[])?;
        fs::DirBuilder::new().mode(SECRET_FOLDER).create(&new)?;
        remove_folder(&new, &[])
    };
    work().map_err(|e| not_written(path, &e))
}

/// Writes or replaces a folder with all of its files, in one step: whoever opens the folder finds all files of before, or
/// all of now. Owner, group and mode of a replaced folder stay, and of its files the owner and group. Only files of these
/// names may be in it.
pub fn replace_folder(path: &Path, files: &[(&str, u32, &str)]) -> Result<(), ConfigError> {
    let new = beside(path, "new");
    let work = || {
        remove_folder(&new, files)?;
        fs::DirBuilder::new().mode(SECRET_FOLDER).create(&new)?;
        for (name, mode, text) in files {
            write_new(&new.join(name), *mode, text.as_bytes())?;
        }
        let old = match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            other => Some(other?),
        };
        if let Some(old) = &old {
            let owned = std::iter::once(new.clone()).chain(files.iter().map(|(name, ..)| new.join(name)));
            owned.into_iter().try_for_each(|path| chown(path, Some(old.uid()), Some(old.gid())))?;
            fs::set_permissions(&new, old.permissions())?;
        }
        File::open(&new)?.sync_all()?;
        let flags = if old.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &new, CWD, path, flags)?;
        File::open(parent(path))?.sync_all()?;
        remove_folder(&new, files)
    };
    work().map_err(|e| not_written(path, &e))
}

/// The first entry of a folder that is none of these files.
pub fn foreign_entry(path: &Path, names: &[&str]) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if !names.iter().any(|name| entry.file_name() == *name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Opens a file that is locked as long as it is open. `None` if another process has the lock.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(SECRET).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(path)?;
    // The mode of `open` is less the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes these files and the folder; not what else may be in it.
fn remove_folder(path: &Path, files: &[(&str, u32, &str)]) -> io::Result<()> {
    files.iter().try_for_each(|(name, ..)| remove_file(&path.join(name)))?;
    match fs::remove_dir(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The name with an ending, in the same folder.
fn beside(path: &Path, ending: &str) -> PathBuf {
    // Without the last slash, if there is one.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn not_written(path: &Path, e: &io::Error) -> ConfigError {
    let hint = match e.kind() {
        ErrorKind::PermissionDenied => "run as a user who may write there",
        ErrorKind::NotFound => "make the folder above it first",
        ErrorKind::StorageFull => "make room on the disk",
        _ => "see that it and the folder above it are on one local disk",
    };
    ConfigError::new(path, format!("cannot be written: {e}"), "a place to write to", hint)
}
