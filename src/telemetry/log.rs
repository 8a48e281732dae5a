//! Log lines: to stderr, as text for people or JSON for collectors.
//!
//! Lines are written by a thread of their own. Whoever reads stderr may be slow or not read at all: then lines are dropped
//! and counted, and nobody waits.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait to be written.
const BUFFERED: usize = 10_000;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Writes what is left when it is dropped, for a second at most.
#[derive(Debug)]
#[must_use = "lines are written while it is there"]
pub struct Log {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
}

impl Log {
    /// Counts the lines that were dropped because stderr was too slow.
    #[must_use]
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Starts logging. `format` defaults to text on a terminal and JSON elsewhere; `level` to `RUST_LOG`, then `info`.
///
/// # Errors
/// A sentence when `level` is no filter, or when logging was started before.
pub fn start(format: Option<LogFormat>, level: Option<&str>) -> Result<Log, String> {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level).map_err(|e| format!("--log-level {level}: {e}"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    // They would be told on stderr, by a macro that panics where it cannot be written to.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(terminal).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|e| format!("logging could not be started: {e}"))?;
    Ok(Log { _writer: guard, dropped })
}
