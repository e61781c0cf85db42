//! Commands to the board: queries and the operator's declarations.

use crate::{
    args::{Host, Member, Network, Node, Show},
    load,
    output::{Failure, Output},
    render::{self, BoardView},
};
use serde::Serialize;
use stopover_bbs::client::{BoardAddress, HostEntry, NodeFilter, Operator, Row, Target};
use stopover_bbs::model::{DeclaredBy, Host as HostRecord};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::Vni;
use tokio_stream::StreamExt;

/// The answer to a change.
#[derive(Debug, Serialize)]
struct Committed {
    revision: u64,
}

fn committed(revision: u64, out: Output) -> Result<(), Failure> {
    out.print(&Committed { revision }, |c| format!("done, revision {}\n", c.revision))
}

/// `stopover show … --board …`
pub async fn show(address: &BoardAddress, show: &Show, out: Output) -> Result<(), Failure> {
    let mut board = Operator::connect(address).await?;
    match show {
        Show::Nodes(scope) => {
            nodes(&mut board, NodeFilter { vni: scope.vni, ..NodeFilter::default() }, out).await
        }
        Show::Hosts => hosts(&mut board, out).await,
        Show::Networks(scope) => networks(&mut board, scope.vni, out).await,
        Show::Migrations => out.print(&board.migrations(None, false).await?, |all| render::migrations(all)),
        Show::Board => {
            let view = BoardView { info: board.info().await?, watching: board.watchers().await? };
            out.print(&view, render::board)
        }
        Show::Port(_)
        | Show::Fwd(_)
        | Show::Lcores
        | Show::Drops { .. }
        | Show::Tunnels
        | Show::Sas
        | Show::Version => {
            Err(Failure::Message("the board does not know this; ask an appliance with --ctl".into()))
        }
    }
}

async fn hosts(board: &mut Operator, out: Output) -> Result<(), Failure> {
    out.print(&board.hosts(None).await?, |r| render::board_hosts(r))
}

async fn networks(board: &mut Operator, vni: Option<Vni>, out: Output) -> Result<(), Failure> {
    let mut rows = board.networks().await?;
    rows.retain(|n| vni.is_none_or(|vni| n.network.vni == vni));
    out.print(&rows, |r| render::board_networks(r))
}

async fn nodes(board: &mut Operator, filter: NodeFilter, out: Output) -> Result<(), Failure> {
    out.print(&board.nodes(&filter).await?, |r| render::board_nodes(r))
}

/// `stopover host …`
pub async fn host(address: &BoardAddress, command: Host, out: Output) -> Result<(), Failure> {
    if let Host::Load(file) = &command {
        return committed(load::file::<HostRow>(address, &file.file).await?, out);
    }
    let mut board = Operator::connect(address).await?;
    match command {
        Host::Add { name, vteps, udp_port } => {
            committed(board.declare(&Row::Host(HostRow { name, vteps, udp_port })).await?, out)
        }
        Host::Delete { name, cascade } => {
            committed(board.delete(&Target::Host { name, cascade }).await?, out)
        }
        Host::Forget { name } => {
            if let Some(why) = board.hosts(Some(&name)).await?.first().and_then(forget_refusal) {
                return Err(why.into());
            }
            committed(board.delete(&Target::Host { name, cascade: true }).await?, out)
        }
        Host::Show { name } => match board.hosts(Some(&name)).await?.first() {
            Some(entry) => out.print(entry, render::board_host),
            None => Err(format!("there is no host {name}; hint: `stopover host list`").into()),
        },
        Host::List | Host::Load(_) => hosts(&mut board, out).await,
    }
}

/// Why a host cannot be forgotten.
fn forget_refusal(entry: &HostEntry) -> Option<String> {
    let HostRecord { name, declared_by, up, .. } = &entry.host;
    match declared_by {
        DeclaredBy::Operator => {
            Some(format!("the operator declared host {name}: `stopover host delete {name}`"))
        }
        DeclaredBy::Appliance if *up => Some(format!("host {name} is up: stop its appliance first")),
        DeclaredBy::Appliance => None,
    }
}

/// `stopover network …`
pub async fn network(address: &BoardAddress, command: Network, out: Output) -> Result<(), Failure> {
    if let Network::Load(file) = &command {
        return committed(load::file::<NetworkRow>(address, &file.file).await?, out);
    }
    let mut board = Operator::connect(address).await?;
    match command {
        Network::Add { vni, name, flood, mtu } => {
            committed(board.declare(&Row::Network(NetworkRow { vni, name, flood, mtu })).await?, out)
        }
        Network::Delete { vni } => committed(board.delete(&Target::Network { vni }).await?, out),
        Network::List | Network::Load(_) => networks(&mut board, None, out).await,
    }
}

/// `stopover node …`
pub async fn node(address: &BoardAddress, command: Node, out: Output) -> Result<(), Failure> {
    if let Node::Load(file) = &command {
        return committed(load::file::<NodeRow>(address, &file.file).await?, out);
    }
    let mut board = Operator::connect(address).await?;
    match command {
        Node::Add { vni, mac, host, ips, shared_ips } => {
            committed(board.declare(&Row::Node(NodeRow { vni, mac, host, ips, shared_ips })).await?, out)
        }
        Node::Delete { vni, mac } => committed(board.delete(&Target::Node { vni, mac }).await?, out),
        Node::List { vni, host } => {
            nodes(&mut board, NodeFilter { vni, host, ..NodeFilter::default() }, out).await
        }
        Node::Load(_) => nodes(&mut board, NodeFilter::default(), out).await,
    }
}

/// `stopover member …`
pub async fn member(address: &BoardAddress, command: Member, out: Output) -> Result<(), Failure> {
    if let Member::Load(file) = &command {
        return committed(load::file::<MemberRow>(address, &file.file).await?, out);
    }
    let mut board = Operator::connect(address).await?;
    match command {
        Member::Add { vni, host, segment } => {
            committed(board.declare(&Row::Member(MemberRow { vni, host, segment })).await?, out)
        }
        Member::Delete { vni, host } => committed(board.delete(&Target::Member { vni, host }).await?, out),
        Member::List(scope) => out.print(&board.members(scope.vni).await?, |r| render::board_members(r)),
        Member::Load(_) => out.print(&board.members(None).await?, |r| render::board_members(r)),
    }
}

/// `stopover events`
pub async fn events(address: &BoardAddress, after: u64, follow: bool, out: Output) -> Result<(), Failure> {
    let mut board = Operator::connect(address).await?;
    let mut stream = std::pin::pin!(board.events(after, follow).await?);
    while let Some(chunk) = stream.next().await {
        for event in chunk? {
            out.print_item(&event, render::event)?;
        }
    }
    Ok(())
}
