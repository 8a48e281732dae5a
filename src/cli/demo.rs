//! `turnwise demo`: a broken agent becomes a calm one.

use std::path::PathBuf;

use clap::Args;

use super::{FAILED, OK};
use crate::demo::{Options, show};

/// A sample agent under load, directly and through the gateway.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The gateway's port [default: 8080, or any that is free].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// End after the table; otherwise it stays up until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Another policy than the shipped one; the agent takes the place of its first server.
    #[arg(short = 'c', long = "config", env = "TURNWISE_CONFIG", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Demo {
    /// Runs it. Returns the exit code.
    pub(super) fn run(self) -> u8 {
        match show(&Options { port: self.port, once: self.once, policy: self.file }) {
            Ok(true) => OK,
            Ok(false) => FAILED,
            Err(why) => {
                eprintln!("turnwise: {why}");
                FAILED
            }
        }
    }
}
