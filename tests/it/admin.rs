//! What operators, dashboards and scripts read.

mod config;
mod connecting;
mod health;
mod metrics;
mod reachable;
mod sessions;
mod status;
mod token;
