//! The threads that serve connections.
//!
//! Each has a runtime and connections to the servers of its own, so that nothing on the path of a request moves from
//! one thread to another. A runtime of one thread also runs tasks in the order in which they were woken, which keeps
//! the requests of one HTTP/2 connection in their order.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control::Control;
use crate::proxy::Proxy;
use crate::server::Service;
use crate::server::accept::{Door, accept};

/// How often a worker closes what has been idle for too long.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// A listening socket with the label of its metrics.
#[derive(Debug)]
pub(super) struct Listening {
    pub socket: std::net::TcpListener,
    pub label: String,
    pub door: Door,
}

/// Starts one worker. It takes connections until `closing`, and then lives until `ended`.
pub(super) fn start(
    number: usize,
    control: Arc<Control>,
    listening: Vec<Listening>,
    closing: watch::Receiver<bool>,
    mut ended: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        runtime.block_on(async {
            let service = Service { proxy: control.proxy(), stage: control.stage.subscribe() };
            let mut tasks = JoinSet::new();
            for Listening { socket, label, door } in listening {
                match TcpListener::from_std(socket) {
                    Ok(listener) => {
                        let open = control.metrics.connections.with_label_values(&[&label]);
                        let slots = control.slots.clone();
                        tasks.spawn(accept(listener, door, service.clone(), slots, open, closing.clone()));
                    }
                    Err(error) => tracing::error!(%error, %label, "a worker cannot listen"),
                }
            }
            tasks.spawn(sweep(Some(number), control.clone(), service.proxy));
            // Connections are tasks of their own; they end with the runtime.
            let _ = ended.wait_for(|ended| *ended).await;
        });
        runtime.shutdown_background();
    })
}

/// Starts the thread that runs jobs, once there is a queue of them: it has connections to the servers of its own, as a worker
/// has, and takes no time from those who wait for their answers. It lives until `ended`.
pub(super) async fn start_jobs(
    control: Arc<Control>,
    mut ended: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    control.jobs_once_there().await;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("jobs".into()).spawn(move || {
        runtime.block_on(async {
            let proxy = control.proxy();
            tokio::spawn(control.clone().run_jobs(proxy.clone()));
            tokio::spawn(sweep(None, control, proxy));
            let _ = ended.wait_for(|ended| *ended).await;
        });
        runtime.shutdown_background();
    })
}

/// `number`: of the worker whose pulse this is.
async fn sweep(number: Option<usize>, control: Arc<Control>, proxy: Arc<Proxy>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        if let Some(pulse) = number.and_then(|number| control.pulses.get(number)) {
            pulse.beat();
        }
        let edition = control.edition.load_full();
        let known =
            |id| edition.upstreams.iter().flat_map(|upstream| &upstream.servers).any(|server| server.pool_id() == id);
        proxy.pools.sweep(&known);
        give_memory_back();
    }
}

/// Has the allocator give the system what has been free for a while. It looks after that when something large is freed,
/// and a worker that has become idle frees nothing: what a burst of connections took would stay with it.
fn give_memory_back() {
    const LARGE: usize = 4 << 20;
    // Never written to, so no page of it is ever there.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}
