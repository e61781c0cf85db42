//! The handling of received frames: an answer for an address of ours, a neighbour learned or corrected, a conflict
//! reported and our address defended, a path MTU lowered. Each frame ends in one counted [`Outcome`].

use super::Underlay;
use super::actions::{Actions, Event};
use super::counters::Outcome;
use super::frames::{self, Packet};
use super::neighbours::{Learned, NeighbourMessage, State};
use std::collections::BTreeSet;
use std::net::IpAddr;
use stopover_net::Mac;
use stopover_net::arp::ArpFacts;
use stopover_net::frame::Frame;
use stopover_net::nd::{Advert, Solicit};

/// Between two defences of an address (DEFEND_INTERVAL, RFC 5227 section 1.1).
const DEFEND_INTERVAL_MS: u64 = 10_000;
/// An ARP packet does not change a MAC that was updated less than this time ago: if two stations answer one request,
/// the first counts (`locktime` in Linux).
const ARP_LOCK_MS: u64 = 1_000;

impl Underlay {
    /// Handles a whole Ethernet frame from `port` that the packet path did not process as VXLAN. Frames of ports that
    /// are no underlay ports are ignored.
    pub fn input(&mut self, now_ms: u64, port: usize, frame: &[u8]) -> Actions {
        let mut out = Actions::default();
        let Some(slot) = self.ports.iter().position(|p| p.config.index == port) else { return out };
        let outcome = match frames::parse(&self.ports[slot].config, frame) {
            Ok((facts, packet)) => self.handle_packet(now_ms, slot, (&facts, frame), packet, &mut out),
            Err(why) => why,
        };
        self.ports[slot].counters.count(outcome);
        out
    }

    fn handle_packet(
        &mut self,
        now_ms: u64,
        slot: usize,
        (facts, bytes): (&Frame, &[u8]),
        packet: Packet,
        out: &mut Actions,
    ) -> Outcome {
        match packet {
            Packet::Arp(arp) => self.handle_arp(now_ms, slot, facts, &arp, out),
            Packet::Solicit(solicit) => self.handle_solicit(now_ms, slot, facts.src, &solicit, out),
            Packet::Advert(advert) => self.handle_advert(now_ms, slot, facts.src, &advert, out),
            Packet::Echo => match frames::echo_reply(facts, bytes) {
                Some(reply) => self.send_answer(now_ms, slot, reply, Outcome::EchoAnswered, out),
                None => Outcome::Malformed,
            },
            Packet::MldQuery => {
                let config = &self.ports[slot].config;
                let Some(own) = config.link_local() else { return Outcome::OtherAddress };
                let report = frames::mld_report(config, own, &config.groups());
                self.send_answer(now_ms, slot, report, Outcome::MldAnswered, out)
            }
            Packet::TooBig { to, quoted, mtu } => self.handle_too_big(now_ms, to, quoted, mtu, out),
        }
    }

    /// Sends an answer if the port's budget allows it.
    fn send_answer(
        &mut self,
        now_ms: u64,
        slot: usize,
        frame: Vec<u8>,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Outcome {
        let port = &mut self.ports[slot];
        if !port.up || !port.answers.take(now_ms) {
            return Outcome::RateLimited;
        }
        port.send(frame, out);
        outcome
    }

    fn handle_arp(
        &mut self,
        now_ms: u64,
        slot: usize,
        frame: &Frame,
        arp: &ArpFacts,
        out: &mut Actions,
    ) -> Outcome {
        let config = &self.ports[slot].config;
        let (index, sender) = (config.index, IpAddr::V4(arp.sender_ip));
        if config.owns(sender) {
            return self.handle_conflict(now_ms, slot, sender, arp.sender_mac, out);
        }
        if config.subnet_broadcast(sender) {
            return Outcome::BadSource;
        }
        let (to_us, on_link) = (config.owns(arp.target_ip.into()), config.on_link(sender));
        let reply = frames::arp_reply(config, arp);
        if arp.sender_ip.is_unspecified() {
            // A probe (RFC 5227 section 2.1.1) for an address of ours: its sender must not use the address.
            if !to_us {
                return Outcome::NotForUs;
            }
            self.handle_conflict(now_ms, slot, arp.target_ip.into(), arp.sender_mac, out);
            return self.send_answer(now_ms, slot, reply, Outcome::ArpAnswered, out);
        }
        let known = self.cache.get(index, sender).map(|n| n.age_ms(now_ms));
        let gratuitous = arp.sender_ip == arp.target_ip;
        let message = NeighbourMessage {
            mac: Some(arp.sender_mac),
            solicited: arp.is_reply && to_us && !frame.dst.is_group(),
            overrides: gratuitous || known.is_none_or(|age_ms| age_ms >= ARP_LOCK_MS),
        };
        self.update_neighbour(now_ms, index, sender, message, out);
        if arp.is_reply || !to_us {
            return if known.is_some() { Outcome::ArpUpdated } else { Outcome::NotForUs };
        }
        let outcome = self.send_answer(now_ms, slot, reply, Outcome::ArpAnswered, out);
        if known.is_none() && on_link && outcome == Outcome::ArpAnswered {
            self.learn(now_ms, slot, sender, arp.sender_mac);
        }
        outcome
    }

    /// RFC 4861 section 7.2.3.
    fn handle_solicit(
        &mut self,
        now_ms: u64,
        slot: usize,
        from: Mac,
        &Solicit { src, target, source_mac: mac, dad, .. }: &Solicit,
        out: &mut Actions,
    ) -> Outcome {
        let config = &self.ports[slot].config;
        if !config.owns(target.into()) {
            return Outcome::NotForUs;
        }
        if config.owns(src.into()) {
            return self.handle_conflict(now_ms, slot, src.into(), from, out);
        }
        if dad {
            // Duplicate address detection by another station: the answer goes to all, that the address is in use (RFC
            // 4862 section 5.4.3).
            let defence = frames::announcement(config, target.into());
            self.handle_conflict(now_ms, slot, target.into(), from, out);
            return self.send_answer(now_ms, slot, defence, Outcome::NdAnswered, out);
        }
        let (index, on_link) = (config.index, config.on_link(src.into()));
        let reply = frames::advert(config, target, (mac.unwrap_or(from), src));
        let known = self.cache.get(index, src.into()).is_some();
        if mac.is_some() {
            self.update_neighbour(
                now_ms,
                index,
                src.into(),
                NeighbourMessage { mac, solicited: false, overrides: true },
                out,
            );
        }
        let outcome = self.send_answer(now_ms, slot, reply, Outcome::NdAnswered, out);
        if let Some(mac) = mac
            && !known
            && on_link
            && outcome == Outcome::NdAnswered
        {
            self.learn(now_ms, slot, src.into(), mac);
        }
        outcome
    }

    /// RFC 4861 section 7.2.5.
    fn handle_advert(
        &mut self,
        now_ms: u64,
        slot: usize,
        from: Mac,
        advert: &Advert,
        out: &mut Actions,
    ) -> Outcome {
        let config = &self.ports[slot].config;
        let (index, target) = (config.index, IpAddr::V6(advert.target));
        if config.owns(target) {
            return self.handle_conflict(now_ms, slot, target, advert.target_mac.unwrap_or(from), out);
        }
        if self.cache.get(index, target).is_none() {
            return Outcome::NotForUs;
        }
        let message = NeighbourMessage {
            mac: advert.target_mac,
            solicited: advert.solicited,
            overrides: advert.overrides,
        };
        self.update_neighbour(now_ms, index, target, message, out);
        Outcome::NdUpdated
    }

    /// Updates the neighbour cache, and the destinations that use the neighbour.
    fn update_neighbour(
        &mut self,
        now_ms: u64,
        port: usize,
        ip: IpAddr,
        message: NeighbourMessage,
        out: &mut Actions,
    ) {
        let before = self.cache.get(port, ip).map(|n| n.state());
        let learned = self.cache.update(port, ip, message, now_ms);
        let Some(n) = self.cache.get(port, ip) else { return };
        let (mac, router, users) = (n.mac(), n.is_router(), n.users());
        let wanted = router || !users.is_empty();
        let had_failed = before == Some(State::Failed);
        let confirmed = n.state() == State::Reachable && before != Some(State::Reachable);
        let touched: BTreeSet<IpAddr> = if router && confirmed {
            // A better router may be back: any destination may use it.
            self.destinations.keys().copied().collect()
        } else if learned == Learned::Nothing {
            return;
        } else {
            users.clone()
        };
        match (learned, mac) {
            (Learned::Moved(old), Some(new)) if wanted => {
                self.push_event(now_ms, Event::Moved { port, ip, old, new }, out);
            }
            (Learned::Resolved, Some(mac)) if wanted && had_failed => {
                self.push_event(now_ms, Event::Reachable { port, ip, mac }, out);
            }
            _ => {}
        }
        self.update_destinations(now_ms, touched, out);
    }

    fn learn(&mut self, now_ms: u64, slot: usize, ip: IpAddr, mac: Mac) {
        let port = &mut self.ports[slot];
        if self.cache.learn(port.config.index, ip, mac, now_ms) {
            port.counters.evicted += 1;
        }
    }

    /// Another station uses our address: report it, and announce the address on the link. We keep the address (RFC
    /// 5227 section 2.4 (c)), since the whole overlay depends on it.
    fn handle_conflict(
        &mut self,
        now_ms: u64,
        slot: usize,
        ip: IpAddr,
        mac: Mac,
        out: &mut Actions,
    ) -> Outcome {
        // Two underlay ports on one link receive each other's frames.
        if self.ports.iter().any(|p| p.config.mac == mac) {
            return Outcome::OwnFrame;
        }
        let port = &mut self.ports[slot];
        let defended_lately =
            port.defended_ms.get(&ip).is_some_and(|at| now_ms < at.saturating_add(DEFEND_INTERVAL_MS));
        if port.up && !defended_lately {
            port.defended_ms.insert(ip, now_ms);
            let defence = frames::announcement(&port.config, ip);
            port.send(defence, out);
            let index = port.config.index;
            self.push_event(now_ms, Event::Conflict { port: index, ip, mac }, out);
        }
        Outcome::Conflict
    }
}
