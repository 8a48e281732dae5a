//! Behaviour on in-memory connections with a paused clock: hours pass in milliseconds, and every test ends with all
//! gauges at zero.
//!
//! tokio moves a paused clock to the next timer whenever all tasks are idle, so a test says `sleep` where it means
//! "this much later", and nothing here depends on how fast the machine is.

mod aloud;
mod background;
mod drain;
mod harness;
mod http2_clients;
mod interrupts;
mod joining;
mod leaving;
mod nested;
mod nested_at_random;
mod places;
mod rates;
mod reload;
mod resting;
mod simulation;
mod stalled_readers;
mod timeouts;
mod tunnels;
mod turns;
mod upstreams;
mod when_busy;
