//! The `pakt` binary.
fn main() {}
