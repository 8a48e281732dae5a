//! Log lines: to stderr, as text for people or JSON for collectors.
//!
//! Lines are written by a thread of their own. Whoever reads stderr may be slow or not read at all: then lines are dropped
//! and counted, and nobody waits.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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

/// What is logged: a level, or a filter as in `RUST_LOG`. To a filter any word that is no level is the name of a part of the
/// program, of which it then shows all, and nothing else: here it must be one that can be meant so.
///
/// # Errors
/// A sentence with what is wrong.
pub fn filter(text: &str) -> Result<String, String> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_name = |word: &str| word.starts_with(env!("CARGO_PKG_NAME")) || word.contains(['=', '[', ':']);
    if let Some(word) = text.split(',').map(str::trim).find(|word| !is_level(word) && !is_name(word)) {
        return Err(format!("`{word}` is no level; levels are error, warn, info, debug, trace and off"));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Starts logging. `format` defaults to text on a terminal and JSON elsewhere; `level`, a [`filter`], to `RUST_LOG`, then
/// `info`.
///
/// # Errors
/// A sentence when `RUST_LOG` is no filter, or when logging was started before.
pub fn start(format: Option<LogFormat>, level: Option<String>) -> Result<Log, String> {
    let from_environment = || std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let level = match (level, from_environment()) {
        (Some(level), _) => level,
        (None, Some(text)) => filter(&text).map_err(|error| format!("{}: {error}", EnvFilter::DEFAULT_ENV))?,
        (None, None) => "info".to_owned(),
    };
    let filter = EnvFilter::new(level);
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

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_word_that_would_silence_everything_is_no_filter() {
        for good in
            ["info", "WARN", "off", "warn,turnwise=debug", "turnwise", "turnwise::proxy", "hyper=trace,info", "3"]
        {
            assert_eq!(filter(good).as_deref(), Ok(good));
        }
        for bad in ["", "inof", "warning", "info,verbose", "turnwise=inof", "hyper=[["] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        assert!(filter("inof").expect_err("no level").contains("`inof` is no level"));
    }
}
