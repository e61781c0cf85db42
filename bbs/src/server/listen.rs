//! The listening sockets. `tls` is behind those with TLS.

use anyhow::{Context, bail};
use std::{
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use stopover_config::Endpoint;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Permissions of the socket: for owner and group.
const SOCKET_MODE: u32 = 0o660;

pub(super) enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// The socket's file, to be removed at the end.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => None,
            Self::Unix(_, path) => Some(path.clone()),
        }
    }
}

/// Opens the socket. Returns the endpoint with the real port.
pub(super) async fn listen(endpoint: &Endpoint) -> anyhow::Result<(Listener, Endpoint)> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let (listener, port) = tcp(endpoint, host, *port).await?;
            Ok((Listener::Tcp(listener), Endpoint::Tcp { host: host.clone(), port }))
        }
        Endpoint::Tls { host, port } => {
            let (listener, port) = tcp(endpoint, host, *port).await?;
            Ok((Listener::Tls(listener), Endpoint::Tls { host: host.clone(), port }))
        }
        Endpoint::Unix(path) => Ok((unix(path).await?, endpoint.clone())),
    }
}

/// A TCP socket, and its real port.
async fn tcp(endpoint: &Endpoint, host: &str, port: u16) -> anyhow::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((host, port)).await.with_context(|| {
        format!("cannot listen on {endpoint}; expected a free port of an address of this machine")
    })?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn unix(path: &Path) -> anyhow::Result<Listener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            bail!("{} exists and is not a socket; expected nothing or an old socket there", path.display())
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => bail!("another process listens on {}; stop it, or choose another path", path.display()),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)
                    .with_context(|| format!("cannot remove the stale socket {}", path.display()))?;
            }
            Err(e) => {
                return Err(e).with_context(|| format!("cannot tell whether {} is in use", path.display()));
            }
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot look at {}", path.display())),
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| {
            format!("cannot make the folder {}; expected one that exists or can be made", folder.display())
        })?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!("cannot listen on {}; expected a directory that exists and may be written", path.display())
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/bbs.sock"); // in a folder that does not exist
        let endpoint = Endpoint::Unix(path.clone());
        let first = listen(&endpoint).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let Err(e) = listen(&endpoint).await else { panic!("took over a live socket") };
        assert!(e.to_string().contains("another process listens"), "{e}");
        drop(first);
        assert!(path.exists(), "the socket file outlives its listener");
        assert!(listen(&endpoint).await.is_ok());
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(listen(&Endpoint::Unix(file.clone())).await.is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
