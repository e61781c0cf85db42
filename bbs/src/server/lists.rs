//! The calls that list records. Each list is read from one view of the store, on a blocking thread, one chunk after the
//! other as the reader takes them. A record that cannot be read is left out; the list ends with an error that names it.

use super::{
    door::Grant,
    paced::{self, Answers, Out, Reading},
    rpc::Rpc,
    slots::Slot,
    wait_for_stop,
    watchers::Watchers,
};
use crate::{
    board::record::{HostRecord, MemberRecord, NodeRecord},
    model::{DeclaredBy, Event, Network},
    proto::{
        parse::{self, BadField, Checked},
        v1,
    },
    records::Records,
    store::{StoreError, View},
    table::{RecordKey, Unreadable},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::atomic::Ordering::Relaxed,
};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Entries of one message.
const CHUNK: usize = 2048;
/// Watchers of one answer: some 200 bytes each.
pub(super) const WATCHERS: usize = 16_384;

/// The answer that `produce` sends.
fn stream<T: Send + 'static>(
    reading: Reading,
    produce: impl FnOnce(&dyn View, &Out<T>, &mut Vec<Unreadable>) -> Result<(), StoreError> + Send + 'static,
) -> Answers<T> {
    paced::produce(move |out| {
        let Reading { store, slots: _open } = reading;
        let mut unreadable = Vec::new();
        let result = store.view().and_then(|view| produce(&*view, &out, &mut unreadable));
        let result = result.and_then(|()| match unreadable.into_iter().next() {
            Some(first) => Err(StoreError::new("reading all of a list", first)),
            None => Ok(()),
        });
        if let Err(e) = result {
            out.fail(e.into());
        }
    })
}

/// A network; 0 = all.
pub(super) fn optional_vni(n: u32) -> Checked<Option<Vni>> {
    if n == 0 { Ok(None) } else { parse::vni("vni", n).map(Some) }
}

pub(super) fn hosts(
    reading: Reading,
    name: Option<HostName>,
    counts: HashMap<u32, (u64, u64)>,
    watchers: HashMap<HostName, (bool, u64)>,
) -> Answers<v1::ListHostsResponse> {
    stream(reading, move |view, out, unreadable| {
        let revision = view.header().revision;
        let mut hosts = view.all_readable::<HostRecord>(unreadable)?;
        hosts.retain(|(_, h)| name.as_ref().is_none_or(|name| *name == h.name));
        for chunk in hosts.chunks(CHUNK) {
            let entries = chunk.iter().map(|(id, host)| {
                let (nodes, networks) = counts.get(id).copied().unwrap_or_default();
                let (watching, acked_revision) = watchers.get(&host.name).copied().unwrap_or_default();
                let host = Some(v1::Host::from(&host.to_host(*id)));
                v1::HostEntry { host, nodes, networks, watching, acked_revision }
            });
            if !out.send(v1::ListHostsResponse { revision, hosts: entries.collect() }) {
                break;
            }
        }
        Ok(())
    })
}

pub(super) fn networks(
    reading: Reading,
    mut counts: BTreeMap<Vni, (u64, u64)>,
) -> Answers<v1::ListNetworksResponse> {
    stream(reading, move |view, out, unreadable| {
        let revision = view.header().revision;
        let declared: BTreeMap<_, _> = view.all_readable::<Network>(unreadable)?.into_iter().collect();
        for vni in declared.keys() {
            counts.entry(*vni).or_default();
        }
        let all: Vec<_> = counts.into_iter().collect();
        for chunk in all.chunks(CHUNK) {
            let entries = chunk.iter().map(|(vni, (nodes, members))| {
                let network = declared.get(vni).cloned().unwrap_or_else(|| Network {
                    vni: *vni,
                    name: String::new(),
                    flood: FloodPolicy::default(),
                    mtu: 0,
                });
                v1::NetworkEntry {
                    network: Some((&network).into()),
                    declared: declared.contains_key(vni),
                    nodes: *nodes,
                    members: *members,
                }
            });
            if !out.send(v1::ListNetworksResponse { revision, networks: entries.collect() }) {
                break;
            }
        }
        Ok(())
    })
}

fn names(view: &dyn View, unreadable: &mut Vec<Unreadable>) -> Result<HashMap<u32, HostName>, StoreError> {
    Ok(view.all_readable::<HostRecord>(unreadable)?.into_iter().map(|(id, host)| (id, host.name)).collect())
}

fn name_of(names: &HashMap<u32, HostName>, id: u32) -> String {
    names.get(&id).map(ToString::to_string).unwrap_or_default()
}

pub(super) fn members(reading: Reading, vni: Option<Vni>) -> Answers<v1::ListMembersResponse> {
    stream(reading, move |view, out, unreadable| {
        let revision = view.header().revision;
        let names = names(view, unreadable)?;
        let mut after = None;
        loop {
            let (chunk, last) = view.readable_of::<MemberRecord>(vni, after, CHUNK, unreadable)?;
            if last.is_none() {
                return Ok(());
            }
            after = last;
            let entries = chunk.iter().map(|((vni, host_id), r)| v1::MemberEntry {
                member: Some(v1::Member {
                    vni: vni.get(),
                    host_id: *host_id,
                    segment: r.visible().unwrap_or(false),
                }),
                host: name_of(&names, *host_id),
                joined: r.joined.is_some(),
                declared: r.declared.is_some(),
                has_nodes: r.has_nodes,
            });
            if !out.send(v1::ListMembersResponse { revision, members: entries.collect() }) {
                return Ok(());
            }
        }
    })
}

/// Which nodes to list; without any field, all nodes.
#[derive(Debug)]
pub(super) struct NodeFilter {
    vni: Option<Vni>,
    host: Option<HostName>,
    mac: Option<Mac>,
    ip: Option<IpAddr>,
    limit: u64,
}

impl TryFrom<v1::ListNodesRequest> for NodeFilter {
    type Error = BadField;
    fn try_from(m: v1::ListNodesRequest) -> Checked<Self> {
        Ok(Self {
            vni: optional_vni(m.vni)?,
            host: if m.host.is_empty() { None } else { Some(parse::host_name("host", m.host)?) },
            mac: if m.mac.is_empty() { None } else { Some(parse::mac("mac", &m.mac)?) },
            ip: if m.ip.is_empty() { None } else { Some(parse::ip("ip", &m.ip)?) },
            limit: if m.limit == 0 { u64::MAX } else { m.limit },
        })
    }
}

pub(super) fn nodes(reading: Reading, filter: NodeFilter) -> Answers<v1::ListNodesResponse> {
    stream(reading, move |view, out, unreadable| {
        let revision = view.header().revision;
        let names = names(view, unreadable)?;
        let mut left = filter.limit;
        let mut after = None;
        while left > 0 {
            let (mut chunk, last) = match (filter.vni, filter.mac) {
                // One node: no search of the network.
                (Some(vni), Some(mac)) if after.is_none() => {
                    let node = view.record::<NodeRecord>((vni, mac))?;
                    let found = node.map(|r| ((vni, mac), r)).into_iter().collect();
                    (found, Some((vni, mac).to_bytes()))
                }
                (Some(_), Some(_)) => return Ok(()),
                _ => view.readable_of::<NodeRecord>(filter.vni, after, CHUNK, unreadable)?,
            };
            if last.is_none() {
                return Ok(());
            }
            after = last;
            chunk.retain(|((_, mac), r)| {
                filter.mac.is_none_or(|wanted| wanted == *mac)
                    && filter.ip.is_none_or(|ip| r.ips.contains(ip))
                    && filter.host.as_ref().is_none_or(|host| names.get(&r.host) == Some(host))
            });
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= chunk.len() as u64;
            let entries: Vec<_> = chunk
                .iter()
                .map(|((vni, mac), r)| v1::NodeEntry {
                    node: Some((&r.to_node(*vni, *mac)).into()),
                    host: name_of(&names, r.host),
                    declared_by: declared_by(r.declared_by),
                })
                .collect();
            if !entries.is_empty() && !out.send(v1::ListNodesResponse { revision, nodes: entries }) {
                return Ok(());
            }
        }
        Ok(())
    })
}

fn declared_by(by: DeclaredBy) -> i32 {
    v1::DeclaredBy::from(by).into()
}

pub(super) fn watchers(watchers: &Watchers, after: u64, limit: usize) -> v1::ListWatchersResponse {
    let mut open = watchers.list_after(after, limit + 1);
    let more = open.len() > limit;
    open.truncate(limit);
    let entries = open.iter().map(|w| v1::Watcher {
        id: w.id,
        name: w.name.clone(),
        peer: w.peer.clone(),
        sent_revision: w.sent.load(Relaxed),
        acked_revision: w.acked.load(Relaxed),
        networks: w.networks.load(Relaxed),
        everything: w.everything,
        resyncs: w.resyncs.load(Relaxed),
        session: w.session.as_ref().map_or(0, |s| s.number),
    });
    v1::ListWatchersResponse { watchers: entries.collect(), more }
}

/// The event log; with `follow`, then also new events.
pub(super) fn events(
    rpc: Rpc,
    (grant, slot): (Grant, Slot),
    request: &v1::EventsRequest,
) -> Answers<v1::EventsResponse> {
    let (out, answers) = mpsc::channel(4);
    let v1::EventsRequest { mut after, follow } = *request;
    tokio::spawn(async move {
        let _open = slot;
        // Before the log is read, so that no event is lost between the two.
        let mut live = rpc.events.subscribe();
        loop {
            let store = rpc.door.store(&grant);
            let read =
                tokio::task::spawn_blocking(move || store.view()?.page::<Event>(Some(after), usize::MAX))
                    .await;
            let events = match read {
                Ok(Ok(events)) => events,
                Ok(Err(e)) => {
                    let _ = out.send(Err(e.into())).await;
                    return;
                }
                Err(e) => {
                    let _ = out.send(Err(Status::internal(e.to_string()))).await;
                    return;
                }
            };
            after = events.last().map_or(after, |(number, _)| *number);
            for chunk in events.chunks(CHUNK) {
                let events = chunk.iter().map(|(_, event)| v1::Event::from(event)).collect();
                if out.send(Ok(v1::EventsResponse { events })).await.is_err() {
                    return;
                }
            }
            if !follow {
                return;
            }
            // A new event only means that there is something to read: the log has the events in order.
            tokio::select! {
                event = live.recv() => if matches!(event, Err(RecvError::Closed)) { return },
                () = out.closed() => return,
                () = wait_for_stop(rpc.stopping.clone()) => return,
            }
        }
    });
    Box::pin(ReceiverStream::new(answers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn watchers_are_listed_in_pages() {
        let all = Arc::new(Watchers::default());
        let open: Vec<_> = (0..25).map(|n| all.open(format!("w{n}"), "unix".into(), true, None, 0)).collect();
        let (mut after, mut names_seen) = (0, Vec::new());
        loop {
            let page = watchers(&all, after, 10);
            assert!(page.watchers.len() <= 10);
            after = page.watchers.last().map_or(after, |w| w.id);
            names_seen.extend(page.watchers.into_iter().map(|w| w.name));
            if !page.more {
                break;
            }
        }
        assert_eq!(names_seen, (0..25).map(|n| format!("w{n}")).collect::<Vec<_>>());
        drop(open);
        assert!(watchers(&all, 0, 10).watchers.is_empty());
    }
}
