//! What operators, dashboards and scripts read.

mod browsers;
mod config;
mod connecting;
mod health;
mod history;
mod incident;
mod metrics;
mod page;
mod reachable;
mod sessions;
mod status;
mod token;
