//! The command line: arguments in, exit codes out.

mod check;
mod demo;
mod explain;
mod stress;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::control::drain::Drained;
use crate::gateway::collector;
use crate::gateway::serve::{Ended, serve};
use crate::policy::reference;
use crate::telemetry::log::{self, LogFormat};
use crate::telemetry::requests::{self, LogRequests};

/// A reverse proxy that makes the requests to an agent API take turns.
#[derive(Debug, Parser)]
#[command(name = "turnwise", version, propagate_version = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT, then drain (also without a command).
    Serve(Serve),
    /// Validate a policy without starting; every problem in one go.
    Check(Check),
    /// Say which route, session key, limits, timeouts and upstream a request would get, and why.
    Explain(explain::Explain),
    /// See what it does: a sample agent under load, directly and through the gateway.
    Demo(demo::Demo),
    /// Put load on an agent API, and find out whether its turns were turns.
    Stress(Box<stress::Stress>),
    /// Print the JSON schema of the policy file, for editors.
    Schema,
    /// Print all keys of the policy file, with their defaults and bounds, as Markdown.
    Reference,
    /// Print what a shell needs to complete the arguments of this program.
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages.
    Man {
        /// Where to; it must be there.
        #[arg(value_name = "FOLDER", default_value = ".")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct PolicyFile {
    /// The policy file.
    #[arg(short = 'c', long = "config", env = "TURNWISE_CONFIG", default_value = "gateway.yaml", value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    policy: PolicyFile,
    /// How log lines are written to stderr [default: text on a terminal, json otherwise].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: RUST_LOG, then info].
    #[arg(long, value_name = "LEVEL", value_parser = log::filter)]
    log_level: Option<String>,
    /// Which requests have a line in the log when they end: off, problems (status 400 or above, or no whole answer), all, or a
    /// share such as 10%.
    #[arg(long, value_name = "WHICH", default_value = "off", env = "TURNWISE_LOG_REQUESTS")]
    log_requests: LogRequests,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    policy: PolicyFile,
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Everything succeeded.
const OK: u8 = 0;
/// The gateway did not start, the policy does not hold, or no route matches.
const FAILED: u8 = 1;
/// Arguments that do not go together.
const USAGE: u8 = 2;
/// `drain_timeout` cut something.
const CUT: u8 = 3;
/// Ended by a second signal.
const AT_ONCE: u8 = 130;

/// Runs the command that the arguments ask for. Usage errors exit with 2.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(serve) => run(serve),
        Command::Check(check) => check::check(&check.policy.file, check.format == Format::Json),
        Command::Explain(explain) => explain.run(),
        Command::Demo(demo) => demo.run(),
        Command::Stress(stress) => stress.run(),
        Command::Schema => print(&reference::schema()),
        Command::Reference => print(&reference::markdown()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "turnwise", &mut std::io::stdout());
            OK
        }
        Command::Man { folder } => match clap_mangen::generate_to(Cli::command(), &folder) {
            Ok(()) => OK,
            Err(error) => failed(&format_args!("{}: {error}", folder.display())),
        },
    };
    ExitCode::from(code)
}

fn print(text: &str) -> u8 {
    // A reader that closed the pipe has read enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    OK
}

/// `Name: value`, as an argument.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a field is written `Name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no field name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no field value"))?;
    Ok((name, value))
}

fn run(arguments: Serve) -> u8 {
    let log = match log::start(arguments.log_format, arguments.log_level) {
        Ok(log) => log,
        Err(error) => return failed(&error),
    };
    requests::tell(arguments.log_requests);
    let traces = match collector::start() {
        Ok(traces) => traces,
        Err(error) => return failed(&error),
    };
    match serve(arguments.policy.file, log.dropped(), traces) {
        Ok(Ended::Drained(Drained::Clean)) => OK,
        Ok(Ended::Drained(Drained::Cut(_))) => CUT,
        Ok(Ended::AtOnce) => AT_ONCE,
        Err(error) => failed(&error),
    }
}

/// Says why, if that can be said: a full disk behind stderr is no reason to panic.
fn failed(why: &dyn std::fmt::Display) -> u8 {
    let _ = writeln!(std::io::stderr(), "turnwise: {why}");
    FAILED
}
