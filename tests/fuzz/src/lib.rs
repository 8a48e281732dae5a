//! What the targets run. `tests/corpora.rs` runs the same on what they have found.

pub mod checks;
pub mod house;
pub mod reference;
