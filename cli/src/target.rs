//! Which appliance or board a command is for: options first, then the environment, then the only one that is found.

use crate::output::Failure;
use std::{
    ffi::OsString,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use stopover_bbs::client::BoardAddress;
use stopover_config::Endpoint;
use stopover_ctl::Client;
use stopover_pki::ClientTls;

/// The environment of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `STOPOVER_CTL`.
    pub ctl: Option<OsString>,
    /// `STOPOVER_BOARD`.
    pub board: Option<OsString>,
    /// `STOPOVER_TLS`, or `--tls`.
    pub tls: Option<PathBuf>,
    /// `STOPOVER_INSECURE=1`, or `--insecure`.
    pub insecure: bool,
    /// Default directory of the appliances' sockets.
    pub run: PathBuf,
}

impl Environment {
    /// Of this process.
    pub fn from_process() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        Self {
            ctl: var("STOPOVER_CTL"),
            board: var("STOPOVER_BOARD"),
            tls: var("STOPOVER_TLS").map(PathBuf::from),
            insecure: stopover_config::is_insecure(false, var("STOPOVER_INSECURE").as_deref()),
            run: "/run/stopover".into(),
        }
    }

    /// The same with options, which override what the environment has.
    pub fn with_options(self, tls: Option<&Path>, insecure: bool) -> Self {
        Self { tls: tls.map(Path::to_owned).or(self.tls), insecure: insecure || self.insecure, ..self }
    }
}

/// The target of a `show`.
#[derive(Debug)]
pub enum Side {
    /// An appliance.
    Appliance(Client),
    /// A board.
    Board(BoardAddress),
}

/// The target of a `show`; `both` when a board could answer it too.
pub fn choose_side(
    ctl: Option<&Path>,
    board: Option<&Endpoint>,
    env: &Environment,
    both: bool,
) -> Result<Side, Failure> {
    match (ctl, board) {
        (Some(_), Some(_)) => Err(Failure::Message(
            "found both --ctl and --board; expected one; hint: leave out the one you do not ask".into(),
        )),
        (None, Some(_)) if !both => Err(Failure::Message(
            "found --board; expected an appliance for this; hint: give --ctl instead, the board does not know it".into(),
        )),
        (None, Some(_)) => Ok(Side::Board(self::board(board, env)?)),
        (None, None) if both && env.ctl.is_none() && env.board.is_some() => {
            Ok(Side::Board(self::board(None, env)?))
        }
        _ => Ok(Side::Appliance(appliance(ctl, env)?)),
    }
}

/// The appliance a command is for.
pub fn appliance(ctl: Option<&Path>, env: &Environment) -> Result<Client, Failure> {
    if let Some(path) = ctl {
        return Ok(Client::new(path));
    }
    match &env.ctl {
        Some(path) => Ok(Client::new(path)),
        None => Ok(Client::new(only_socket(&env.run)?)),
    }
}

/// An appliance gives its control socket this mode. A socket that is only bound, as by a vhost-user port, keeps the
/// bits to execute. A test by a connection would disturb a VMM that waits at its own socket for one.
const CONTROL_MODE: u32 = 0o660;

fn is_control(entry: &std::fs::DirEntry) -> bool {
    let (path, name) = (entry.path(), entry.file_name());
    path.extension().is_some_and(|e| e == "sock")
        && name != "bbs.sock"
        && entry
            .metadata()
            .is_ok_and(|m| m.file_type().is_socket() && m.permissions().mode() & 0o777 == CONTROL_MODE)
}

/// The one control socket in `run`. The board's own socket does not count, nor do those of vhost-user ports.
fn only_socket(run: &Path) -> Result<PathBuf, String> {
    let mut sockets: Vec<PathBuf> = std::fs::read_dir(run)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().filter(is_control))
        .map(|entry| entry.path())
        .collect();
    sockets.sort();
    match (sockets.pop(), sockets.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => {
            Err(format!("no appliance has a socket in {}; start one, or give --ctl PATH", run.display()))
        }
        (Some(last), others) => {
            let all = others.iter().chain([&last]).map(|p| p.display().to_string()).collect::<Vec<_>>();
            Err(format!("several sockets in {}; choose one with --ctl: {}", run.display(), all.join(", ")))
        }
    }
}

/// The board meant.
pub fn board(board: Option<&Endpoint>, env: &Environment) -> Result<BoardAddress, Failure> {
    let endpoint = board.map_or_else(|| board_of(env), |endpoint| Ok(endpoint.clone()))?;
    let at = if board.is_some() { "--board" } else { "STOPOVER_BOARD" };
    endpoint.require_secure(at, env.insecure).map_err(Failure::Message)?;
    if !matches!(endpoint, Endpoint::Tls { .. }) {
        return Ok(endpoint.into());
    }
    let Some(folder) = &env.tls else {
        return Err(Failure::Message(format!(
            "found {endpoint} without credentials; expected --tls or STOPOVER_TLS; hint: give the folder of your credentials"
        )));
    };
    let tls = ClientTls::load(folder).map_err(|e| Failure::Message(e.to_string()))?;
    Ok(BoardAddress { endpoint, tls: Some(tls) })
}

/// The board of the environment.
fn board_of(env: &Environment) -> Result<Endpoint, Failure> {
    let Some(value) = &env.board else {
        return Err(Failure::Message(
            "found no board to ask; expected --board or STOPOVER_BOARD; hint: give for example --board https://10.9.0.1:7480".into(),
        ));
    };
    value.to_string_lossy().parse().map_err(|found: String| {
        Failure::Message(format!(
            "STOPOVER_BOARD: found {found}; expected https://host:port, unix:/path or http://host:port; hint: correct the variable"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(ctl: &str, board: &str) -> Environment {
        let var = |s: &str| Some(OsString::from(s)).filter(|s| !s.is_empty());
        Environment { ctl: var(ctl), board: var(board), tls: None, insecure: true, run: "/absent".into() }
    }

    fn message<T: std::fmt::Debug>(r: Result<T, Failure>) -> String {
        match r {
            Err(Failure::Message(m)) => m,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_precede_environment_precedes_default() {
        let board: Endpoint = "http://b:1".parse().unwrap();
        let both = env("/env.sock", "http://env:1");
        let ctl = Path::new("/x.sock");
        assert!(
            matches!(choose_side(Some(ctl), None, &both, true), Ok(Side::Appliance(c)) if c.socket() == ctl)
        );
        assert!(
            matches!(choose_side(None, Some(&board), &both, true), Ok(Side::Board(b)) if b.endpoint == board)
        );
        assert!(
            matches!(choose_side(None, None, &both, true), Ok(Side::Appliance(c)) if c.socket() == Path::new("/env.sock"))
        );
        let only_board = env("", "http://env:1");
        assert!(
            matches!(choose_side(None, None, &only_board, true), Ok(Side::Board(b)) if b.endpoint.to_string() == "http://env:1")
        );
        assert!(
            message(choose_side(None, None, &only_board, false))
                .contains("no appliance has a socket in /absent")
        );
        assert!(
            message(choose_side(Some(ctl), Some(&board), &both, true)).contains("both --ctl and --board")
        );
        assert!(
            message(choose_side(None, Some(&board), &both, false)).contains("the board does not know it")
        );
        assert!(message(super::board(None, &env("", ""))).contains("--board https://"));
        assert!(message(super::board(None, &env("", "b:1"))).starts_with("STOPOVER_BOARD: found `b:1`"));
    }

    #[test]
    fn a_board_at_plain_tcp_needs_a_permission() {
        let secure = Environment { insecure: false, ..env("", "http://env:1") };
        assert!(
            message(super::board(None, &secure))
                .starts_with("STOPOVER_BOARD: found http://env:1, which is plain")
        );
        let option: Endpoint = "http://b:1".parse().unwrap();
        assert!(
            message(super::board(Some(&option), &secure))
                .starts_with("--board: found http://b:1, which is plain")
        );
        assert!(super::board(Some(&option), &secure.with_options(None, true)).is_ok());
    }

    #[test]
    fn a_board_with_tls_needs_credentials() {
        let board: Endpoint = "https://b:1".parse().unwrap();
        let none = env("", "");
        assert_eq!(
            message(super::board(Some(&board), &none)),
            "found https://b:1 without credentials; expected --tls or STOPOVER_TLS; hint: give the folder of your credentials"
        );
        let absent = none.with_options(Some(Path::new("/absent")), false);
        assert!(
            message(super::board(Some(&board), &absent)).starts_with("/absent/ca.pem: found No such file")
        );
    }

    #[test]
    fn the_only_socket_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = Vec::new();
        let mut socket = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            open.push(std::os::unix::net::UnixListener::bind(&path).unwrap());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(only_socket(dir.path()).unwrap_err().contains("start one"));
        socket("bbs.sock", 0o660);
        socket("vm1.sock", 0o755);
        std::fs::write(dir.path().join("notes.sock"), "").unwrap();
        assert!(only_socket(dir.path()).unwrap_err().contains("start one"));
        socket("gw-a.sock", 0o660);
        assert_eq!(only_socket(dir.path()).unwrap(), dir.path().join("gw-a.sock"));
        socket("gw-b.sock", 0o660);
        let e = only_socket(dir.path()).unwrap_err();
        assert!(e.contains("gw-a.sock, ") && e.ends_with("gw-b.sock"), "{e}");
    }
}
