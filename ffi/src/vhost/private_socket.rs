//! Where librte_vhost and the relay ([`stopover_vmm`]) meet, to which VMMs connect. One of them listens at a socket that
//! only this process reaches. Enters: the name of a port. Leaves: what librte_vhost is to listen at or to connect to, then
//! the relay's side. The socket then has no path: nothing is left of a process that is killed.
//!
//! librte_vhost connects where it would connect to a VMM: that takes one of the descriptors that it can watch, to listen
//! takes two. Where VMMs connect there may be several at once, so there it listens.

use std::ffi::{CString, OsStr};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use stopover_vmm::{BackEnd, Folder};

/// See the module.
#[derive(Debug)]
pub(super) struct PrivateSocket {
    /// For librte_vhost, which names it in its log.
    path: CString,
    side: Side,
}

#[derive(Debug)]
enum Side {
    /// librte_vhost listens at the path.
    Listens(Folder),
    /// It connects to this listener.
    Connects(UnixListener),
}

/// What librte_vhost knows a socket by.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: CString,
    /// What a path below `/proc/self/fd` means.
    _socket: Option<OwnedFd>,
}

impl PrivateSocket {
    /// librte_vhost will listen.
    pub(super) fn listens(port: &str) -> io::Result<Self> {
        let folder = Folder::new()?;
        let path = CString::new(folder.path().join(port).as_os_str().as_bytes());
        Ok(Self { path: path.map_err(|_| io::ErrorKind::InvalidInput)?, side: Side::Listens(folder) })
    }

    /// It will connect. Returns also what must be kept as long as it does.
    pub(super) fn connects() -> io::Result<(Self, OwnedFd)> {
        let folder = Folder::new()?;
        let path = folder.path().join("private");
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let socket = open(&path)?;
        let path = CString::new(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
        Ok((Self { path, side: Side::Connects(listener) }, socket))
    }

    /// For librte_vhost.
    pub(super) const fn path(&self) -> &CString {
        &self.path
    }

    /// What librte_vhost knows, and the relay's side. It listens, or has connected.
    pub(super) fn split(self, socket: Option<OwnedFd>) -> io::Result<(Known, BackEnd)> {
        let back = match self.side {
            Side::Listens(_folder) => {
                BackEnd::Listens(open(Path::new(OsStr::from_bytes(self.path.as_bytes())))?)
            }
            Side::Connects(listener) => BackEnd::Connects(listener.into()),
        };
        Ok((Known { path: self.path, _socket: socket }, back))
    }
}

/// The socket at a path, as a place.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}
