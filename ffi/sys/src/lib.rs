//! The bindings that bindgen makes of `csrc/shim.h` and `csrc/gcm.h`: DPDK itself, the shims for its inline functions,
//! and AES-GCM of ipsec-mb. Use the `dpdk` crate, which has a safe owner for each of these.

#![no_std]
#![allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
