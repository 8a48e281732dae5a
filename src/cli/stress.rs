//! `turnwise stress`: a load and correctness test of an agent API.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{FAILED, OK, USAGE};
use crate::config::parse_duration;
use crate::server::descriptors;
use crate::stress::client::Target;
use crate::stress::judge::record::Reader;
use crate::stress::judge::{self, Turns};
use crate::stress::plan::{Custom, Plan, SessionIn, Test};
use crate::stress::process::Watch;
use crate::stress::{Amount, Load, Outcome, Thresholds, run};

/// Without `--requests` and `--duration`.
const REQUESTS: u64 = 500;
/// How long, at most, the record is asked for turns that were answered and are not in it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Load on an agent API, and whether its turns were turns.
#[derive(Debug, Args)]
pub(super) struct Stress {
    /// Where the API is, as http://127.0.0.1:8080.
    #[arg(long, value_name = "BASE", value_parser = base)]
    url: String,
    /// What is sent.
    #[arg(long, value_name = "TEST")]
    test: Kind,
    /// Requests at once.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Requests in all; session-queue counts its own [default: 500].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    requests: Option<u64>,
    /// For so long, instead of a number of requests.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Requests a second (open loop): latency counts from when each was to start.
    #[arg(long, value_name = "R", value_parser = positive)]
    rate: Option<f64>,
    /// Sessions of session-queue and custom.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=run::MOST_SESSIONS))]
    session_count: u64,
    /// Messages to each session of session-queue.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    messages_per_session: u64,
    #[arg(long, default_value = "simple_agent", value_name = "NAME")]
    agent_name: String,
    /// Sent as x-api-key.
    #[arg(long, env = "TURNWISE_STRESS_API_KEY", hide_env_values = true, value_name = "K")]
    api_key: Option<String>,
    /// For one request.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    timeout: Duration,
    /// Makes a run repeatable [default: made up, and told].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Percent of the clients that leave before they have their answer.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percent)]
    leave: f64,
    /// Threads that send [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// URL of the agent's own record of turns as it executed them.
    #[arg(long, value_name = "URL", value_parser = record)]
    record: Option<String>,
    /// Look at the memory, processor time and open files of this process.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Write the figures as JSON; `-` is stdout, and the summary goes to stderr.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Write a page with the plots; `-` as above.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Tell no progress.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    custom: CustomArgs,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "For --test custom")]
struct CustomArgs {
    #[arg(long, default_value = "POST", value_name = "METHOD")]
    method: Method,
    /// With {session}, {turn}, {message} and {uuid}, as the body.
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// A field of every request, of every test.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = super::field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    #[arg(long, value_name = "TEMPLATE")]
    body: Option<String>,
    /// Where the session stands: header:X-Session-Id, json:/session_id or query:session_id.
    #[arg(long, value_name = "PLACE", value_parser = session_in)]
    session_in: Option<SessionIn>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Thresholds (exit code 1 when one does not hold)")]
struct Limits {
    /// Part of all requests, 0 to 1.
    #[arg(long, value_name = "PART", value_parser = part)]
    max_error_rate: Option<f64>,
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_p95: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_mean: Option<Duration>,
    /// Successes a second.
    #[arg(long, value_name = "R", value_parser = positive)]
    min_throughput: Option<f64>,
    /// Turns out of order, overlapping, repeated or lost; needs --record.
    #[arg(long, value_name = "N", requires = "record")]
    max_turn_faults: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    AgentRun,
    SessionQueue,
    FullApi,
    Custom,
}

fn base(text: &str) -> Result<String, String> {
    Target::unknown(text).map(|_| text.to_owned())
}

fn record(text: &str) -> Result<String, String> {
    Reader::check(text).map(|()| text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|fault| fault.message)?;
    if duration.is_zero() { Err("must be more than 0s".to_owned()) } else { Ok(duration) }
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "is no number".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let fits = |number| (0.001..=10_000_000.0).contains(&number);
    number(text)
        .and_then(|number| if fits(number) { Ok(number) } else { Err("must be from 0.001 to 10000000".to_owned()) })
}

fn part(text: &str) -> Result<f64, String> {
    let of_one =
        |number| if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("must be from 0 to 1".to_owned()) };
    number(text).and_then(of_one)
}

fn percent(text: &str) -> Result<f64, String> {
    let of_all =
        |number| if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("must be from 0 to 100".to_owned()) };
    number(text.trim_end_matches('%')).and_then(of_all)
}

fn session_in(text: &str) -> Result<SessionIn, String> {
    match text.split_once(':') {
        Some(("header", name)) => name.parse().map(SessionIn::Header).map_err(|_| format!("`{name}` is no field name")),
        Some(("json", pointer)) if pointer.starts_with('/') => Ok(SessionIn::Json(pointer.to_owned())),
        Some(("query", name)) if !name.is_empty() => Ok(SessionIn::Query(name.to_owned())),
        _ => Err("is header:NAME, json:/POINTER or query:NAME".to_owned()),
    }
}

impl Stress {
    /// Runs the test and prints its summary. Returns the exit code.
    pub(super) fn run(self) -> u8 {
        let (plan, load) = match self.meant() {
            Ok(meant) => meant,
            Err(why) => {
                eprintln!("turnwise: {why}");
                return USAGE;
            }
        };
        // Each client has a connection.
        descriptors::raise_limit();
        let mut made = Vec::new();
        match self.outcome(plan, load, &mut made) {
            Ok((outcome, judged)) => {
                let summary = outcome.summary();
                // A reader that closed the pipe has read enough.
                let _ = match self.files().any(is_stdout) {
                    true => std::io::stderr().lock().write_all(summary.as_bytes()),
                    false => std::io::stdout().lock().write_all(summary.as_bytes()),
                };
                let written = self.output.iter().map(|file| write(file, &format!("{:#}\n", outcome.json())));
                let written = written.chain(self.report.iter().map(|file| write(file, &outcome.html())));
                let failed = written.filter_map(Result::err).map(|why| eprintln!("turnwise: {why}")).count();
                if outcome.holds() && judged && failed == 0 { OK } else { FAILED }
            }
            Err(why) => {
                // Nothing has come of it, so that nothing is left of it. What cannot be taken away is empty.
                made.iter().for_each(|file| drop(std::fs::remove_file(file)));
                eprintln!("turnwise: {why}");
                FAILED
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        self.output.iter().chain(&self.report).map(PathBuf::as_path)
    }

    /// What the arguments mean, if they go together. Nobody is asked for anything yet.
    fn meant(&self) -> Result<(Plan, Load), String> {
        self.fits_together()?;
        let seed = self.seed.unwrap_or_else(|| {
            let mut bits = [0; 4];
            getrandom::fill(&mut bits).map_or(0, |()| u64::from(u32::from_le_bytes(bits)))
        });
        let plan = self.plan(seed)?;
        let threads =
            self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        let load = Load {
            concurrency: self.concurrency as usize,
            amount: self.duration.map_or(Amount::Requests(self.requests.unwrap_or(REQUESTS)), Amount::Time),
            rate: self.rate,
            timeout: self.timeout,
            seed,
            leave: self.leave,
            threads,
            progress: !self.quiet,
        };
        run::check(&plan, &load)?;
        Ok((plan, load))
    }

    fn fits_together(&self) -> Result<(), &'static str> {
        let mut templates = self.custom.body.iter().chain([&self.custom.path]);
        match self.test {
            Kind::SessionQueue if self.duration.is_some() => {
                Err("--duration is not for session-queue: it ends with its last message")
            }
            Kind::SessionQueue if self.requests.is_some() => Err(
                "--requests is not for session-queue: it sends --messages-per-session to each of --session-count sessions",
            ),
            Kind::AgentRun | Kind::FullApi if self.record.is_some() => {
                Err("--record is for session-queue and custom: other tests count no turns")
            }
            Kind::Custom if self.record.is_some() && !templates.any(|it| it.contains("{message}")) => {
                Err("--record knows a message by its text: put {message} into --body or --path")
            }
            _ if self.files().filter(|file| is_stdout(file)).count() > 1 => {
                Err("only one of --output and --report can be stdout")
            }
            _ => Ok(()),
        }
    }

    /// With whether turns were judged where they were to be. `made`: files that were not there before.
    fn outcome(&self, mut plan: Plan, load: Load, made: &mut Vec<PathBuf>) -> Result<(Outcome, bool), String> {
        // Before the load, not after it; what stands there stays until there is something better.
        for file in self.files().filter(|file| !is_stdout(file)) {
            let is_new = !file.exists();
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(|error| cannot_write(file, &error))?;
            if is_new {
                made.push(file.to_owned());
            }
        }
        plan.target = Target::of(&self.url)?;
        let seed = plan.seed;
        let reader = self.record.as_deref().map(Reader::of).transpose()?;
        let before = reader.as_ref().map(Reader::now).transpose()?;
        let watched = self.pid.map(Watch::of).transpose()?;
        let ran = run::run(plan.clone(), load, watched)?;
        let record = reader.zip(before).map(|(reader, before)| {
            // What was answered with a success was executed, or will be.
            let is_missing = |record: &judge::Record| {
                judge::judge(&plan, &ran.tally.turns, &judge::without(record.clone(), &before)).lost != Some(0)
            };
            let record = reader.at_rest(self.timeout.min(PATIENCE), is_missing)?;
            Ok::<_, String>(judge::without(record, &before))
        });
        let (turns, judged) = match record {
            None => (Turns::default(), true),
            Some(Ok(record)) => {
                if ran.tally.succeeded > 0 && !record.keys().any(|session| session.starts_with(&plan.name)) {
                    eprintln!("turnwise: the record has none of the sessions {}-s…", plan.name);
                }
                (judge::judge(&plan, &ran.tally.turns, &record), true)
            }
            Some(Err(why)) => {
                eprintln!("turnwise: turns are not judged: {why}");
                (Turns::default(), false)
            }
        };
        let mut outcome = Outcome {
            test: plan.test.word(),
            url: self.url.clone(),
            seed,
            tally: ran.tally,
            took: ran.took,
            turns,
            taken: ran.taken,
            interrupted: ran.interrupted,
            unsent: ran.unsent,
            spaced: ran.spaced,
            checked: Vec::new(),
        };
        outcome.check(&Thresholds {
            max_error_rate: self.limits.max_error_rate,
            max_p95: self.limits.max_p95,
            max_mean: self.limits.max_mean,
            min_throughput: self.limits.min_throughput,
            max_turn_faults: self.limits.max_turn_faults,
        });
        Ok((outcome, judged))
    }

    /// With no address of its target yet.
    fn plan(&self, seed: u64) -> Result<Plan, String> {
        let mut headers: HeaderMap = self.custom.headers.iter().cloned().collect();
        if let Some(key) = &self.api_key {
            let mut value = HeaderValue::try_from(key).map_err(|_| "--api-key is no field value".to_owned())?;
            value.set_sensitive(true);
            headers.insert("x-api-key", value);
        }
        let agent = self.agent_name.clone();
        let test = match self.test {
            Kind::AgentRun => Test::AgentRun { agent },
            Kind::SessionQueue => {
                Test::SessionQueue { agent, sessions: self.session_count, messages: self.messages_per_session }
            }
            Kind::FullApi => Test::FullApi { agent },
            Kind::Custom => Test::Custom(Custom {
                method: self.custom.method.clone(),
                path: self.custom.path.clone(),
                body: self.custom.body.clone(),
                sessions: self.session_count,
                session_in: self.custom.session_in.clone(),
            }),
        };
        let name = format!("stress-{seed}");
        Ok(Plan { target: Target::unknown(&self.url)?, test, name, seed, headers })
    }
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    if is_stdout(file) {
        // As above.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        return Ok(());
    }
    std::fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be written: {error}", file.display())
}
