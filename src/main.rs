//! The `st` binary.
#![forbid(unsafe_code)]

fn main() {}
