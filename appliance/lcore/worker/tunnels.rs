//! What an lcore does for its tunnels in each round: datagrams that other lcores have handed over, and frames that have waited
//! for a tunnel.

use super::Worker;
use crate::pipeline::tracer::NoTrace;
use dpdk::Burst;

impl Worker {
    /// Returns how many frames were moved.
    pub(super) fn serve_tunnels(&mut self, burst: &mut Burst) -> usize {
        let mut work = 0;
        let mut of_port = None;
        while work < dpdk::BURST_MAX
            && let Some((port, packet)) =
                self.egress.tunnels.as_ref().and_then(|tunnels| tunnels.next_handed())
        {
            if of_port.is_some_and(|before| before != port) {
                self.process(of_port.unwrap_or(port), burst);
            }
            of_port = Some(port);
            work += 1;
            // There is room for as many.
            let _ = burst.push(packet);
        }
        if let Some(port) = of_port {
            self.process(port, burst);
        }
        work + self.send_waited()
    }

    /// Sends or drops frames that wait no longer.
    fn send_waited(&mut self) -> usize {
        let mut among = self.egress.tunnels.as_ref().map_or(0, |tunnels| tunnels.waiting());
        let mut work = 0;
        while among > 0 {
            let now = self.egress.now;
            let waited =
                self.egress.tunnels.as_mut().and_then(|tunnels| tunnels.next_waited(&mut among, now));
            let Some(waited) = waited else { break };
            work += 1;
            self.counters.packets.release(1);
            self.pipeline(&mut NoTrace).send_waited(waited.seal, waited.packet, waited.is_over);
        }
        work
    }
}
