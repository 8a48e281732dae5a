//! Where one message ends and the next begins must never be a matter of opinion.

mod broken_chunks;
mod heads;
mod paths_with_dots;
mod refused;
mod upstreams_framing;
