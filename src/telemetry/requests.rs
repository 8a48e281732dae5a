//! Which requests have a line in the log when they end.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `--log-requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogRequests {
    #[default]
    Off,
    /// Those that got a status of 400 or above, or no whole answer.
    Problems,
    /// So many of ten thousand.
    Share(u16),
}

const ALL: u16 = 10_000;

impl FromStr for LogRequests {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "problems" => Ok(Self::Problems),
            "all" => Ok(Self::Share(ALL)),
            _ => {
                let share = text.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
                let share = share.filter(|percent| (0.0..=100.0).contains(percent));
                let share = share.ok_or("must be `off`, `problems`, `all` or a share such as `10%`")?;
                Ok(Self::Share((share * 100.0).round() as u16))
            }
        }
    }
}

/// What was asked for: one word, which every request reads.
static WANTED: AtomicU64 = AtomicU64::new(0);
const PROBLEMS: u64 = 1 << 32;

/// Says which are told of from now on.
pub fn tell(which: LogRequests) {
    let word = match which {
        LogRequests::Off => 0,
        LogRequests::Problems => PROBLEMS,
        LogRequests::Share(share) => u64::from(share),
    };
    WANTED.store(word, Relaxed);
}

/// Whether anything is to be noted of a request. `chance` is any number that is as likely as any other.
#[must_use]
pub fn notes(chance: impl FnOnce() -> u64) -> bool {
    match WANTED.load(Relaxed) {
        0 => false,
        PROBLEMS => true,
        share => chance() % u64::from(ALL) < share,
    }
}

/// Whether one that was noted and ended so is told of.
#[must_use]
pub fn tells(status: u16, is_whole: bool) -> bool {
    WANTED.load(Relaxed) != PROBLEMS || status >= 400 || !is_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_to_a_hundredth_of_a_percent() {
        for (text, read) in [
            ("off", Some(LogRequests::Off)),
            ("problems", Some(LogRequests::Problems)),
            ("all", Some(LogRequests::Share(10_000))),
            ("100%", Some(LogRequests::Share(10_000))),
            ("0.25%", Some(LogRequests::Share(25))),
            ("0%", Some(LogRequests::Share(0))),
            ("101%", None),
            ("-1%", None),
            ("NaN%", None),
            ("10", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), read, "{text}");
        }
    }
}
