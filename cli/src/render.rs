//! Answers as text for people. Pure: an answer in, text out, so that each is tested against what it should
//! look like.

mod board;
mod changes;
mod local;
mod migration;
mod pki;
mod port_list;
mod ports;
mod tables;
mod trace;
mod tunnels;

pub use board::{
    BoardView, board, board_host, board_hosts, board_members, board_networks, board_nodes, event,
};
pub use changes::changes;
pub use local::local_migrations;
pub use migration::{migration, migration_ticket, migrations};
pub use pki::{
    AuthorityRow, CertificateRow, EnrolledRow, NewTokenRow, RotationRow, TokenRow, authorities, certificates,
    enrolled, moment, new_token, rotation, tokens,
};
pub use port_list::ports;
pub use ports::{drops, fwd_stats, lcores, port_info, port_stats, version};
pub use tables::{board_state, hosts, networks, nodes};
pub use trace::trace;
pub use tunnels::{sas, tunnels};
