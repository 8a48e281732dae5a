//! Work at an upstream whose client has gone, or was given a 504.
//!
//! A server does not stop because nobody listens any more. Where the policy says so, turn and place stay taken until
//! its answer has ended or `abandoned_limit` is over, so that neither the session's next turn nor any limit overlaps
//! with work that still goes on.

use crate::admission::Permit;
use crate::policy::Abandoned;
use crate::request::exchange::Phase;

/// Whether the work is to be finished; `answering`: its response head has come.
#[must_use]
pub fn finishes(policy: Abandoned, answering: bool) -> bool {
    match policy {
        Abandoned::Finish => true,
        Abandoned::Cancel => false,
        // A server that writes notices a closed connection by itself, at its next write.
        Abandoned::Auto => !answering,
    }
}

/// Lets `work` go on in a task of its own, holding `permit`, for at most the route's `abandoned_limit`; what is left then
/// is dropped, which closes its connection.
pub fn finish(work: impl Future<Output = ()> + Send + 'static, permit: Permit) {
    permit.exchange().enter(Phase::Abandoned);
    let limit = permit.gates().policy.abandoned_limit;
    let task = async move {
        let ended = tokio::select! {
            () = work => "finished",
            () = tokio::time::sleep(limit) => "cut",
            // Who ends it ends it at once.
            _ = permit.exchange().ended() => "cancelled",
        };
        permit.gates().metrics.abandoned(ended);
        drop(permit);
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(task)),
        // The process is ending, and its connections with it.
        Err(_) => drop(task),
    }
}

/// Notes that the work of `permit`'s request was cancelled.
pub fn cancelled(permit: &Permit) {
    permit.gates().metrics.abandoned("cancelled");
}
