//! Sealing: the cipher engine of the appliance, and the SAs of one lcore, as the types of `tunnel` with it. Enters:
//! secrets, texts. Leaves: sealed and opened texts. Here only the choice of the engine is made; what an SA does is in
//! `tunnel`.

mod engine;

pub use engine::Engines;
pub use stopover_engines::AnyEngine;

use stopover_engines::AnyKey;
use stopover_tunnel::sa;

/// An inbound SA of an lcore.
pub type InboundSa = sa::InboundSa<AnyKey>;
/// The inbound SAs of an lcore.
pub type InboundSas = sa::InboundSas<AnyKey>;
/// An outbound SA of an lcore.
pub type OutboundSa = sa::OutboundSa<AnyKey>;
/// The outbound SAs of an lcore.
pub type OutboundSas = sa::OutboundSas<AnyKey>;
