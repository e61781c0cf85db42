//! The choice of the cipher engine. All engines of a process are of one kind. Clones of a key share its memory: each
//! lcore that may receive under an SA has one.

use anyhow::Result;
use stopover_config::appliance::TunnelEngine;
use stopover_engines::{AnyEngine, IpsecMb, KeyMemory};

/// What makes engines, of one kind, whose keys are in one memory.
#[derive(Debug)]
pub struct Engines {
    memory: KeyMemory,
    is_portable: bool,
}

impl Engines {
    /// Of this kind.
    ///
    /// # Errors
    /// This machine cannot use it.
    pub fn new(wanted: TunnelEngine) -> Result<Self> {
        let memory = KeyMemory::new();
        let found = IpsecMb::new(&memory);
        let is_portable = match (wanted, found) {
            (TunnelEngine::AwsLc, _) => true,
            (_, Ok(_)) => false,
            (TunnelEngine::Auto, Err(why)) => {
                log::warn!("tunnels: {why}; the portable cipher is used, which is slower");
                true
            }
            (TunnelEngine::IpsecMb, Err(why)) => {
                anyhow::bail!(
                    "tunnels.engine: found `ipsec_mb`, and {why}; expected a CPU that it is made for; hint: `auto`"
                )
            }
        };
        Ok(Self { memory, is_portable })
    }

    /// An engine for one lcore. If there is no memory for one of the chosen kind, it is one that knows no key of the
    /// others: it neither seals nor opens.
    #[must_use]
    pub fn make(&self) -> AnyEngine {
        if self.is_portable {
            return AnyEngine::portable();
        }
        IpsecMb::new(&self.memory).map_or_else(
            |why| {
                log::error!("tunnels: {why}; an lcore drops what it would seal or open");
                AnyEngine::portable()
            },
            AnyEngine::IpsecMb,
        )
    }

    /// What is known of the memory that keys are in.
    #[must_use]
    pub const fn memory(&self) -> &KeyMemory {
        &self.memory
    }
}
