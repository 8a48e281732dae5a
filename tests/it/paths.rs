//! Which route a request takes.

mod encoded;
mod matching;
mod order;
