//! Tests of the whole module: bytes made by an independent implementation (`golden`), generated input
//! (`properties`), the ECN table, and the saved fuzz corpus (`corpus`).

mod corpus;
mod golden;
mod properties;
