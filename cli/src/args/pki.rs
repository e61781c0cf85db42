//! `pki …`: the commands of a private CA. `enrol`: how one becomes a holder of its certificates.

use clap::{ArgGroup, Args, Subcommand};
use jiff::SignedDuration;
use std::path::PathBuf;
use stopover_net::HostName;
use stopover_pki::{Role, Serial};

/// `pki …`
#[derive(Debug, Args)]
pub struct Pki {
    /// Folder of the CA.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/etc/stopover/ca")]
    pub ca: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// The word after `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a CA in a folder that has none.
    Init(CaDays),
    /// Issue a certificate and its key, into a folder for their holder. If that is the holder's folder already, both are
    /// replaced.
    Issue {
        /// What the holder is: board, host, operator, observer, program or member.
        role: Role,
        /// The holder's name; a host's as in its configuration.
        name: HostName,
        /// The holder's folder.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// For how long.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Revoke certificates: all of one holder, or the one with a serial number.
    #[command(group = ArgGroup::new("which").required(true).args(["role", "serial"]))]
    Revoke {
        /// What the holder is.
        #[arg(requires = "name")]
        role: Option<Role>,
        /// The holder's name.
        #[arg(requires = "role")]
        name: Option<HostName>,
        /// Only this certificate, by its number in `pki list`.
        #[arg(long)]
        serial: Option<Serial>,
    },
    /// List the certificates.
    List,
    /// Tokens, with which a machine gets its first certificate itself, by `stopover enrol`.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Change the CA's key: begin with a new one beside the old one, or with --finish forget the old one.
    Rotate {
        #[command(flatten)]
        days: CaDays,
        /// Forget the old key.
        #[arg(long)]
        finish: bool,
        /// Forget it even though somebody has no certificate of the new key, and is shut out then.
        #[arg(long, requires = "finish")]
        force: bool,
    },
}

/// The word after `pki token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it. Whoever has it may be this holder, once.
    Issue {
        /// What the holder will be: host, operator, observer, program or member.
        role: Role,
        /// The holder's name; a host's as in its configuration.
        name: HostName,
        /// For how long, for example 30m or 8h: at least 1m, at most 168h.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = valid)]
        valid: u64,
    },
    /// List the tokens, without their secrets.
    List,
    /// Revoke the open tokens of one holder.
    Revoke {
        /// What the holder would be.
        role: Role,
        /// The holder's name.
        name: HostName,
    },
}

/// A time in whole seconds.
fn valid(text: &str) -> Result<u64, String> {
    let span: Option<SignedDuration> = text.parse().ok();
    let seconds = span.and_then(|span| u64::try_from(span.as_secs()).ok());
    seconds
        .filter(|s| (60..=168 * 3600).contains(s))
        .ok_or_else(|| "expected 1m to 168h, written for example 30m or 8h".to_owned())
}

/// `enrol`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("secret").required(true).args(["token", "token_file"]))]
pub struct Enrol {
    /// The token that `stopover pki token issue` printed. Other users of this machine can see it while the command runs.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A file with the token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The folder for the credentials, which is made.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Replace the credentials that are there.
    #[arg(long)]
    pub force: bool,
}

/// Of a CA's certificate.
#[derive(Debug, Clone, Copy, Args)]
pub struct CaDays {
    /// For how long; no certificate that it signs is valid for longer.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_a_minute_to_a_week() {
        let cases = [
            ("1h", Ok(3600)),
            ("30m", Ok(1800)),
            ("1h 30m", Ok(5400)),
            ("90s", Ok(90)),
            ("168h", Ok(604_800)),
        ];
        for (text, seconds) in cases {
            assert_eq!(valid(text), seconds, "{text}");
        }
        for text in ["", "1", "59s", "169h", "-1h", "1h ago", "x"] {
            assert!(valid(text).is_err(), "{text}");
        }
    }
}
