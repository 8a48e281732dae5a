//! Every wait has an end, and every end its own reason.

mod closed_window;
mod connect;
mod idle;
mod request;
mod response;
mod stalled_reader;
mod total;

/// The gateway's own limit of one at a time shows whether a place came back.
fn policy(timeouts: &str) -> String {
    format!("limits: {{ concurrency: 1 }}\ndefaults: {{ abandoned: cancel, timeouts: {{ {timeouts} }} }}\n")
}
