//! x

pub mod storage_suite;
