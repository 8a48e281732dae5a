use crate::harness::command::turnwise;
use crate::harness::{eventually, get};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::Connection;
use crate::harness::gateway::BINARY;
use crate::harness::wait::within;

#[test]
fn directly_the_agent_fails_and_through_the_gateway_it_loses_nothing() {
    let output = turnwise(&["demo", "--once"]);
    assert_eq!(output.code, 0, "{}", output.all());
    let row = |name: &str| {
        let line = output.stdout.lines().find(|line| line.starts_with(name));
        let cells = line.unwrap_or_else(|| panic!("no {name}: {}", output.stdout))[name.len()..].trim().to_owned();
        let (direct, through) = cells.split_once("  ").expect("two sides");
        (direct.trim().to_owned(), through.trim().to_owned())
    };
    let (direct, through) = row("success rate");
    assert_eq!(through, "100.0 %");
    assert!(direct.trim_end_matches(" %").parse::<f64>().expect("a number") < 50.0, "{direct}");
    assert_eq!(row("corrupted conversations"), ("8 of 8".into(), "0 of 8".into()));
    assert_eq!((row("turns out of order").1, row("overlapping turns").1), ("0".into(), "0".into()));
    for name in ["latency p50", "latency p95", "successes", "time"] {
        row(name);
    }
}

/// Told to end in any case: it has a gateway to end.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
            within(std::time::Duration::from_secs(20), || matches!(self.0.try_wait(), Ok(Some(_))));
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[test]
fn it_stays_up_and_says_what_to_try_until_it_is_ended() {
    let spawned =
        Command::new(BINARY).arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut demo = Demo(spawned.expect("the binary"));
    let child = &mut demo.0;
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut admin = None;
    for line in lines {
        let line = line.expect("text");
        if let Some(address) = line.trim().strip_prefix("http://").and_then(|rest| rest.split_once("/metrics")) {
            admin = address.0.parse().ok();
            break;
        }
    }
    let admin = admin.expect("an address for metrics");
    Connection::open(admin).ask(&get("/status")).response().assert_ok();
    assert!(child.try_wait().expect("our child").is_none());
    let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(told.success());
    eventually("it ends", || child.try_wait().expect("our child").is_some());
    assert_eq!(child.wait().expect("our child").code(), Some(0));
    let gone = within(std::time::Duration::from_secs(10), || std::net::TcpStream::connect(admin).is_err());
    assert!(gone, "the gateway goes with it");
}
