//! Tests that concern more than one module.

mod corpus;
mod wire;
