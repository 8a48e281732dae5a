//! What the client gets: the gateway's own answers, and the upstream's with a body that owns its permit.

pub mod abandoned;
pub mod aloud;
pub mod body;
pub mod ending;
pub mod job;
pub mod joined;
pub mod refusal;
