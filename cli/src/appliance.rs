//! Commands to an appliance.

use crate::{
    args::{Clear, ClearPort, Show, ShowPort, Trace, Tunnel},
    frames,
    output::{Failure, Output},
    render,
};
use stopover_ctl::{AcceptBoard, CaptureFilter, ClearRequest, Client, TraceRequest, TraceSource};

/// `stopover show …`
pub async fn show(client: &Client, show: &Show, out: Output) -> Result<(), Failure> {
    match show {
        Show::Port(ShowPort::Stats(which)) => {
            let rows = select_port(client.port_stats().await?, which.name(), |p| &p.name)?;
            out.print(&rows, |r| render::port_stats(r))
        }
        Show::Port(ShowPort::Info(which)) => {
            let rows = select_port(client.ports().await?, which.name(), |p| &p.name)?;
            out.print(&rows, |r| render::port_info(r))
        }
        Show::Fwd(_) => out.print(&client.fwd().await?, render::fwd_stats),
        Show::Nodes(scope) => out.print(&client.nodes(scope.vni).await?, |r| render::nodes(r)),
        Show::Hosts => out.print(&client.hosts().await?, |r| render::hosts(r)),
        Show::Networks(scope) => out.print(&client.networks(scope.vni).await?, |r| render::networks(r)),
        Show::Lcores => out.print(&client.lcores().await?, |r| render::lcores(r)),
        Show::Drops { all } => {
            let mut drops = client.drops().await?;
            drops.retain(|d| *all || d.count > 0);
            out.print(&drops, |r| render::drops(r))
        }
        Show::Migrations => out.print(&client.migrations().await?, render::local_migrations),
        Show::Tunnels => out.print(&client.tunnels().await?, |r| render::tunnels(r)),
        Show::Sas => out.print(&client.sas().await?, |r| render::sas(r)),
        Show::Board => out.print(&client.board().await?, render::board_state),
        Show::Version => out.print(&client.version().await?, render::version),
    }
}

/// The rows of all ports, or of the one named.
fn select_port<T>(
    rows: Vec<T>,
    name: Option<&str>,
    name_of: impl Fn(&T) -> &String,
) -> Result<Vec<T>, Failure> {
    let Some(name) = name else { return Ok(rows) };
    let names = rows.iter().map(&name_of).cloned().collect::<Vec<_>>().join(", ");
    match rows.into_iter().find(|r| name_of(r) == name) {
        Some(row) => Ok(vec![row]),
        None => Err(Failure::Message(format!(
            "found no port `{name}`; expected `all` or one of: {names}; hint: correct the name"
        ))),
    }
}

/// `stopover board accept`
pub async fn accept_board(client: &Client, id: Option<String>, out: Output) -> Result<(), Failure> {
    let accepted = client.accept_board(&AcceptBoard { board: id }).await?;
    out.print(&accepted, |a| format!("board {} is followed from now on\n", a.board))
}

/// `stopover tunnel …`
pub async fn tunnel(client: &Client, command: Tunnel, out: Output) -> Result<(), Failure> {
    let tunnel = match command {
        Tunnel::Rekey { host } => client.rekey_tunnel(&host).await?,
        Tunnel::Close { host } => client.close_tunnel(&host).await?,
    };
    out.print(&tunnel, |t| render::tunnels(std::slice::from_ref(t)))
}

/// `stopover clear …`
pub async fn clear(client: &Client, clear: &Clear) -> Result<(), Failure> {
    let request = match clear {
        Clear::Port(ClearPort::Stats(which)) => {
            ClearRequest::PortStats { port: which.name().map(str::to_owned) }
        }
        Clear::Fwd(_) => ClearRequest::FwdStats,
    };
    Ok(client.clear(&request).await?)
}

/// `stopover trace …`
pub async fn trace(client: &Client, args: Trace, out: Output) -> Result<(), Failure> {
    let source = match (&args.hex, &args.pcap) {
        (Some(hex), _) => TraceSource::FrameHex(frames::to_hex(&frames::from_hex(hex)?)),
        (None, Some(pcap)) => TraceSource::FrameHex(frames::to_hex(&frames::from_pcap(pcap)?)),
        (None, None) => TraceSource::Capture(CaptureFilter { src_mac: args.src_mac, dst_mac: args.dst_mac }),
    };
    let request = TraceRequest { port: args.port, source, timeout_ms: u64::from(args.timeout) * 1000 };
    out.print(&client.trace(&request).await?, render::trace)
}
