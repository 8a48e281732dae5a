//! The composition root: from the policy file to threads that serve, and to the exit code.

pub mod collector;
mod notify;
pub mod serve;
mod watch_file;
mod workers;
