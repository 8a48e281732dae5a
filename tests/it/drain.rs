//! The end: nothing new, everything begun finishes, and the exit code says whether it did.

mod abandoned_work;
mod asked_twice;
mod cut;
mod delay;
mod finish;
mod silent_connections;
