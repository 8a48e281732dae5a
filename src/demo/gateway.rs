//! The gateway of the demonstration: this program, as a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Options, loopback};
use crate::policy::compile;
use crate::stress::client::{Client, Target};

/// The policy that is shipped.
const SHIPPED: &str = include_str!("../../gateway.yaml");
/// How long it may take to start, and to drain.
const PATIENCE: Duration = Duration::from_secs(20);
/// For one look at it.
const LOOKS: Duration = Duration::from_secs(2);

/// Where everybody listens.
#[derive(Debug)]
pub(super) struct Ports {
    public: SocketAddr,
    admin: SocketAddr,
    pub agent: SocketAddr,
    /// Whether others will do as well.
    any: bool,
}

impl Ports {
    /// Those of the policy if it is the user's, else the usual ones where they are free.
    pub(super) fn wanted(options: &Options) -> Result<Self, String> {
        let Some(file) = &options.policy else {
            let public = match options.port {
                Some(port) => loopback(port),
                None => free_or_any(8080)?,
            };
            let any = options.port.is_none();
            return Ok(Self { public, admin: free_or_any(9180)?, agent: free_or_any(8000)?, any });
        };
        if options.port.is_some() {
            return Err("--port is for the shipped policy: a policy of your own says where it listens".to_owned());
        }
        let policy = compile::load(file).map_err(|problems| problems.to_string())?.policy;
        let server = policy.upstreams.iter().flat_map(|upstream| &upstream.servers).next();
        let server = server.ok_or("the policy has no server")?;
        let agent = std::net::ToSocketAddrs::to_socket_addrs(&(&*server.host, server.port));
        let agent = agent.ok().and_then(|mut all| all.next()).filter(|address| address.ip().is_loopback());
        let agent = agent.ok_or_else(|| {
            format!(
                "the sample agent takes the place of the policy's first server, and {} is not of this machine",
                server.url
            )
        })?;
        let plain = policy.listen.iter().find(|listener| listener.tls.is_none() && !listener.proxy_protocol);
        let public = plain.ok_or("the load needs an address without TLS and PROXY protocol in `listen`")?.address;
        Ok(Self { public: reachable(public), admin: reachable(policy.admin.listen), agent, any: false })
    }

    /// Others, where somebody was quicker.
    fn others(&self) -> Result<Self, String> {
        Ok(Self { public: free_or_any(0)?, admin: free_or_any(0)?, agent: self.agent, any: false })
    }
}

/// An address by which a listener on all addresses is reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { loopback(address.port()) } else { address }
}

fn free_or_any(port: u16) -> Result<SocketAddr, String> {
    let bound = TcpListener::bind(loopback(port)).or_else(|_| TcpListener::bind(loopback(0)));
    let bound = bound.and_then(|listener| listener.local_addr());
    bound.map_err(|error| format!("no port of 127.0.0.1 can be had: {error}"))
}

/// The running gateway. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    pub url: String,
    admin: SocketAddr,
    policy: Option<PathBuf>,
    /// Its policy file and its log.
    folder: PathBuf,
}

impl Gateway {
    pub(super) fn start(
        runtime: &tokio::runtime::Runtime,
        options: &Options,
        ports: &Ports,
        agent: SocketAddr,
    ) -> Result<Self, String> {
        match Self::start_on(runtime, options, ports, agent) {
            Err(_) if ports.any => Self::start_on(runtime, options, &ports.others()?, agent),
            started => started,
        }
    }

    fn start_on(
        runtime: &tokio::runtime::Runtime,
        options: &Options,
        ports: &Ports,
        agent: SocketAddr,
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let folder = std::env::temp_dir().join(format!("turnwise-demo-{}", std::process::id()));
        let wrong = |error: std::io::Error| format!("{} cannot be written: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(wrong)?;
        let shipped = folder.join("gateway.yaml");
        std::fs::write(&shipped, SHIPPED).map_err(wrong)?;
        let log = std::fs::File::create(folder.join("gateway.log")).map_err(wrong)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("-c").arg(options.policy.as_ref().unwrap_or(&shipped));
        if options.policy.is_none() {
            let settings = [
                ("TURNWISE_LISTEN", ports.public.to_string()),
                ("TURNWISE_ADMIN_LISTEN", ports.admin.to_string()),
                ("TURNWISE_TOKEN_FILE", "null".to_owned()),
                ("AGENT_URL", format!("http://{agent}")),
                ("AGENT_CONCURRENCY", "3".to_owned()),
            ];
            command.envs(settings);
        }
        // Ctrl-C is for the demonstration, which then ends the gateway.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|error| format!("the gateway cannot be started: {error}"))?;
        let (url, policy) = (format!("http://{}", ports.public), options.policy.clone());
        let mut gateway = Self { child, url, admin: ports.admin, policy, folder };
        runtime.block_on(gateway.is_ready())?;
        Ok(gateway)
    }

    /// Whether it is this one that answers on its port, and not one that was there before.
    async fn answers(&self, admin: &Target) -> bool {
        let Ok(status) = Client::get(admin, "/status", LOOKS).await else {
            // A policy of the user's may want a token for it.
            return self.policy.is_some() && Client::get(admin, "/-/ready", LOOKS).await.is_ok();
        };
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
        let file = self.policy.clone().unwrap_or_else(|| self.folder.join("gateway.yaml"));
        status["policy"]["file"].as_str() == file.to_str()
    }

    fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    async fn is_ready(&mut self) -> Result<(), String> {
        let admin = Target::of(&self.admin_url())?;
        let until = crate::time::now() + PATIENCE;
        while crate::time::now() < until {
            if self.answers(&admin).await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(self.folder.join("gateway.log")).unwrap_or_default();
                return Err(format!("the gateway ended with {status}:\n{}", log.trim_end()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the gateway does not become ready".to_owned())
    }

    /// Which policy it runs, for people.
    pub(super) fn policy(&self) -> String {
        match &self.policy {
            Some(file) => file.display().to_string(),
            None => "the shipped gateway.yaml".to_owned(),
        }
    }

    /// What is worth a try while it is up.
    pub(super) fn invitation(&self) -> String {
        let (url, admin) = (&self.url, self.admin_url());
        let log = self.folder.join("gateway.log");
        format!(
            "\nIt stays up until Ctrl-C. Its log is {log}.\n\
             \n  {admin}/          the status page, for a browser: what runs and what waits, against the limits\
             \n  {admin}/status    the same as JSON\
             \n  {admin}/metrics   for Prometheus\n\
             \nThree lines worth trying:\n\
             \n  # two messages of one conversation: the second waits for the first, and says for how long\
             \n  for i in 1 2; do curl -s -XPOST {url}/api/v1/agent/simple_agent/run -H 'Content-Type: application/json' \\\
             \n    -d '{{\"session_name\":\"alice\",\"message_content\":\"message '$i'\"}}' -D- -o /dev/null | grep -i server-timing & done; wait\
             \n\n  # a streamed answer, word by word\
             \n  curl -sN -XPOST {url}/api/v1/agent/simple_agent/stream -H 'Content-Type: application/json' \\\
             \n    -d '{{\"session_name\":\"bob\",\"message_content\":\"hello\"}}'\
             \n\n  # twenty at once: three are at the agent, the others wait\
             \n  for i in $(seq 20); do curl -s -XPOST {url}/api/v1/agent/simple_agent/run -H 'Content-Type: application/json' \\\
             \n    -d '{{\"session_name\":\"'$i'\",\"message_content\":\"hello\"}}' -o /dev/null & done; sleep 0.1; curl -s {admin}/health; wait\n",
            log = log.display()
        )
    }

    /// Drains it and waits for its end.
    pub(super) fn end(mut self, runtime: &tokio::runtime::Runtime) {
        let drain = async {
            let admin = Target::of(&self.admin_url())?;
            let request = http::Request::post("/-/drain").header(http::header::HOST, admin.host.clone());
            let request = request.body(http_body_util::Full::default()).map_err(|error| error.to_string())?;
            let mut client = Client::new(admin.address);
            client.exchange(request, Duration::from_secs(5)).await.map_err(|why| format!("{why:?}"))
        };
        if runtime.block_on(drain).is_ok() {
            let until = crate::time::now() + PATIENCE;
            while crate::time::now() < until {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both do nothing to one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
