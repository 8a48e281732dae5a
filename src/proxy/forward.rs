//! To a server and back: the fields both ways, and what becomes of the work when it does not come to a good end.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use http_body_util::BodyExt;

use super::abandonable::{Abandonable, to_its_end};
use super::identify::{Identified, Whole};
use super::{Proxy, Refused, interim, tunnel};
use crate::admission::{Permit, Rejection};
use crate::request::client_address::is_trusted;
use crate::request::exchange::UploadFault;
use crate::response::abandoned;
use crate::response::body::{GuardedBody, ProxyBody};
use crate::response::refusal::{Refusal, set_quota};
use crate::upstream::Upstream;
use crate::upstream::failure::Failure;
use crate::upstream::fields::{Framing, Inbound, Outbound, TURNWISE_SESSION, to_client, to_upstream};
use crate::upstream::send::{Answer, SendError};
use crate::upstream::upload::{Upload, WhenBroken};

/// The longest body that is held for another try, in bytes.
const MAX_GATHERED: u64 = 64 * 1024;

/// Sends the request under `permit` and makes the answer to its client.
pub(super) async fn forward(proxy: &Proxy, mut identified: Identified, permit: Permit) -> Response<ProxyBody> {
    let permit = Arc::new(permit);
    let exchange = permit.exchange().clone();
    let upstream = identified.received.edition.upstreams[permit.gates().policy.upstream].clone();
    let queue_timeout = identified.received.edition.policy.limits.queue_timeout;
    let session = identified.session.clone();
    let assigned = identified.assigned.as_ref().map(|(_, text)| text.clone());
    let asked_upgrade = identified.received.head.upgrade.take();
    let upgrades = asked_upgrade.is_some() && asks_upgrade(&identified.received.head.headers);
    if upstream.retries_statuses()
        && let Err(fault) = gather(&mut identified).await
    {
        if let Ok(mut permit) = Arc::try_unwrap(permit) {
            permit.give_tokens_back();
        }
        return identified.received.refuse(fault).respond();
    }
    let (request, mut client) = outgoing(identified, &upstream, upgrades);

    let sending = {
        let (upstream, pools, permit) = (upstream.clone(), proxy.pools.clone(), permit.clone());
        async move { upstream.send(&pools, request, session.as_ref().map(|key| key.as_str()), &permit, queue_timeout).await }
    };
    let mut sending = Abandonable::new(permit.clone(), sending);
    let sent = tokio::select! {
        biased;
        sent = &mut sending => sent,
        () = exchange.interrupted() => {
            sending.close();
            drop(permit);
            client.refusal = Rejection::Interrupted.into();
            return client.respond();
        }
    };
    drop(sending);
    let sent = sent.and_then(|answer| check_upgrade(answer, upgrades));
    match sent {
        Ok(mut answer) => {
            let outbound = Outbound {
                status: answer.status(),
                version: answer.version(),
                request_id: &exchange.request_id,
                queued: exchange.queued(),
                upstream: exchange.upstream_took(),
            };
            to_client(answer.headers_mut(), &outbound);
            *answer.version_mut() = Version::HTTP_11;
            if let Some(text) = assigned {
                answer.headers_mut().insert(TURNWISE_SESSION, text);
            }
            if let Some(quota) = permit.quota() {
                set_quota(answer.headers_mut(), quota);
            }
            if proxy.lifecycle.is_refusing() && client.http1 && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            match (answer.status(), asked_upgrade) {
                (StatusCode::SWITCHING_PROTOCOLS, Some(downstream)) => {
                    tunnel::start(answer, downstream, permit, client.ending)
                }
                (status, _) => {
                    let status = status.as_u16();
                    answer.map(|body| GuardedBody::guard(body, permit, client.ending, status))
                }
            }
        }
        Err(error) => {
            client.refusal = failed(error, permit);
            client.respond()
        }
    }
}

/// Reads a short body whole, so that the request can be sent once more.
async fn gather(identified: &mut Identified) -> Result<(), Refusal> {
    let body = &mut identified.received.body;
    if identified.whole.is_some() || body.size_hint().exact().is_none_or(|length| length > MAX_GATHERED) {
        return Ok(());
    }
    let timeout = identified.received.edition.gates[identified.received.route].policy.timeouts.request;
    match tokio::time::timeout(timeout, body.collect()).await {
        Ok(Ok(body)) => {
            let trailers = body.trailers().cloned();
            identified.whole = Some(Whole { data: body.to_bytes(), trailers });
            Ok(())
        }
        Ok(Err(_)) => Err(Failure::Upload(UploadFault::Broken).into()),
        Err(_) => Err(Failure::Upload(UploadFault::Timeout).into()),
    }
}

/// The request as it goes to the server, and what is needed to answer its client if it comes to nothing.
fn outgoing(identified: Identified, upstream: &Upstream, upgrades: bool) -> (Request<Upload>, Refused) {
    let Identified { received, whole, assigned, .. } = identified;
    let policy = received.gates().policy.clone();
    let exchange = received.ending.exchange().clone();
    let head = received.head;
    let mut headers = head.headers;
    let http2 = upstream.policy.http2;
    let body = match whole {
        Some(whole) => Upload::whole(whole.data, whole.trailers, exchange.clone()),
        None => {
            let when_broken = if http2 { WhenBroken::Reset } else { WhenBroken::Shut };
            let (limit, timeout) = (policy.body_limit, policy.timeouts.request);
            Upload::stream(received.body, exchange.clone(), limit, timeout, when_broken)
        }
    };
    let framing = Framing::of(&headers, &body);
    let host = host_of(&head.uri, &headers, upstream);
    let upgrade = headers.get(header::UPGRADE).filter(|_| upgrades && !http2).cloned();
    let inbound = Inbound {
        version: head.version,
        peer: head.peer,
        peer_trusted: is_trusted(head.peer, &received.edition.policy.server.trusted_proxies),
        client: exchange.client,
        scheme: "http",
        host: &host,
        request_id: &exchange.request_id,
        upgrade: upgrade.as_ref(),
        to_http2: http2,
        framing,
        known: &received.edition.known,
    };
    to_upstream(&mut headers, &inbound);
    if let Some((Some(field), text)) = assigned {
        headers.insert(field, text);
    }
    let mut request = Request::new(body);
    *request.uri_mut() = target(&head.uri, &host, http2);
    *request.method_mut() = head.method;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    if head.version == Version::HTTP_11 {
        interim::pass_on(&mut request, exchange);
    }
    let http1 = head.version < Version::HTTP_2;
    (request, Refused { ending: received.ending, refusal: Refusal::Internal, http1, rest: None })
}

/// The host that the client named; for HTTP/1.0 without one, the first server's.
fn host_of(uri: &Uri, headers: &HeaderMap, upstream: &Upstream) -> HeaderValue {
    crate::request::framing::host(uri, headers)
        .and_then(|host| HeaderValue::from_str(host).ok())
        .or_else(|| {
            let server = upstream.servers.first()?;
            HeaderValue::from_str(&server.authority()).ok()
        })
        .unwrap_or_else(|| HeaderValue::from_static("localhost"))
}

/// Path and query as they came; in HTTP/2 with scheme and host, which stand in the target there.
fn target(uri: &Uri, host: &HeaderValue, http2: bool) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    if http2 {
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
    }
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
}

/// Whether the client asks for another protocol that the gateway lets through. HTTP/2 by upgrade is obsolete
/// (RFC 9113, section 3.1), and would take the requests after it out of the gateway's sight.
fn asks_upgrade(headers: &HeaderMap) -> bool {
    let names = |field, word: &str| {
        let lines = headers.get_all(field).iter().filter_map(|line: &HeaderValue| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    headers.contains_key(header::UPGRADE) && names(header::CONNECTION, "upgrade") && !names(header::UPGRADE, "h2c")
}

/// A 101 that nobody asked for is no answer; nor is one to a request that asked for another protocol over HTTP/2.
fn check_upgrade(answer: Response<Answer>, upgrades: bool) -> Result<Response<Answer>, SendError> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrades {
        return Err(Failure::Broken.into());
    }
    Ok(answer)
}

/// What a request without a response head comes to. A server that may still be at work on it keeps the permit.
fn failed(error: SendError, permit: Arc<Permit>) -> Refusal {
    let failure = error.failure;
    match Arc::try_unwrap(permit) {
        Ok(mut permit) => {
            // What the gateway refuses spends nothing.
            if failure.is_unprocessed() || matches!(failure, Failure::Upload(_)) {
                permit.give_tokens_back();
            }
            let policy = permit.gates().policy.clone();
            let at_work = error.pending.is_some();
            if at_work && abandoned::finishes(policy.abandoned, false) {
                abandoned::finish(to_its_end(Err(error)), Arc::new(permit), policy.abandoned_limit);
            } else if at_work {
                abandoned::cancelled(&permit);
                // The connection is closed before turn and place pass on.
                drop(error);
            }
        }
        // Nobody else holds it once the sending has ended.
        Err(permit) => drop(permit),
    }
    Refusal::Failed(failure)
}
