//! Properties of a node other than its place and addresses. They fit in a byte, since a board keeps millions of them.

use serde::Serialize;

/// How a host knows a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StationKind {
    /// From a configuration, or from the operator.
    #[default]
    Declared,
    /// From frames that its host has received.
    Learned,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct NodeFacts {
    /// How it is known.
    pub kind: StationKind,
    /// Whether it is an IPv6 router (RFC 4861 section 4.4), if that is known.
    pub router: Option<bool>,
}

const LEARNED: u8 = 1;
const ROUTER: u8 = 2;
const NO_ROUTER: u8 = 4;

impl NodeFacts {
    /// As a byte; 0 for the default.
    #[must_use]
    pub const fn bits(self) -> u8 {
        let kind = match self.kind {
            StationKind::Declared => 0,
            StationKind::Learned => LEARNED,
        };
        let router = match self.router {
            None => 0,
            Some(true) => ROUTER,
            Some(false) => NO_ROUTER,
        };
        kind | router
    }

    /// The reverse; unknown bits are ignored.
    #[must_use]
    pub const fn of_bits(bits: u8) -> Self {
        let kind = if bits & LEARNED != 0 { StationKind::Learned } else { StationKind::Declared };
        let router = match bits & (ROUTER | NO_ROUTER) {
            ROUTER => Some(true),
            NO_ROUTER => Some(false),
            _ => None,
        };
        Self { kind, router }
    }

    /// Whether it is a learned node.
    #[must_use]
    pub fn is_learned(self) -> bool {
        self.kind == StationKind::Learned
    }
}
