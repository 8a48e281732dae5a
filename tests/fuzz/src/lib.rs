//! What the targets have in common.

pub mod house;
pub mod reference;
