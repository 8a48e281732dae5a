//! Servers that refuse, break, stall or differ.

mod balance;
mod cut_bodies;
mod ejection;
mod faults;
mod health;
mod retry;
