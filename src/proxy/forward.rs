//! To a server and back: the fields both ways, and what becomes of the work when it does not come to a good end.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;

use super::abandonable::{Abandonable, NoHead};
use super::edition::Edition;
use super::identify::{Identified, Whole};
use super::receive::Received;
use super::{Proxy, Refused, Serving, tunnel};
use crate::admission::{Permit, Rejection};
use crate::request::exchange::UploadFault;
use crate::request::framing::asks_upgrade;
use crate::response::body::{GuardedBody, ProxyBody};
use crate::response::ending::Ending;
use crate::response::refusal::{Refusal, set_quota};
use crate::upstream::Upstream;
use crate::upstream::failure::Failure;
use crate::upstream::fields::{Framing, Inbound, Outbound, TURNWISE_SESSION, TURNWISE_TURN, to_client, to_upstream};
use crate::upstream::send::{Answer, Course, Head};
use crate::upstream::upload::{Upload, fault_of};

/// The longest body that is held for another try, in bytes.
const MAX_GATHERED: u64 = 64 * 1024;

/// Sends the request under `permit` and makes the answer to its client.
pub(super) fn forward(proxy: Arc<Proxy>, identified: Identified, permit: Permit) -> Serving {
    let upstream = proxy.upstream_now(&identified.received.edition, permit.gates().policy.upstream);
    if upstream.retries_statuses() {
        return Box::pin(gather(proxy, upstream, identified, permit));
    }
    set_out(proxy, upstream, identified, permit)
}

impl Proxy {
    /// An upstream of `edition` with the servers that it has in the policy in force: while a request waited, they may have
    /// moved. One that the policy does not name any more serves those who still want it.
    fn upstream_now(&self, edition: &Arc<Edition>, place: usize) -> Arc<Upstream> {
        let known = &edition.upstreams[place];
        let now = self.edition.load();
        if Arc::ptr_eq(&now, edition) {
            return known.clone();
        }
        now.upstreams.iter().find(|upstream| upstream.policy.name == known.policy.name).unwrap_or(known).clone()
    }
}

/// Reads a short body whole before it goes out, so that the request can be sent once more.
async fn gather(
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    mut identified: Identified,
    mut permit: Permit,
) -> Response<ProxyBody> {
    let timeout = permit.gates().policy.timeouts.request;
    let body = identified.received.body.as_mut().filter(|_| identified.whole.is_none());
    if let Some(body) = body.filter(|body| body.size_hint().exact().is_some_and(|length| length <= MAX_GATHERED)) {
        let exchange = permit.exchange().clone();
        let gathered = tokio::select! {
            gathered = tokio::time::timeout(timeout, body.collect()) => gathered,
            by = exchange.ended() => {
                permit.give_tokens_back();
                drop(permit);
                return identified.received.refuse(Rejection::Interrupted(by)).respond();
            }
        };
        let fault = match gathered {
            Ok(Ok(body)) => {
                let trailers = body.trailers().cloned();
                identified.whole = Some(Box::new(Whole { data: body.to_bytes(), trailers }));
                None
            }
            Ok(Err(error)) => Some(fault_of(&error)),
            Err(_) => Some(UploadFault::Timeout),
        };
        if let Some(fault) = fault {
            permit.give_tokens_back();
            drop(permit);
            return identified.received.refuse(Failure::Upload(fault)).respond();
        }
    }
    set_out(proxy, upstream, identified, permit).await
}

fn set_out(proxy: Arc<Proxy>, upstream: Arc<Upstream>, mut identified: Identified, permit: Permit) -> Serving {
    let room = identified.received.edition.policy.limits.queue_timeout;
    let course = Course::of(&permit, room, identified.received.head.version == Version::HTTP_11);
    let session = identified.session.take();
    let assigned = identified.assigned.as_ref().map(|assigned| assigned.1.clone());
    let upgrade = identified.received.head.upgrade.take();
    let upgrades = upgrade.is_some() && asks_upgrade(&identified.received.head.headers);
    let (mut request, client) = outgoing(identified, &upstream, upgrades);
    if let Some(token) = permit.turn_token() {
        request.headers_mut().insert(TURNWISE_TURN, token);
    }
    let sending = Abandonable::new(permit, upstream.send(proxy.pools.clone(), request, session, course));
    Box::pin(async move {
        match sending.await {
            Ok((head, permit)) => match check_upgrade(head, upgrades) {
                Ok(head) => answer(&proxy, *head, permit, client, upgrade, assigned),
                Err(failure) => client.refuse(NoHead { refusal: failure.into(), permit: Some(permit) }),
            },
            Err(no_head) => client.refuse(no_head),
        }
    })
}

/// Makes a server's answer the client's, with a body that holds on to `permit`.
fn answer(
    proxy: &Proxy,
    mut head: Response<Answer>,
    permit: Permit,
    client: Client,
    upgrade: Option<OnUpgrade>,
    assigned: Option<HeaderValue>,
) -> Response<ProxyBody> {
    let exchange = permit.exchange();
    let outbound = Outbound {
        status: head.status(),
        version: head.version(),
        request_id: &exchange.request_id,
        queued: exchange.queued(),
        upstream: exchange.upstream_took(),
    };
    to_client(head.headers_mut(), &outbound);
    *head.version_mut() = Version::HTTP_11;
    if let Some(text) = assigned {
        head.headers_mut().insert(TURNWISE_SESSION, text);
    }
    if let Some(quota) = permit.quota() {
        set_quota(head.headers_mut(), quota);
    }
    if proxy.lifecycle.is_refusing() && client.http1 && head.status() != StatusCode::SWITCHING_PROTOCOLS {
        head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    match (head.status(), upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(downstream)) => tunnel::start(head, downstream, permit, client.ending),
        (status, _) => {
            let status = status.as_u16();
            head.map(|body| GuardedBody::guard(body, permit, client.ending, status))
        }
    }
}

/// Whom the answer is for.
struct Client {
    ending: Ending,
    http1: bool,
}

impl Client {
    /// Answers a request without a response head. What the gateway refuses spends no tokens.
    fn refuse(self, no_head: NoHead) -> Response<ProxyBody> {
        if let Some(mut permit) = no_head.permit
            && let Refusal::Failed(failure) = no_head.refusal
            && (failure.is_unprocessed() || matches!(failure, Failure::Upload(_)))
        {
            permit.give_tokens_back();
        }
        Refused { ending: self.ending, refusal: no_head.refusal, http1: self.http1, rest: None }.respond()
    }
}

/// The request as it goes to the server, and what is needed to answer its client if it comes to nothing.
fn outgoing(identified: Identified, upstream: &Upstream, upgrades: bool) -> (Box<Request<Upload>>, Client) {
    let Identified { received, whole, assigned, .. } = identified;
    let Received { edition, route, head, body, ending, .. } = *received;
    let policy = &edition.gates[route].policy;
    let exchange = ending.exchange().clone();
    let mut headers = head.headers;
    let http2 = upstream.policy.http2;
    let body = match (whole, body) {
        (Some(whole), _) => Upload::whole(whole.data, whole.trailers, exchange.clone()),
        (None, None) => Upload::whole(Bytes::new(), None, exchange.clone()),
        (None, Some(body)) => {
            let (limit, timeout) = (policy.body_limit, policy.timeouts.request);
            Upload::stream(body, exchange.clone(), limit, timeout)
        }
    };
    let framing = Framing::of(&headers, &body);
    let host = host_of(&head.uri, &headers, upstream);
    let upgrade = headers.get(header::UPGRADE).filter(|_| upgrades && !http2).cloned();
    let inbound = Inbound {
        version: head.version,
        hop: &head.hop,
        peer_trusted: head.peer_trusted,
        client: exchange.client,
        host: &host,
        request_id: &exchange.request_id,
        upgrade: upgrade.as_ref(),
        to_http2: http2,
        framing,
        known: &edition.known,
    };
    to_upstream(&mut headers, &inbound);
    if let Some((Some(field), text)) = assigned.map(|assigned| *assigned) {
        headers.insert(field, text);
    }
    let mut request = Box::new(Request::new(body));
    *request.uri_mut() = target(head.uri, &host, http2.then(|| scheme_of(upstream)));
    *request.method_mut() = head.method;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    let http1 = head.version < Version::HTTP_2;
    (request, Client { ending, http1 })
}

/// The host that the client named; for HTTP/1.0 without one, the first server's.
fn host_of(uri: &Uri, headers: &HeaderMap, upstream: &Upstream) -> HeaderValue {
    let target = || uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    target()
        .or_else(|| headers.get(header::HOST).cloned())
        .or_else(|| {
            let server = upstream.servers.first()?;
            HeaderValue::from_str(&server.authority()).ok()
        })
        .unwrap_or_else(|| HeaderValue::from_static("localhost"))
}

/// What its servers are spoken to under: TLS or not. The policy has them all alike, where they speak HTTP/2.
fn scheme_of(upstream: &Upstream) -> Scheme {
    if upstream.policy.servers.iter().any(|server| server.https) { Scheme::HTTPS } else { Scheme::HTTP }
}

/// Path and query as they came; in HTTP/2 with scheme and host, which stand in the target there.
fn target(uri: Uri, host: &HeaderValue, http2: Option<Scheme>) -> Uri {
    if http2.is_none() && uri.authority().is_none() {
        return uri;
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().map(|target| match target.as_str() {
        // `http://host?query` has no path, a request has one (RFC 9112, section 3.2.1).
        query if query.starts_with('?') => format!("/{query}").parse().unwrap_or_else(|_| target.clone()),
        _ => target.clone(),
    });
    if let Some(scheme) = http2 {
        parts.scheme = Some(scheme);
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
    }
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
}

/// A 101 that nobody asked for is no answer; nor is one to a request that asked for another protocol over HTTP/2.
fn check_upgrade(answer: Head, upgrades: bool) -> Result<Head, Failure> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !(upgrades && answer.body().can_switch()) {
        return Err(Failure::Broken);
    }
    Ok(answer)
}
