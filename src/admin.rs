//! The port for operators: status page, metrics, health, sessions, reload, drain. Never on a public address of its own accord.

mod answer;
mod asker;
mod census;
mod history;
mod jobs;
mod page;
mod query;
mod route;
mod sessions;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};

use crate::control::Control;

/// Connections at once; operators and scrapers are few, and what is beyond waits.
const MAX_CONNECTIONS: usize = 256;
/// An answer that takes longer is no help in an incident.
const TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to leave the system alone when it has no descriptor to spare.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What the answers are made of.
#[derive(Debug)]
struct Admin {
    control: Arc<Control>,
    past: Arc<history::Past>,
}

/// Serves `listener` for ever.
pub async fn serve(control: Arc<Control>, listener: TcpListener) {
    let past = Arc::new(history::Past::begin(&control));
    tokio::spawn(history::sample(control.clone(), past.clone()));
    let admin = Arc::new(Admin { control, past });
    let connections = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    // What is left where there is nothing else: probes and operators are to be answered then, too.
    let mut spare = Spare::take();
    loop {
        let Ok(slot) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) if spare.give() => continue,
            Err(error) => {
                tracing::warn!(%error, "no admin connection can be accepted at the moment");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(admin.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection ended");
            }
            drop(slot);
        });
        spare.fill();
    }
}

/// A descriptor that is kept for a moment without any.
#[derive(Debug)]
struct Spare(Option<std::fs::File>);

impl Spare {
    fn take() -> Self {
        Self(std::fs::File::open("/dev/null").ok())
    }

    /// Gives it back to the system, if there is one.
    fn give(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes one anew, once there is one.
    fn fill(&mut self) {
        if self.0.is_none() {
            *self = Self::take();
        }
    }
}

async fn answer(admin: Arc<Admin>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let routed = ServiceBuilder::new()
        .timeout(TIMEOUT)
        .service(tower::service_fn(|request| async { Ok::<_, Infallible>(route::route(&admin, request).await) }));
    let answer = routed.oneshot(request).await;
    Ok(answer.unwrap_or_else(|_| answer::text(StatusCode::SERVICE_UNAVAILABLE, "this took too long\n")))
}
