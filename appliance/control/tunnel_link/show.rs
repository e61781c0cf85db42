//! Tunnels and their SAs for the operator: `show tunnels`, `show sas`, and the commands.

use crate::control::{
    Control,
    effects::Effect,
    request::{Answer, Reply, TunnelCommand},
    rows::{Part, Turn},
};
use stopover_ctl::{ApiError, SaInfo, TunnelInfo};

impl Control {
    /// A page of `show tunnels`.
    pub(crate) fn list_tunnels(&self, part: &Part) -> Turn<TunnelInfo> {
        self.tunnels.as_ref().map_or(Turn::EMPTY, |tunnels| tunnels.list(part, Self::tunnel_now()))
    }

    /// A page of `show sas`, with the numbers that EAL gives lcores.
    pub(crate) fn list_sas(&self, part: &Part) -> Turn<SaInfo> {
        let mut turn = self.tunnels.as_ref().map_or(Turn::EMPTY, |t| t.list_sas(part, Self::tunnel_now()));
        for row in &mut turn.rows {
            let lcore = row.lcore.and_then(|number| self.ports.lcores().get(number as usize));
            row.lcore = lcore.map(|lcore| lcore.lcore);
        }
        turn
    }

    /// `stopover tunnel rekey|close`.
    pub(crate) fn command_tunnel(&mut self, host: &str, command: TunnelCommand) -> Answer {
        let found = self.tunnels.as_ref().and_then(|tunnels| tunnels.host_named(host));
        let Some(number) = found else {
            return Err(ApiError::new(
                format!("no tunnel to host {host}"),
                "a host that has a key at the board, of an appliance with `tunnels`",
                "see `stopover show tunnels`",
            ));
        };
        let now_ms = self.now_ms();
        self.with_tunnels(now_ms, |tunnels, now| -> Vec<Effect> {
            match command {
                TunnelCommand::Rekey => tunnels.rekey(number, now),
                TunnelCommand::Close => tunnels.close(number, now),
            }
        });
        let row = self.tunnels.as_ref().and_then(|tunnels| tunnels.info(number, Self::tunnel_now()));
        serde_json::to_value(row)
            .map(Reply::Json)
            .map_err(|e| ApiError::new(e.to_string(), "a row", "tell the developers"))
    }
}
