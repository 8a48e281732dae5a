//! Reading the record, until there is nothing to come.

use std::time::Duration;

use crate::stress::client::{Client, Target};
use crate::stress::judge::Record;
use crate::time;

/// For one look.
const READS: Duration = Duration::from_secs(60);
/// Between two looks; a record that is the same for so long, with nothing running, has come to rest.
const REST: Duration = Duration::from_secs(1);
/// How long is waited for that.
const MOST: Duration = Duration::from_secs(60);

/// Where the agent's record is.
#[derive(Debug)]
pub struct Reader {
    target: Target,
    url: String,
    path: String,
}

impl Reader {
    /// # Errors
    /// In a sentence: `url` is none, or its host has no address.
    pub fn of(url: &str) -> Result<Self, String> {
        let (base, path) = parts(url);
        Ok(Self { target: Target::of(base)?, url: url.to_owned(), path: path.to_owned() })
    }

    /// Whether `url` can be one, without asking anybody.
    ///
    /// # Errors
    /// In a sentence.
    pub fn check(url: &str) -> Result<(), String> {
        let (base, path) = parts(url);
        Target::unknown(base)?;
        path.parse::<http::Uri>().map(drop).map_err(|error| format!("`{path}` is no path: {error}"))
    }

    /// The record as it stands.
    ///
    /// # Errors
    /// In a sentence; also when Ctrl-C comes first.
    pub fn now(&self) -> Result<Record, String> {
        runtime()?.block_on(async {
            tokio::select! {
                record = self.read() => record,
                _ = tokio::signal::ctrl_c() => Err(ended()),
            }
        })
    }

    /// The record when it has come to rest: an agent may execute something once more, or write down what it executed, a
    /// little after its answer. While something `is_missing` it may also be that the agent is late, so that the rest must be
    /// as long as `patience`.
    ///
    /// # Errors
    /// In a sentence. On Ctrl-C what was read last is taken.
    pub fn at_rest(&self, patience: Duration, is_missing: impl Fn(&Record) -> bool) -> Result<Record, String> {
        runtime()?.block_on(async {
            let until = time::now() + MOST;
            let mut since = time::now();
            let mut last: Option<Record> = None;
            let mut is_told = false;
            loop {
                let began = time::now();
                let record = tokio::select! {
                    record = self.read() => record?,
                    _ = tokio::signal::ctrl_c() => return last.ok_or_else(ended),
                };
                if last.as_ref() != Some(&record) {
                    since = began;
                }
                let rest = began.saturating_duration_since(since);
                let runs = record.values().flatten().any(|one| one.end.is_none());
                let is_at_rest = rest >= REST && !runs && (rest >= patience || !is_missing(&record));
                if is_at_rest || began >= until {
                    return Ok(record);
                }
                if last.is_some() && !is_told {
                    is_told = true;
                    eprintln!("waiting for the agent's record to come to rest, at most {MOST:?}");
                }
                last = Some(record);
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    _ = tokio::signal::ctrl_c() => return last.ok_or_else(ended),
                }
            }
        })
    }

    async fn read(&self) -> Result<Record, String> {
        let text = Client::get(&self.target, &self.path, READS).await;
        let text = text.map_err(|why| format!("the record cannot be had: {why}"))?;
        serde_json::from_slice(&text).map_err(|error| format!("the record at {} is none: {error}", self.url))
    }
}

/// What comes before the path, and the path with its query.
fn parts(url: &str) -> (&str, &str) {
    let slash = url.find("://").and_then(|start| url[start + 3..].find('/').map(|slash| start + 3 + slash));
    slash.map_or((url, "/"), |slash| url.split_at(slash))
}

fn ended() -> String {
    "ended by Ctrl-C".to_owned()
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime can be had: {error}"))
}
