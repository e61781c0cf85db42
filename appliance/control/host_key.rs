//! The host's static key pair (X25519, RFC 7748), by which other hosts know it, wherever it is reached. The appliance makes
//! it at its first start with a board; the secret half never leaves this host. Enters: the path of the key file. Leaves:
//! the public half, for the host's record at the board.
//!
//! The file has the secret half: one line of 64 hexadecimal digits, for its owner alone. A file that is wrong ends the
//! start, because a new key would make this host another one to its peers.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};
use stopover_bbs::client::PublicKey;
use stopover_tunnel::handshake::StaticKey;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Bytes of the secret half.
const LENGTH: usize = 32;
/// No key file is longer. A larger one is not read to its end.
const MOST_BYTES: u64 = 2 * LENGTH as u64 + 16;
/// Only its owner reads and writes the file.
const MODE: u32 = 0o600;

/// Why there is no key. The text says where, what was found and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file is there, and must not be used.
    #[error("{path}: found {found}; expected {expected}; hint: {hint}")]
    Bad {
        /// The key file.
        path: String,
        /// What was found.
        found: String,
        /// What belongs there.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// There is none, and none can be made.
    #[error("{path}: the host's key cannot be made: {error}; hint: let the appliance write to this folder")]
    NotMade {
        /// The key file.
        path: String,
        /// The reason.
        error: io::Error,
    },
}

impl HostKeyError {
    fn bad(path: &Path, found: impl Into<String>, expected: &'static str, hint: &'static str) -> Self {
        Self::Bad { path: path.display().to_string(), found: found.into(), expected, hint }
    }
}

/// The public half of the key in this file; `None` if there is no file.
///
/// # Errors
/// The file has no key, others may read it, or it cannot be read.
pub fn read(path: &Path) -> Result<Option<PublicKey>, HostKeyError> {
    Ok(read_secret(path)?.and_then(|secret| public_half(&secret)))
}

/// The key pair in this file, for handshakes; `None` if there is no file.
///
/// # Errors
/// As for [`read`].
pub fn pair(path: &Path) -> Result<Option<StaticKey>, HostKeyError> {
    Ok(read_secret(path)?.map(|secret| StaticKey::new(*secret)))
}

fn read_secret(path: &Path) -> Result<Option<Zeroizing<[u8; LENGTH]>>, HostKeyError> {
    let restore = "put back the key of this host, or remove the file: then a new key is made";
    let unreadable =
        |e: io::Error| HostKeyError::bad(path, format!("an error: {e}"), "a file that can be read", restore);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("mode {mode:04o}, by which others than its owner may use it");
        return Err(HostKeyError::bad(path, found, "mode 0600", "if nobody has read it, chmod 600"));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(unreadable)?;
    let key = parse(&text).map(Zeroizing::new).filter(|secret| public_half(secret).is_some());
    let expected = "one line of 64 hexadecimal digits, not all 0";
    key.map(Some).ok_or_else(|| HostKeyError::bad(path, "no key", expected, restore))
}

/// The public half of the key in this file, which is made with this secret half if there is none.
///
/// # Errors
/// As for [`read`], or the file cannot be written.
pub fn open(path: &Path, fresh: [u8; LENGTH]) -> Result<PublicKey, HostKeyError> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let not_made = |error| HostKeyError::NotMade { path: path.display().to_string(), error };
    store(path, &fresh).map_err(not_made)?;
    let key = read(path)?.ok_or_else(|| not_made(ErrorKind::NotFound.into()))?;
    log::info!("{}: made the key of this host; its public half is {key}", path.display());
    Ok(key)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &[u8]) -> Option<[u8; LENGTH]> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let mut secret = [0; LENGTH];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    (secret != [0; LENGTH]).then_some(secret)
}

fn public_half(secret: &[u8; LENGTH]) -> Option<PublicKey> {
    let public = x25519_dalek::PublicKey::from(&StaticSecret::from(*secret));
    PublicKey::new(public.to_bytes())
}

/// Writes the file: after a power cut there is the whole of it, or none.
fn store(path: &Path, secret: &[u8; LENGTH]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match std::fs::remove_file(new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    // The mode of `open` is less the umask.
    file.set_permissions(Permissions::from_mode(MODE))?;
    writeln!(file, "{}", hexadecimal(secret))?;
    file.sync_all()?;
    // A key that another process has made meanwhile stays.
    let linked = std::fs::hard_link(new, path);
    std::fs::remove_file(new)?;
    linked?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// The key pair of Alice (RFC 7748 section 6.1).
    const SECRET: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const PUBLIC: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";

    fn folder() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hv-a.host-key");
        (dir, path)
    }

    fn write(path: &Path, text: &[u8], mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_read_as_rfc_7748_has_it() {
        let (_dir, path) = folder();
        for text in [format!("{SECRET}\n"), SECRET.to_uppercase()] {
            write(&path, text.as_bytes(), 0o600);
            assert_eq!(read(&path).unwrap().unwrap().to_string(), PUBLIC, "{text}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_stays() {
        let (dir, path) = folder();
        assert_eq!(read(&path).unwrap(), None);
        // What a power cut has left.
        write(&dir.path().join("hv-a.host-key.new"), b"half", 0o644);
        let key = open(&path, parse(SECRET.as_bytes()).unwrap()).unwrap();
        assert_eq!(key.to_string(), PUBLIC);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(open(&path, [7; LENGTH]).unwrap(), key, "the second start keeps it");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{SECRET}\n"));
        assert!(store(&path, &[7; LENGTH]).is_err(), "another process has made one meanwhile");
        assert_eq!(open(&path, [7; LENGTH]).unwrap(), key);
    }

    #[test]
    fn a_wrong_key_file_is_refused_and_kept() {
        let half = &SECRET[..62];
        let wrong: [(&str, u32, &str); 8] = [
            ("", 0o600, "found no key; expected one line of 64"),
            (half, 0o600, "found no key"),
            (&format!("{half}g0"), 0o600, "found no key"),
            (&format!("{half}+0"), 0o600, "found no key"),
            (&format!("{SECRET}\n\n"), 0o600, "found no key"),
            (&"0".repeat(64), 0o600, "not all 0"),
            (SECRET, 0o640, "found mode 0640"),
            (SECRET, 0o604, "found mode 0604"),
        ];
        for (text, mode, why) in wrong {
            let (_dir, path) = folder();
            write(&path, text.as_bytes(), mode);
            let e = open(&path, [7; LENGTH]).unwrap_err().to_string();
            assert!(e.starts_with(&path.display().to_string()), "{e}");
            assert!(e.contains(why) && e.contains("; hint: "), "{why}: {e}");
            assert!(!e.contains(half) || text.is_empty(), "the message must not have the key: {e}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_key_that_cannot_be_made_is_another_error() {
        let (dir, _) = folder();
        let e = open(&dir.path().join("absent/hv-a.host-key"), [7; LENGTH]).unwrap_err();
        assert!(matches!(e, HostKeyError::NotMade { .. }), "{e}");
        let e = read(dir.path()).unwrap_err();
        assert!(matches!(e, HostKeyError::Bad { .. }), "a folder: {e}");
    }

    proptest! {
        #[test]
        fn any_secret_is_read_as_written(secret in any::<[u8; LENGTH]>()) {
            prop_assume!(secret != [0; LENGTH]);
            prop_assert_eq!(parse(format!("{}\n", hexadecimal(&secret)).as_bytes()), Some(secret));
        }

        #[test]
        fn whatever_is_read_is_written_alike(text in "[0-9a-f]{60,66}") {
            if let Some(secret) = parse(text.as_bytes()) {
                prop_assert_eq!(hexadecimal(&secret), text);
            }
        }
    }
}
