//! Why the tables may be trusted: property tests against plain models, threads that read while the writer
//! churns, and the model checker over the same sources.

mod map64_props;
mod model;
mod small;
mod stress;
mod wide_props;
