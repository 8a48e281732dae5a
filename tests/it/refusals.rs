//! What the gateway says itself.

mod body_limit;
mod clients_that_leave;
mod problems;
