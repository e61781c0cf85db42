//! What `stopover-bbs` does with stores beside serving: makes, backs up, checks and restores them.

use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use stopover_bbs::{
    board::record::{NextHost, TABLES},
    client::{BoardAddress, Connection, connect},
    proto::{parse, v1},
    server::{Writer, inspect},
    store::{Copy, Header, Look, Redb, Store, sync_folder},
    table::{Record, Table},
};
use stopover_config::Endpoint;
use stopover_pki::ClientTls;

/// Findings that are printed.
const SHOWN: usize = 100;

/// The store of a command: that of the configuration, or a file.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Configuration file (RON), whose `store` is meant.
    #[arg(value_name = "FILE", required_unless_present = "store")]
    config: Option<PathBuf>,
    /// The store's file, in place of the configuration's.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

impl Which {
    fn store(self) -> anyhow::Result<PathBuf> {
        // The whole file is read, so that a mistake in it is found before the first start.
        let file = self.config.as_deref().map(stopover_config::bbs::load).transpose()?;
        match self.store.or(file.map(|file| file.store)) {
            Some(path) => Ok(path),
            None => bail!("no store; expected a configuration FILE or `--store FILE`"),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Backup {
    /// Configuration file (RON) of the board, which must run.
    #[arg(value_name = "FILE", required_unless_present = "board")]
    config: Option<PathBuf>,
    /// Where the board serves, in place of the configuration's first endpoint.
    #[arg(long, value_name = "ENDPOINT")]
    board: Option<Endpoint>,
    /// The folder of an operator's credentials, for a board at https. [environment: STOPOVER_TLS]
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    /// Permit --board http://ADDRESS:PORT. [environment: STOPOVER_INSECURE=1]
    #[arg(long)]
    insecure: bool,
    /// The backup. There must be no such file.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Restore {
    #[command(flatten)]
    which: Which,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Replace a store that is there. It is kept beside the new one, with `.replaced` after its name.
    #[arg(long)]
    replace: bool,
}

/// Whether plain TCP is permitted, by an option or by the environment.
pub fn is_insecure(option: bool) -> bool {
    stopover_config::is_insecure(option, std::env::var_os("STOPOVER_INSECURE").as_deref())
}

/// Makes a new, empty board.
pub fn init(which: Which) -> anyhow::Result<()> {
    let path = which.store()?;
    let store = Redb::create(&path)?;
    println!("{}: an empty board, {}", path.display(), store.board_id().simple());
    Ok(())
}

/// Copies the store of a running board.
pub fn backup(backup: Backup) -> anyhow::Result<()> {
    let file = backup.config.as_deref().map(stopover_config::bbs::load).transpose()?;
    let insecure = is_insecure(backup.insecure) || file.as_ref().is_some_and(|file| file.insecure);
    let listen = file.and_then(|file| file.listen.into_iter().next());
    let Some(board) = backup.board.or(listen) else {
        bail!("no board; expected a configuration FILE or `--board ENDPOINT`");
    };
    board.require_secure("--board", insecure).map_err(anyhow::Error::msg)?;
    let folder = backup.tls.or_else(|| std::env::var_os("STOPOVER_TLS").map(PathBuf::from));
    let tls = folder.as_deref().map(ClientTls::load).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let header = runtime.block_on(async {
        let connection = connect(BoardAddress { endpoint: board, tls }).await?;
        receive(&connection, &backup.to).await
    })?;
    let found = look(&backup.to)?;
    println!("{}: {header}, {} hosts, {} nodes", backup.to.display(), found.hosts, found.nodes);
    report(&found.findings)
}

async fn receive(connection: &Connection, to: &Path) -> anyhow::Result<Header> {
    let mut chunks = connection.operator().backup(v1::BackupRequest {}).await?.into_inner();
    let begin = chunks.message().await?.context("the board sent nothing")?;
    let board = parse::id("board_id", &begin.board_id)?;
    let header = Header { term: begin.term, revision: begin.revision, transaction: begin.transaction };
    let mut copy = Copy::begin(to, board, header)?;
    let tables: BTreeMap<&str, Table> = TABLES.iter().chain([&NextHost::TABLE]).map(|t| (t.0, *t)).collect();
    let mut count = 0;
    while let Some(chunk) = chunks.message().await? {
        if chunk.complete {
            if chunk.total != count {
                bail!("the board sent {count} of {} records; hint: try again", chunk.total);
            }
            copy.finish()?;
            return Ok(header);
        }
        let Some(table) = tables.get(chunk.table.as_str()) else {
            bail!("the board has a table `{}`; hint: use the program of the board's version", chunk.table);
        };
        count += chunk.records.len() as u64;
        copy.put(
            *table,
            chunk.records.iter().map(|record| (record.key.as_slice(), record.value.as_slice())),
        )?;
    }
    bail!("the board ended before the backup was complete; hint: try again")
}

/// What is wrong with a store or a backup.
pub fn check(which: Which) -> anyhow::Result<()> {
    let path = which.store()?;
    let found = look(&path)?;
    println!(
        "{}: revision {}, {} hosts, {} nodes, {} findings",
        path.display(),
        found.revision,
        found.hosts,
        found.nodes,
        found.findings.len()
    );
    report(&found.findings)
}

fn look(path: &Path) -> anyhow::Result<inspect::Inspection> {
    let look = Look::open(path)?;
    let mut found = inspect::inspect(&*look.store.view()?)?;
    found.findings.splice(0..0, look.damage.iter().cloned());
    Ok(found)
}

fn report(findings: &[String]) -> anyhow::Result<()> {
    for finding in findings.iter().take(SHOWN) {
        println!("  {finding}");
    }
    if findings.len() > SHOWN {
        println!("  and {} more", findings.len() - SHOWN);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("found {} mistakes; expected none; hint: restore a backup from before", findings.len())
}

/// Puts a backup in the place of the store. The board that is started with it begins another branch of its history.
pub fn restore(restore: Restore) -> anyhow::Result<()> {
    let path = restore.which.store()?;
    let found = look(&restore.from)?;
    if !found.findings.is_empty() {
        report(&found.findings)?;
    }
    let mut term = 0;
    if path.exists() {
        if !restore.replace {
            bail!(
                "found a store at {}; expected none; hint: `--replace` keeps it beside the restored one",
                path.display()
            );
        }
        // Fails while a board has it open. A store that cannot be opened any more is replaced, too.
        term = match Redb::open(&path) {
            Ok(store) => store.view()?.header().term,
            Err(e) if e.to_string().contains("already open") => return Err(e.into()),
            Err(e) => {
                println!("the store that is replaced cannot be read: {e}");
                0
            }
        };
    }
    let new = path.with_extension("restoring");
    std::fs::copy(&restore.from, &new).with_context(|| format!("writing {}", new.display()))?;
    {
        // Numbers of sessions contain the term: none that was given is given again. And a run of its own, before any other
        // program can start with a plain copy of the backup.
        let store = Redb::open(&new)?;
        store.raise_term(term)?;
        Writer::begin(Arc::new(store)).map_err(|e| anyhow::anyhow!("{e}"))?;
    }
    if path.exists() {
        let mut replaced = path.as_os_str().to_owned();
        replaced.push(".replaced");
        std::fs::rename(&path, &replaced).context("keeping the store that is replaced")?;
    }
    std::fs::rename(&new, &path).with_context(|| format!("making {}", path.display()))?;
    sync_folder(&path)?;
    println!(
        "{}: restored, revision {}, {} hosts, {} nodes; hosts will register and claim again; what the operator declared \
         after the backup is not in it",
        path.display(),
        found.revision,
        found.hosts,
        found.nodes
    );
    Ok(())
}
