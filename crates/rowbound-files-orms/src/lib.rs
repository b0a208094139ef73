//! Nothing: `tests/values.rs` is what is here. It has a crate of its own, because three ORMs at once are much to build for whoever wants to run the other
//! tests of rowbound-files.
