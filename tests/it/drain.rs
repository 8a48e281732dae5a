//! The end: nothing new, everything begun finishes, and the exit code says whether it did.

mod cut;
mod delay;
mod finish;
