//! Fields that are added, kept and removed on the way.

mod forwarded;
mod hop_by_hop;
mod request_id;
mod server_timing;
mod trace;
mod underscore;
mod via_and_host;
