//! What the driver of the state machines works on. Enters: events of one round. Leaves: changes of tables,
//! stations and the replica in the order that migrations need, and effects.

use super::Migrations;
use crate::control::{
    effects::{BoardRequest, Effect},
    ports::Ports,
    replica::Replica,
    stations::Stations,
};
use crate::tables::Tables;

/// Migrations for the time of one event. What concerns the tables happens at once: a frame must not see one change
/// without the other. The rest are effects, executed when the event has been processed.
#[derive(Debug)]
pub struct Driver<'a> {
    /// All migrations.
    pub migrations: &'a mut Migrations,
    /// The packet path's tables.
    pub tables: &'a mut Tables,
    /// The board's state.
    pub replica: &'a mut Replica,
    /// The stations of this host.
    pub stations: &'a mut Stations,
    /// Devices and lcores: how many lcores accept an order decides what follows.
    pub ports: &'a Ports,
    /// What is to be done afterwards.
    pub effects: Vec<Effect>,
}

impl Driver<'_> {
    pub(super) fn request(&mut self, request: BoardRequest) {
        self.effects.push(Effect::Board(request));
    }
}
