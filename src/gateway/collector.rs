//! How spans get to their collector: one HTTP/1.1 request a batch, on the exporter's own thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::telemetry::traces::{self, Environment, Traces, Wanted};
use crate::tls;
use crate::upstream::connect::{Dial, Stream, Tcp};

/// The longest answer that is read, in bytes. A good one has a few.
const MAX_ANSWER: usize = 64 * 1024;

/// Starts traces if the environment of the process names a collector.
///
/// # Errors
/// A sentence for people: what is wrong with the environment, or with the files that it names.
pub fn start() -> Result<Option<Traces>, String> {
    let environment: Environment<'_> = &|name| std::env::var(name).ok();
    let Wanted::Export(wanted) = Wanted::read(environment)? else { return Ok(None) };
    let identity = wanted.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
    // The authorities of the system are of no interest where they vouch for nobody.
    let tls = wanted.encrypted.then(|| tls::to_collector(wanted.ca.as_deref(), identity)).transpose()?.map(Arc::new);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("traces cannot be started: {error}"))?;
    let traces = traces::start(Collector { runtime, tls, timeout: wanted.timeout }, &wanted, environment)?;
    tracing::info!("traces are sent to a collector");
    Ok(Some(traces))
}

#[derive(Debug)]
struct Collector {
    runtime: Runtime,
    /// `None`: it is spoken with in the clear.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl HttpClient for Collector {
    /// Blocks: the exporter calls this on a thread that does nothing else, and has no runtime.
    fn send_bytes<'c, 'a>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>
    where
        'c: 'a,
        Self: 'a,
    {
        let sent = self.runtime.block_on(async {
            let sending = send(request, self.tls.clone());
            tokio::time::timeout(self.timeout, sending).await.map_err(|_| HttpError::from("it took too long"))?
        });
        match &sent {
            Ok(answer) if answer.status().is_success() => note_rejected(answer.body()),
            Ok(answer) => traces::failed_because(&format!("the collector answered {}", answer.status())),
            Err(error) => traces::failed_because(&causes(&**error)),
        }
        Box::pin(std::future::ready(sent))
    }
}

/// A collector that takes a batch says which part of it it has not taken (OTLP, "partial success").
fn note_rejected(answer: &[u8]) {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    if let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) {
        traces::rejected(partial.rejected_spans.unsigned_abs(), &partial.error_message);
    }
}

/// An error with those that it came from.
fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source()).fold(error.to_string(), |text, source| {
        let source = source.to_string();
        if text.contains(&source) { text } else { format!("{text}: {source}") }
    })
}

async fn send(request: Request<Bytes>, tls: Option<Arc<ClientConfig>>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let stream = connect(&head.uri, tls).await?;
    let authority = head.uri.authority().ok_or("the endpoint has no host")?;
    head.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("turnwise/", env!("CARGO_PKG_VERSION"), " traces");
    head.headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(head, body))
    };
    // The end of the connection is no answer: it may come together with one.
    let driven = async {
        let ended = connection.await;
        match ended {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        answer = answered => answer,
        error = driven => Err(error.into()),
    }
}

async fn connect(uri: &Uri, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = Tcp.dial(host, port).await?;
    let Some(tls) = tls else { return Ok(stream) };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(tls).connect(name, stream).await?))
}
