//! Changes of ports that go on running: other settings of a vif, another lcore for a queue.

use super::{Outcome, PortChange, Step, TRIES, refused};
use crate::control::{
    Control,
    plan::{Facts, Plan},
    ports::LcoreHandle,
    spread::{Move, QueueAt},
};
use stopover_config::appliance as config;
use stopover_net::Mac;

impl Control {
    /// The stages see other settings of a vif; its station has other addresses.
    pub(super) fn begin_setting(&mut self, now_ms: u64, port: config::Port) -> Outcome {
        let number = self.ports.number(&port.name).ok_or_else(|| self.no_such_port(&port.name))?;
        let Some(before) = self.ports.wanted_at(number).cloned() else { return Ok(()) };
        let (Some(stage), Some(handle)) =
            (self.ports.stage().get(usize::from(number)), self.ports.handle(number))
        else {
            return Ok(());
        };
        let mac = handle
            .device
            .mac()
            .map_err(|e| refused(&e.to_string(), "a device that answers", "see the log"))?;
        let facts = Facts {
            mac: Mac::new(mac),
            mtu: stage.mtu,
            fills_checksums: stage.fills_checksums,
            segments_tcp: stage.segments_tcp,
            exact: handle.vhost.is_some(),
        };
        let full = |full| refused(&format!("{full}"), "room in the tables", "remove networks or ports");
        let plan = Plan::of_port(number, &port, &facts, &mut self.tables).map_err(full)?;
        let Some(stage) = plan.ports.first().cloned() else { return Ok(()) };
        self.port_changes.begun(PortChange::Set(Box::new(before)));
        self.ports.want(number, port);
        self.give_stage(number, stage);
        let effects = self.stations.set_declared(&mut self.tables, now_ms, number, plan.declared);
        self.execute(now_ms, effects);
        Ok(())
    }

    pub(super) fn begin_moving(&mut self, name: &str, queue: u16, lcore: u32) -> Outcome {
        let port = self.ports.number(name).ok_or_else(|| self.no_such_port(name))?;
        let at = QueueAt { port, queue };
        if !self.device_events.is_with_lcores(port) {
            if let Some(before) = self.ports.reserve_queue(at, lcore) {
                self.port_changes.begun(PortChange::Poll(name.to_owned(), queue, before));
            }
            return Ok(());
        }
        let lcores = self.ports.lcores();
        let place = |wanted: &dyn Fn(&LcoreHandle) -> bool| lcores.iter().position(wanted);
        let from = place(&|handle| handle.queues.contains(&at));
        let to = place(&|handle| handle.lcore == lcore);
        let (Some(from), Some(to)) = (from, to) else {
            let found = format!("queue {queue} of port {name} for lcore {lcore}");
            return Err(refused(
                &found,
                "a queue of the port and a running lcore",
                "see `stopover show lcores`",
            ));
        };
        if from == to {
            return Ok(());
        }
        let of = lcores.get(from).map_or(lcore, |handle| handle.lcore);
        self.port_changes.begun(PortChange::Poll(name.to_owned(), queue, of));
        self.continue_moving(Move { queue: at, from, to }, TRIES)
    }

    pub(super) fn continue_moving(&mut self, which: Move, tries: u32) -> Outcome {
        if self.ports.lcores().get(which.to).is_some_and(|lcore| lcore.queues.contains(&which.queue)) {
            return Ok(());
        }
        self.device_events.may_move(which.queue.port)?;
        if tries == 0 {
            return Err(refused(
                "an lcore that always has frames waiting",
                "a moment without, so that no frame is overtaken",
                "try again under less load, or when no VM migrates",
            ));
        }
        self.queue_moves.begin(&mut self.ports, which, true);
        self.port_changes.step = Some(Step::Handing(which, tries - 1));
        Ok(())
    }
}
