//! The `meshlog` binary.
fn main() {}
