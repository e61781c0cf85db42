//! The fuzz targets' common ground: `wire` and the functions that exercise it, included by path so that
//! fuzzing needs neither DPDK nor the rest of the appliance. What may enter: modules that depend on nothing
//! but the configuration's newtypes.

#[path = "../../appliance/wire/mod.rs"]
pub mod wire;

#[path = "../../appliance/wire/exercise.rs"]
pub mod exercise;
