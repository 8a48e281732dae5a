//! What the client gets: the gateway's own answers, and the upstream's with a body that owns its permit.

pub mod abandoned;
pub mod body;
pub mod ending;
pub mod refusal;
