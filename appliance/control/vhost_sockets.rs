//! Sockets of ports: makes their folders, and removes what an earlier run left. A process that was killed removes
//! nothing, and DPDK does not bind an existing path: without this the appliance could not start again after a crash.
//! A socket with a listener, and a file that is no socket, remain.

use anyhow::{Context, Result, bail};
use std::{
    io::ErrorKind,
    os::unix::{fs::FileTypeExt, net::UnixDatagram},
    path::Path,
};
use stopover_config::appliance::{Appliance, Vhost};

/// Makes the folders of this appliance's sockets, and removes the dead ones at the paths where its vhost-user ports
/// will listen.
///
/// # Errors
/// A folder cannot be made, another process listens at a path, or a file there is no socket.
pub fn prepare_sockets(config: &Appliance) -> Result<()> {
    prepare_folders(config)?;
    config.vhosts().try_for_each(|(_, vhost)| prepare_socket(&vhost))
}

/// Makes the folders of the sockets of other virtual devices.
///
/// # Errors
/// One cannot be made.
pub fn prepare_folders(config: &Appliance) -> Result<()> {
    vdevs(config).into_iter().try_for_each(prepare_folder)
}

/// The same for one vhost-user port.
pub fn prepare_socket(vhost: &Vhost) -> Result<()> {
    if let Some(folder) = vhost.path.parent() {
        make_folder(folder)?;
    }
    if vhost.client { Ok(()) } else { remove_if_dead(&vhost.path) }
}

/// Makes the folder of the socket of another virtual device.
pub fn prepare_folder(vdev: &str) -> Result<()> {
    socket_path(vdev).and_then(Path::parent).map_or(Ok(()), make_folder)
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!(
            "vdevs: cannot make the folder {}; expected one that exists or can be made; hint: correct the path",
            folder.display()
        )
    })
}

/// All vdev strings of the file.
fn vdevs(config: &Appliance) -> Vec<&str> {
    let mut eal = config.eal.iter();
    let mut vdevs: Vec<&str> = config.vdevs.iter().map(String::as_str).collect();
    while let Some(word) = eal.next() {
        match word.strip_prefix("--vdev=") {
            Some(vdev) => vdevs.push(vdev),
            None if word == "--vdev" => vdevs.extend(eal.next().map(String::as_str)),
            None => {}
        }
    }
    vdevs
}

/// The socket of this vdev string, whoever listens there: a VMM that makes it needs the folder, too.
fn socket_path(vdev: &str) -> Option<&Path> {
    let (name, arguments) = vdev.split_once(',')?;
    let key = [("net_virtio_user", "path="), ("net_memif", "socket=")]
        .into_iter()
        .find_map(|(driver, key)| name.trim().starts_with(driver).then_some(key))?;
    arguments.split(',').find_map(|a| a.strip_prefix(key)).map(Path::new).filter(|path| path.is_absolute())
}

fn remove_if_dead(path: &Path) -> Result<()> {
    let shown = path.display();
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        bail!(
            "vdevs: found a file at {shown} that is no socket; expected nothing or an old socket; hint: give `iface` another path"
        );
    }
    // A stream socket with a listener refuses a datagram socket because of its kind, and the listener does not
    // notice; a dead one refuses every connection.
    match UnixDatagram::unbound()?.connect(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("vdevs: cannot remove the old socket {shown}"))
        }
        _ => bail!(
            "vdevs: another process listens at {shown}; expected a path of our own; hint: stop it, or give `iface` another path"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn folder_of_every_socket_is_found() {
        let of = |vdev| socket_path(vdev).and_then(Path::parent).map(|p| p.to_str().unwrap());
        assert_eq!(of("net_memif0,id=1,socket=/run/memif/a.sock"), Some("/run/memif"));
        assert_eq!(of("net_virtio_user0,path=/run/other/b.sock"), Some("/run/other"));
        assert_eq!(of("net_memif0,socket=@abstract"), None);
        assert_eq!(of("net_tap0,iface=tap0"), None);
    }

    #[test]
    fn only_a_dead_socket_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        remove_if_dead(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let why = remove_if_dead(&path).unwrap_err().to_string();
        assert!(why.contains("another process listens at") && why.contains("hint: "), "{why}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "its owner was not disturbed"
        );
        drop(listener);
        assert!(path.exists());
        remove_if_dead(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(remove_if_dead(&path).unwrap_err().to_string().contains("no socket"));
        assert!(path.exists());
    }
}
