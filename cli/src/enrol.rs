//! `stopover enrol`: this machine's first certificate, by a token.

use crate::{
    args::Enrol,
    output::{Failure, Output},
    render::{self, EnrolledRow},
};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};
use stopover_bbs::client;
use stopover_config::{ConfigError, Endpoint};
use stopover_pki::{Newcomer, Token};

/// A file with a token is not longer.
const MAX_FILE: u64 = 4096;

/// Runs it. Everything that can be wrong here is found before the token is used.
pub async fn enrol(board: Option<&Endpoint>, command: Enrol, out: Output) -> Result<(), Failure> {
    let Enrol { token, token_file, out: folder, force } = command;
    let Some(board) = board else {
        return Err(Failure::Message(
            "found no board; expected --board; hint: give the `listen` of `enrol` in the board's file, for example \
             https://10.9.0.1:7481"
                .into(),
        ));
    };
    let text = match (token, token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => read(&path)?,
        (None, None) => {
            return Err(Failure::Message("found no token; expected --token or --token-file".into()));
        }
    };
    let token: Token = text.trim().parse().map_err(|e| Failure::Message(format!("{e}")))?;
    Newcomer::check_folder(&folder, force)?;
    let newcomer = Newcomer::new(token).map_err(|e| Failure::Message(e.to_string()))?;
    let answer = client::enrol(board, &newcomer).await.map_err(|e| Failure::Message(e.to_string()))?;
    let identity = newcomer.finish(&answer, &folder).map_err(|e| {
        Failure::Message(format!("{e}; the token is used up, so ask for a new one before the next attempt"))
    })?;
    out.print_item(&EnrolledRow::new(&identity, &folder), render::enrolled)
}

/// The text of a file, or of standard input.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().take(MAX_FILE).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
    };
    read.map_err(|e| ConfigError::io(path, "a file with a token", &e))?;
    Ok(text)
}
