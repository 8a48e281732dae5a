//! Servers that refuse, break, stall or differ.

mod balance;
mod busy_home;
mod closed_in_the_moment;
mod cut_bodies;
mod ejection;
mod faults;
mod health;
mod last_one_left;
mod retry;
mod strict_answers;
