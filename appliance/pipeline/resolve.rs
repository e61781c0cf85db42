//! Resolve: ARP (RFC 826) and neighbour discovery (RFC 4861) requests for nodes at other hosts are answered here from
//! the address tables, so that they do not cross the underlay. Two kinds do: a probe for a duplicate address, which
//! only the owner itself may answer, and a unicast request for a node that is not the known owner, which may have
//! newer knowledge. Enters: an ARP or ND frame from a tenant port. Leaves: the answer, or where the frame itself is
//! sent.

use super::encap::EncapMeta;
use super::{
    Egress, Learn, PacketCtx, Pipeline, RouterSeen, drop_reason::DropReason, graph::Stage,
    lookup::describe_slot, packet::Packet, ports::Origin, ports::Role, tracer::Tracer,
};
use crate::migration::record::RecordMode;
use crate::tables::{packed::FdbEntry, peer::Slot};
use std::net::{IpAddr, Ipv6Addr};
use stopover_net::Mac;
use stopover_net::{
    arp::{self, ArpFacts, ArpKind},
    frame::{Frame, Kind, L4},
    icmpv6, nd, prober,
    vxlan::OverlayFlags,
};

/// A request for the owner of an address.
struct AddressQuery {
    target: IpAddr,
    /// MAC of the requester.
    requester: Mac,
    /// It checks whether the address is in use (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2).
    probe: bool,
    message: Message,
}

/// The message of the request, for its answer.
enum Message {
    Arp(ArpFacts),
    Nd(nd::Solicit),
}

/// What to do with a frame.
enum Plan {
    /// Look up its destination MAC, as for any frame.
    Forward,
    /// Answer for this MAC.
    Answer(Mac),
    /// Its receiver is behind this local port and answers itself.
    Deliver { port: u16, vlan: u16 },
    /// Its receiver is this node at this host and answers itself.
    SendToOwner { slot: Slot, owner: Mac },
    /// Drop it.
    Drop(DropReason),
}

/// Whether this frame is for this stage. Only the parsed headers decide.
#[inline]
#[must_use]
pub fn is_arp_or_nd(frame: &Frame) -> bool {
    match frame.l4 {
        L4::None => matches!(frame.kind, Kind::Arp),
        L4::Icmpv6 { kind, .. } => icmpv6::is_nd(kind),
        _ => false,
    }
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes an ARP or ND frame. Returns it if it is to be forwarded like any other.
    #[cold]
    pub fn resolve(&mut self, ctx: PacketCtx<I::P>) -> Option<PacketCtx<I::P>> {
        let Origin::Port { port, vlan } = ctx.origin else { return Some(ctx) };
        self.tracer.enter(Stage::Resolve);
        let content = match self.parse_content(&ctx) {
            Ok(content) => content,
            Err(reason) => {
                self.drop(ctx.packet, reason);
                return None;
            }
        };
        let to_us = prober::is_prober_mac(ctx.frame.dst);
        if let Some((mac, ip)) = content.owner {
            self.learn_address(&ctx, (port, vlan), (mac, ip), to_us);
        }
        if let Some((ip, router)) = content.router
            && self.view.router(ctx.bd, ip) != Some(router)
        {
            self.egress.report_router(RouterSeen { bd: ctx.bd, mac: ctx.frame.src, ip, router });
        }
        if to_us {
            self.tracer.note(|| "an answer to a probe of a host: dropped here".into());
            self.drop(ctx.packet, DropReason::Answered);
            return None;
        }
        let Some(query) = content.query else {
            self.tracer.note(|| "no request: forwarded as it is".into());
            return Some(ctx);
        };
        match self.plan(&ctx, &query, port) {
            Plan::Forward => Some(ctx),
            Plan::Answer(mac) => {
                self.answer(ctx, &query, (port, vlan), mac);
                None
            }
            Plan::Deliver { port, vlan } => {
                self.deliver(ctx, port, vlan);
                None
            }
            Plan::SendToOwner { slot, owner } => {
                self.encap_with(
                    ctx,
                    slot,
                    EncapMeta { flags: OverlayFlags::NODE, node: Some(owner), ..EncapMeta::PLAIN },
                );
                None
            }
            Plan::Drop(reason) => {
                self.drop(ctx.packet, reason);
                None
            }
        }
    }

    /// Parses the message: the owner of an address, and the request.
    fn parse_content(&self, ctx: &PacketCtx<I::P>) -> Result<Content, DropReason> {
        let head = ctx.packet.head();
        if matches!(ctx.frame.kind, Kind::Arp) {
            let arp = arp::parse(&ctx.frame, head).map_err(|_| DropReason::Malformed)?;
            return Ok(arp_content(&arp));
        }
        Ok(match nd::parse(&ctx.frame, head) {
            Ok(nd::Nd::Solicit(ns)) => solicit_content(&ctx.frame, &ns),
            Ok(nd::Nd::Advert(na)) => Content {
                owner: Some((na.target_mac.unwrap_or(ctx.frame.src), IpAddr::V6(na.target))),
                router: na
                    .target_mac
                    .is_none_or(|mac| mac == ctx.frame.src)
                    .then_some((na.target, na.router)),
                query: None,
            },
            Ok(nd::Nd::RouterAdvert) => router_content(&ctx.frame),
            Ok(_) => Content::default(),
            Err(_) => return Err(DropReason::Malformed),
        })
    }

    fn plan(&mut self, ctx: &PacketCtx<I::P>, query: &AddressQuery, ingress_port: u16) -> Plan {
        let view = self.view;
        let Some(owner) = view.owner(ctx.bd, query.target) else {
            self.tracer.note(|| format!("{} is not registered", query.target));
            return Plan::Forward;
        };
        if owner == query.requester {
            self.tracer.note(|| format!("{} belongs to the requester itself", query.target));
            // An announcement is for the caches of all stations; a probe or request for one's own address is not.
            return Plan::Drop(DropReason::Answered);
        }
        let place = view.fdb_entry(ctx.bd, owner);
        if let Some(FdbEntry::Migrating { index, .. }) = place
            && self.view.migrating(index).is_some_and(|record| matches!(record.mode, RecordMode::Forward(_)))
        {
            self.tracer.note(|| format!("{} is {owner}, which has left: answered here", query.target));
            return Plan::Answer(owner);
        }
        if self.targets_another_node(ctx, owner) {
            self.tracer.note(|| {
                format!("{} is registered for {owner}; the request goes to {}", query.target, ctx.frame.dst)
            });
            return Plan::Forward;
        }
        match place {
            Some(FdbEntry::Local { port, .. } | FdbEntry::Migrating { port, .. }) if port == ingress_port => {
                self.tracer.note(|| {
                    format!("{} is {owner} on the requester's own segment and answers itself", query.target)
                });
                Plan::Drop(DropReason::SameSegment)
            }
            Some(FdbEntry::Local { port, vlan, .. } | FdbEntry::Migrating { port, vlan, .. }) => {
                self.tracer.note(|| format!("{} is {owner} at local port {port}", query.target));
                Plan::Deliver { port, vlan }
            }
            // An answer from here would keep an address taken that its owner no longer uses.
            Some(FdbEntry::Remote { slot, .. }) if query.probe => {
                self.tracer.note(|| {
                    format!(
                        "{} is {owner} {}: the probe is passed on to it",
                        query.target,
                        describe_slot(view, slot)
                    )
                });
                Plan::SendToOwner { slot, owner }
            }
            Some(FdbEntry::Remote { slot, .. }) => {
                self.tracer.note(|| {
                    format!("{} is {owner} {}: answered here", query.target, describe_slot(view, slot))
                });
                Plan::Answer(owner)
            }
            None => Plan::Forward,
        }
    }

    /// Whether a request is for one known node that is not the owner: that node may have the address by now.
    fn targets_another_node(&self, ctx: &PacketCtx<I::P>, owner: Mac) -> bool {
        let asked = ctx.frame.dst;
        !asked.is_group()
            && asked != owner
            && matches!(
                self.view.fdb_entry(ctx.bd, asked),
                Some(FdbEntry::Local { .. } | FdbEntry::Remote { .. })
            )
    }

    fn answer(
        &mut self,
        mut ctx: PacketCtx<I::P>,
        query: &AddressQuery,
        (port, vlan): (u16, u16),
        owner: Mac,
    ) {
        let fits = match &query.message {
            Message::Arp(asked) => ctx.packet.replace(&arp::build_reply(asked, owner)),
            Message::Nd(asked) => {
                let router = router_flag(self.view.router(ctx.bd, asked.target), asked.target);
                ctx.packet.replace(&nd::build_answer(asked, &ctx.frame, owner, router))
            }
        };
        if fits {
            self.send_back(ctx.packet, port, vlan);
        } else {
            self.drop(ctx.packet, DropReason::PoolEmpty);
        }
    }

    fn learn_address(
        &mut self,
        ctx: &PacketCtx<I::P>,
        (port, vlan): (u16, u16),
        (mac, ip): (Mac, IpAddr),
        asked: bool,
    ) {
        let may_learn = match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Segment(_)) => true,
            // The addresses of a vif are declared. A shared one belongs to the last that announced it.
            Some(Role::Vif(vif)) => vif.shared.contains(&ip),
            Some(Role::Underlay(_) | Role::Absent) | None => false,
        };
        // Another MAC inside the message is a proxy, not a station of ours.
        if may_learn && mac == ctx.frame.src && (asked || self.view.owner(ctx.bd, ip) != Some(mac)) {
            self.egress.learn(Learn { port, bd: ctx.bd, vlan, mac, ip: Some(ip) });
        }
    }
}

/// The router flag of an answer for a node. An answer without the flag for a router makes the requester remove its
/// default route (RFC 4861 section 7.2.5); a flag for a host changes nothing. So an unknown node is a router if its
/// address is link-local, as in default routes.
#[must_use]
pub fn router_flag(known: Option<bool>, target: Ipv6Addr) -> bool {
    known.unwrap_or(target.is_unicast_link_local())
}

/// The content of an ARP or ND message, as far as this stage needs it.
#[derive(Default)]
struct Content {
    owner: Option<(Mac, IpAddr)>,
    /// The address of the sender, and whether it is an IPv6 router.
    router: Option<(Ipv6Addr, bool)>,
    query: Option<AddressQuery>,
}

fn arp_content(arp: &ArpFacts) -> Content {
    let owner = (!arp.sender_ip.is_unspecified()).then_some((arp.sender_mac, IpAddr::V4(arp.sender_ip)));
    let is_request = matches!(arp.kind, ArpKind::Request | ArpKind::Probe);
    let query = is_request.then_some(AddressQuery {
        target: IpAddr::V4(arp.target_ip),
        requester: arp.sender_mac,
        probe: arp.kind == ArpKind::Probe,
        message: Message::Arp(*arp),
    });
    Content { owner, router: None, query }
}

fn router_content(frame: &Frame) -> Content {
    let Kind::Ipv6(ip) = &frame.kind else { return Content::default() };
    Content { owner: Some((frame.src, IpAddr::V6(ip.src))), router: Some((ip.src, true)), query: None }
}

fn solicit_content(frame: &Frame, ns: &nd::Solicit) -> Content {
    Content {
        owner: ns.source_mac.filter(|_| !ns.dad).map(|mac| (mac, IpAddr::V6(ns.src))),
        router: None,
        query: Some(AddressQuery {
            target: IpAddr::V6(ns.target),
            requester: frame.src,
            probe: ns.dad,
            message: Message::Nd(*ns),
        }),
    }
}
