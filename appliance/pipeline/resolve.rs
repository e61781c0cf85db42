//! Resolve: ARP (RFC 826) and neighbour discovery (RFC 4861) are answered here from the address tables, for
//! nodes at other hosts, so that these questions do not cross the underlay. Two kinds do: a probe for a duplicate
//! address, which only a living owner may answer, and a unicast question for a node that is not the known owner, which
//! may know better. Enters: an ARP or ND frame from a tenant port. Leaves: the answer, or word where the frame itself
//! must go.

use super::encap::Label;
use super::{
    Io, Learn, Pipeline, RouterSeen, Slot, fate::Drop, packet::Packet, ports::Origin, ports::Role,
    witness::Stage, witness::Witness,
};
use crate::tables::{moving, words::Place};
use std::net::{IpAddr, Ipv6Addr};
use stopover_net::Mac;
use stopover_net::{
    arp::{self, ArpFacts, ArpKind},
    frame::{Frame, Kind, L4},
    icmpv6, nd, prober,
    vxlan::OverlayFlags,
};

/// Someone asks who owns an address.
struct Question {
    target: IpAddr,
    /// MAC of the asker.
    asker: Mac,
    /// It asks whether anybody uses the address (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2).
    probe: bool,
    message: Message,
}

/// The message that a question came in, for its answer.
enum Message {
    Arp(ArpFacts),
    Nd(nd::Solicit),
}

/// What is to be done with a frame.
enum Plan {
    /// Nothing special: go on to the lookup of its destination MAC.
    GoOn,
    /// Answer in the name of this MAC.
    Answer(Mac),
    /// Its receiver is behind this local port and answers itself.
    Only { port: u16, vlan: u16 },
    /// Its receiver is this node at this host and answers itself.
    Pass { host: u32, owner: Mac },
    /// End here.
    End(Drop),
}

/// Whether this frame is for this stage; decided from the parsed headers alone.
#[inline]
#[must_use]
pub fn concerns(frame: &Frame) -> bool {
    match frame.l4 {
        L4::None => matches!(frame.kind, Kind::Arp),
        L4::Icmpv6 { kind, .. } => icmpv6::is_nd(kind),
        _ => false,
    }
}

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Takes an ARP or ND frame; gives it back if it is to be forwarded like any other.
    #[cold]
    pub fn resolve(&mut self, slot: Slot<I::P>) -> Option<Slot<I::P>> {
        let Origin::Port { port, vlan } = slot.origin else { return Some(slot) };
        let heard = match self.hear(&slot) {
            Ok(heard) => heard,
            Err(reason) => {
                self.drop(slot.packet, reason);
                return None;
            }
        };
        let to_us = prober::is_one(slot.frame.dst);
        if let Some((mac, ip)) = heard.owner {
            self.learn_address(&slot, (port, vlan), (mac, ip), to_us);
        }
        if let Some((ip, router)) = heard.router
            && self.view.router(slot.net, ip) != Some(router)
        {
            self.io.router(RouterSeen { net: slot.net, mac: slot.frame.src, ip, router });
        }
        if to_us {
            self.witness.note(Stage::Resolve, || "an answer to the question of a host: it ends here".into());
            self.drop(slot.packet, Drop::Answered);
            return None;
        }
        let Some(question) = heard.question else {
            self.witness.note(Stage::Resolve, || "no question: forwarded as it is".into());
            return Some(slot);
        };
        match self.plan(&slot, &question, port) {
            Plan::GoOn => Some(slot),
            Plan::Answer(mac) => {
                self.answer(slot, &question, mac);
                None
            }
            Plan::Only { port, vlan } => {
                self.deliver(slot, port, vlan);
                None
            }
            Plan::Pass { host, owner } => {
                self.encap_marked(
                    slot,
                    host,
                    Label { flags: OverlayFlags::NODE, node: Some(owner), ..Label::PLAIN },
                );
                None
            }
            Plan::End(reason) => {
                self.drop(slot.packet, reason);
                None
            }
        }
    }

    /// What the frame says: who owns an address, and what it asks.
    fn hear(&self, slot: &Slot<I::P>) -> Result<Heard, Drop> {
        let head = slot.packet.head();
        if matches!(slot.frame.kind, Kind::Arp) {
            let arp = arp::parse(&slot.frame, head).map_err(|_| Drop::Malformed)?;
            return Ok(hear_arp(&arp));
        }
        Ok(match nd::parse(&slot.frame, head) {
            Ok(nd::Nd::Solicit(ns)) => hear_solicit(&slot.frame, &ns),
            Ok(nd::Nd::Advert(na)) => Heard {
                owner: Some((na.target_mac.unwrap_or(slot.frame.src), IpAddr::V6(na.target))),
                router: na
                    .target_mac
                    .is_none_or(|mac| mac == slot.frame.src)
                    .then_some((na.target, na.router)),
                question: None,
            },
            Ok(nd::Nd::RouterAdvert) => hear_router(&slot.frame),
            Ok(_) => Heard::default(),
            Err(_) => return Err(Drop::Malformed),
        })
    }

    fn plan(&mut self, slot: &Slot<I::P>, question: &Question, asked_at: u16) -> Plan {
        let Some(owner) = self.view.owner(slot.net, question.target) else {
            self.witness
                .note(Stage::Resolve, || format!("who has {}? nobody has registered it", question.target));
            return Plan::GoOn;
        };
        if owner == question.asker {
            self.witness.note(Stage::Resolve, || format!("{} belongs to the asker itself", question.target));
            // An announcement is for everybody's caches; a probe or question for one's own address is not.
            return Plan::End(Drop::Answered);
        }
        let place = self.view.place(slot.net, owner);
        if let Some(Place::Moving { index, .. }) = place
            && self.view.moving(index).is_some_and(|record| matches!(record.stage, moving::Stage::Forward(_)))
        {
            self.witness.note(Stage::Resolve, || {
                format!("{} is {owner}, which has left: answered here", question.target)
            });
            return Plan::Answer(owner);
        }
        if self.is_for_another(slot, owner) {
            self.witness.note(Stage::Resolve, || {
                format!(
                    "{} is {owner} as far as is known; {} is asked itself",
                    question.target, slot.frame.dst
                )
            });
            return Plan::GoOn;
        }
        match place {
            Some(Place::Local { port, .. } | Place::Moving { port, .. }) if port == asked_at => {
                self.witness.note(Stage::Resolve, || {
                    format!("{} is {owner} on the asker's own segment and answers itself", question.target)
                });
                Plan::End(Drop::SameSegment)
            }
            Some(Place::Local { port, vlan, .. } | Place::Moving { port, vlan, .. }) => {
                self.witness
                    .note(Stage::Resolve, || format!("{} is {owner} at local port {port}", question.target));
                Plan::Only { port, vlan }
            }
            // An answer in the owner's name would keep an address taken that its owner no longer uses.
            Some(Place::Remote { host }) if question.probe => {
                self.witness.note(Stage::Resolve, || {
                    format!("{} is {owner} at host {host}: the probe is passed on to it", question.target)
                });
                Plan::Pass { host, owner }
            }
            Some(Place::Remote { host }) => {
                self.witness.note(Stage::Resolve, || {
                    format!("{} is {owner} at host {host}: answered here", question.target)
                });
                Plan::Answer(owner)
            }
            None => Plan::GoOn,
        }
    }

    /// Whether a question is for one node only, which is not the owner but is known: it may have the address by now.
    fn is_for_another(&self, slot: &Slot<I::P>, owner: Mac) -> bool {
        let asked = slot.frame.dst;
        !asked.is_group()
            && asked != owner
            && matches!(self.view.place(slot.net, asked), Some(Place::Local { .. } | Place::Remote { .. }))
    }

    fn answer(&mut self, mut slot: Slot<I::P>, question: &Question, owner: Mac) {
        let fits = match &question.message {
            Message::Arp(asked) => slot.packet.replace(&arp::build_reply(asked, owner)),
            Message::Nd(asked) => {
                let router = says_router(self.view.router(slot.net, asked.target), asked.target);
                slot.packet.replace(&nd::build_answer(asked, &slot.frame, owner, router))
            }
        };
        if fits {
            self.send_back(slot.packet, slot.origin);
        } else {
            self.drop(slot.packet, Drop::PoolEmpty);
        }
    }

    fn learn_address(
        &mut self,
        slot: &Slot<I::P>,
        (port, vlan): (u16, u16),
        (mac, ip): (Mac, IpAddr),
        asked: bool,
    ) {
        let teaches = match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Segment(_)) => true,
            // Its own addresses are declared; one that it shares is its own while it says so last.
            Some(Role::Vif(vif)) => vif.shared.contains(&ip),
            Some(Role::Underlay(_)) | None => false,
        };
        // Someone else's MAC inside the message is a proxy's business, not a station of ours.
        if teaches && mac == slot.frame.src && (asked || self.view.owner(slot.net, ip) != Some(mac)) {
            self.io.learn(Learn { port, net: slot.net, vlan, mac, ip: Some(ip) });
        }
    }
}

/// The router flag of an answer in a node's name. An answer that denied a router would make the asker forget its default
/// route (RFC 4861 section 7.2.5); one that makes a router of a host changes nothing. So in doubt it is one, if the
/// address is of the kind that default routes have.
#[must_use]
pub fn says_router(known: Option<bool>, target: Ipv6Addr) -> bool {
    known.unwrap_or(target.is_unicast_link_local())
}

/// The content of an ARP or ND message, as far as it matters here.
#[derive(Default)]
struct Heard {
    owner: Option<(Mac, IpAddr)>,
    /// Whether the sender is an IPv6 router, and the address that says so.
    router: Option<(Ipv6Addr, bool)>,
    question: Option<Question>,
}

fn hear_arp(arp: &ArpFacts) -> Heard {
    let owner = (!arp.sender_ip.is_unspecified()).then_some((arp.sender_mac, IpAddr::V4(arp.sender_ip)));
    let asks = matches!(arp.kind, ArpKind::Request | ArpKind::Probe);
    let question = asks.then_some(Question {
        target: IpAddr::V4(arp.target_ip),
        asker: arp.sender_mac,
        probe: arp.kind == ArpKind::Probe,
        message: Message::Arp(*arp),
    });
    Heard { owner, router: None, question }
}

fn hear_router(frame: &Frame) -> Heard {
    let Kind::Ipv6(ip) = &frame.kind else { return Heard::default() };
    Heard { owner: Some((frame.src, IpAddr::V6(ip.src))), router: Some((ip.src, true)), question: None }
}

fn hear_solicit(frame: &Frame, ns: &nd::Solicit) -> Heard {
    Heard {
        owner: ns.source_mac.filter(|_| !ns.dad).map(|mac| (mac, IpAddr::V6(ns.src))),
        router: None,
        question: Some(Question {
            target: IpAddr::V6(ns.target),
            asker: frame.src,
            probe: ns.dad,
            message: Message::Nd(*ns),
        }),
    }
}
