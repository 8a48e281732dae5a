//! What passes through, passes whole and at once.

mod bodies;
mod close_delimited;
mod early_answer;
mod early_end_of_http2;
mod expect;
mod http2;
mod interim;
mod keep_alive;
mod large;
mod methods;
mod server_sent_events;
mod trailers;
mod upgrade;
mod uploads_side_by_side;
