//! Where one message ends and the next begins must never be a matter of opinion.

mod broken_after_the_head;
mod broken_chunks;
mod heads;
mod lost_track;
mod paths_with_dots;
mod refused;
mod tail_of_a_body;
mod upstreams_framing;
