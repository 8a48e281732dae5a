//! See it in two minutes: a sample agent that breaks under load, directly and then through the gateway.
//!
//! The agent is a small HTTP server in this process; the gateway is this very program, started as a process of its own with
//! the shipped policy; the load is that of the stress test. Nothing here knows more of either than their ports, and the agent
//! does not know who calls it.

pub mod agent;
mod gateway;
mod table;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::stress::client::{Client, Target};
use crate::stress::judge::{Record, Turns, judge};
use crate::stress::plan::{Plan, Test};
use crate::stress::tally::{Tally, Went};
use crate::stress::{Amount, Load, run};
use agent::Agent;
use gateway::Gateway;
pub use table::Side;

/// What is asked of the demonstration.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's public port; `None`: 8080, or any that is free.
    pub port: Option<u16>,
    /// Ends after the table.
    pub once: bool,
    /// Another policy than the shipped one.
    pub policy: Option<PathBuf>,
}

/// Conversations, and messages of each.
const CONVERSATIONS: u64 = 8;
const MESSAGES: u64 = 25;
/// Messages on their way at once: three of each conversation, from people who do not wait for the answer.
const AT_ONCE: usize = 24;
const SEED: u64 = 1;
/// For one look at what the agent remembers.
const READS: Duration = Duration::from_secs(10);

/// Runs it. Whether the gateway's side lost nothing.
///
/// # Errors
/// In a sentence, when a port or a process cannot be had.
pub fn show(options: &Options) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be had: {error}"))?;
    let asked_to_end = runtime.block_on(async { AskedToEnd::listen() });
    let mut asked_to_end = asked_to_end.map_err(|error| format!("signals cannot be heard: {error}"))?;
    let wanted = gateway::Ports::wanted(options)?;
    let unheard = |error: std::io::Error| format!("the agent cannot listen on {}: {error}", wanted.agent);
    let listener = TcpListener::bind(wanted.agent);
    // Somebody may have been quicker, where the port does not matter.
    let listener =
        listener.or_else(|error| if options.policy.is_none() { TcpListener::bind(loopback(0)) } else { Err(error) });
    let listener = listener.map_err(unheard)?;
    let agent = listener.local_addr().map_err(unheard)?;
    Agent::start(listener).map_err(unheard)?;
    println(&format!(
        "A sample agent listens on http://{agent}. It is correct while its requests take turns, and its model"
    ));
    println("takes three requests at once; to more it answers 500.\n");
    let agent_url = format!("http://{agent}");
    let messages = CONVERSATIONS * MESSAGES;
    println(&format!(
        "{messages} messages of {CONVERSATIONS} conversations, {AT_ONCE} on their way at once, directly:"
    ));
    let direct = side(&runtime, "directly", &agent_url, &agent_url)?;
    let gateway = Gateway::start(&runtime, options, &wanted, agent)?;
    println(&format!("\nThe same through Turnwise on {}, as {} says:", gateway.url, gateway.policy()));
    let through = side(&runtime, "through Turnwise", &gateway.url, &agent_url)?;
    println("");
    println(&table::table(&[&direct, &through]));
    let lost_nothing = through.lost_nothing();
    println(table::verdict(&direct, &through, options.policy.is_some()));
    if !options.once {
        println(&gateway.invitation());
        runtime.block_on(asked_to_end.wait());
        println("");
    }
    gateway.end(&runtime);
    Ok(lost_nothing)
}

/// Ctrl-C, SIGTERM, or a terminal that is closed. Heard from the beginning: whoever ends it amid the load ends the gateway with it, when the load is over.
struct AskedToEnd {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl AskedToEnd {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        // Whichever comes: the end is the same.
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {}, _ = self.hangup.recv() => {} }
    }
}

/// Loads one side and looks at what the agent remembers of it.
fn side(runtime: &tokio::runtime::Runtime, name: &'static str, url: &str, agent: &str) -> Result<Side, String> {
    let agent = Target::of(agent)?;
    runtime.block_on(reset(&agent))?;
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("demo"));
    let plan = Plan {
        target: Target::of(url)?,
        test: Test::SessionQueue { agent: "simple_agent".to_owned(), sessions: CONVERSATIONS, messages: MESSAGES },
        name: "demo".to_owned(),
        seed: SEED,
        headers,
    };
    let load = Load {
        concurrency: AT_ONCE,
        amount: Amount::Requests(CONVERSATIONS * MESSAGES),
        rate: None,
        timeout: Duration::from_secs(120),
        seed: SEED,
        leave: 0.0,
        threads: 1,
        progress: true,
    };
    let ran = run::run(plan.clone(), load, None)?;
    if ran.interrupted {
        return Err("ended by Ctrl-C".to_owned());
    }
    let (record, remembered) = runtime.block_on(memory(&agent))?;
    let turns = judge(&plan, &ran.tally.turns, &record);
    let corrupted = (0..CONVERSATIONS).filter(|session| !is_intact(&plan, &ran.tally, *session, &record, &remembered));
    Ok(Side {
        name,
        corrupted: corrupted.count() as u64,
        conversations: CONVERSATIONS,
        turns,
        tally: ran.tally,
        took: ran.took,
    })
}

/// A conversation is intact if the agent has executed every message of it once, one after another, in order, and
/// remembers them all.
fn is_intact(
    plan: &Plan,
    tally: &Tally,
    session: u64,
    record: &Record,
    remembered: &BTreeMap<String, Vec<String>>,
) -> bool {
    let name = plan.session(session);
    let mut sent: Vec<_> = tally.turns.iter().filter(|sent| sent.turn.session == session).collect();
    sent.sort_by_key(|sent| sent.turn.number);
    let messages: Vec<String> = sent.iter().map(|sent| plan.message(&sent.turn)).collect();
    let all_succeeded = sent.len() as u64 == MESSAGES && sent.iter().all(|sent| sent.went == Went::Succeeded);
    let own: Vec<_> = tally.turns.iter().filter(|sent| sent.turn.session == session).cloned().collect();
    let faults = judge(plan, &own, record).faults();
    all_succeeded && faults == Turns::default().faults().or(Some(0)) && remembered.get(&name) == Some(&messages)
}

async fn reset(agent: &Target) -> Result<(), String> {
    let mut client = Client::new(agent.address);
    let request = http::Request::post("/reset").header(http::header::HOST, agent.host.clone());
    let request = request.body(http_body_util::Full::default()).map_err(|error| error.to_string())?;
    match client.exchange(request, Duration::from_secs(10)).await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        other => Err(format!("the agent cannot be reset: {other:?}")),
    }
}

/// The agent's record and its conversations, once it has nothing to do any more.
async fn memory(agent: &Target) -> Result<(Record, BTreeMap<String, Vec<String>>), String> {
    let none = |error: serde_json::Error| format!("the agent says what cannot be read: {error}");
    for _ in 0..200 {
        let health = Client::get(agent, "/health", READS).await?;
        let health: serde_json::Value = serde_json::from_slice(&health).map_err(none)?;
        if health["processing"] == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let record = serde_json::from_slice(&Client::get(agent, "/record", READS).await?).map_err(none)?;
    let conversations = serde_json::from_slice(&Client::get(agent, "/conversations", READS).await?).map_err(none)?;
    Ok((record, conversations))
}

/// A line for whoever watches. One who has closed the pipe has seen enough.
fn println(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A port of this machine.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
