//! From finished spans to the collector: a bounded queue, a thread of its own, and counts of what became of them.
//!
//! A request never waits for a collector: where the queue is full its spans are dropped and counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};

use super::{Collector, Environment, TRACER};
use crate::sync::Mutex;

/// How long the end of the process waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// A collector that is down is told of so often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The specification's default of `OTEL_BSP_MAX_QUEUE_SIZE`.
const QUEUE: usize = 2048;

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spans {
    /// The collector has taken them.
    pub exported: u64,
    /// It did not, after some tries.
    pub failed: u64,
    /// They were not offered to it, because too many waited.
    pub dropped: u64,
}

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Spans of the batch under way that the collector has not taken although it took the batch.
static REJECTED: AtomicU64 = AtomicU64::new(0);
/// Why the last try to send a batch failed: the library tells of each "network error" alike.
static CAUSE: LazyLock<Mutex<Option<String>>> = LazyLock::new(Mutex::default);

/// Notes that the collector took a batch but for so many spans of it, and why. For whoever speaks with it.
pub fn rejected(spans: u64, why: &str) {
    REJECTED.store(spans, Relaxed);
    failed_because(why);
}

/// Notes why a batch could not be sent. For whoever speaks with the collector.
pub fn failed_because(why: &str) {
    *CAUSE.lock() = Some(why.to_owned());
}

/// What became of spans so far.
#[must_use]
pub fn spans() -> Spans {
    Spans { exported: EXPORTED.load(Relaxed), failed: FAILED.load(Relaxed), dropped: DROPPED.load(Relaxed) }
}

/// Traces are on. Sends what is left when it is dropped, for five seconds at most.
#[derive(Debug)]
#[must_use = "traces are sent while it is there"]
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(LAST_SPANS);
    }
}

/// Starts traces, which are sent through `client`; to be called once. `environment` must be that of the process: the library
/// reads the rest of it.
///
/// # Errors
/// A sentence: what the library does not take, or traces were started before.
pub fn start(
    client: impl HttpClient + 'static,
    wanted: &Collector,
    environment: Environment<'_>,
) -> Result<Traces, String> {
    let otlp = OtlpExporter::builder().with_http().with_http_client(client).with_headers(wanted.fields.clone());
    let otlp = otlp.build().map_err(|error| error.to_string())?;
    // Its own reading of the environment, but for the name that a program without one gets.
    let mut resource = Resource::builder();
    let attributes = environment("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let has = |name: &str| attributes.split(',').any(|attribute| attribute.trim_start().starts_with(name));
    match environment("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()) {
        Some(name) => resource = resource.with_service_name(name),
        None if has("service.name=") => {}
        None => resource = resource.with_service_name("turnwise"),
    }
    if !has("service.version=") {
        resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    let resource = resource.build();
    let most = environment("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|size| size.trim().parse().ok()).unwrap_or(QUEUE);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(bounded(otlp, most, BatchConfigBuilder::default()))
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("turnwise");
    TRACER.set(tracer).map_err(|_| "traces were started before".to_owned())?;
    Ok(Traces(provider))
}

fn bounded<E: SpanExporter + 'static>(exporter: E, most: usize, config: BatchConfigBuilder) -> Bounded {
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = Counted { exporter, waiting: waiting.clone(), told: Mutex::new(None) };
    let config = config.with_max_queue_size(most).build();
    let inner = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
    Bounded { inner, waiting, most }
}

/// Takes spans up to a number that wait, and counts those beyond. The library drops them as well, and says so only once.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Relaxed) < self.most {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
            DROPPED.fetch_add(1, Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what an exporter is given, and tells when that fails.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    /// When the last failure was told of.
    told: Mutex<Option<Instant>>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Relaxed);
        let lost = match &outcome {
            Ok(()) => REJECTED.swap(0, Relaxed).min(count as u64),
            Err(_) => count as u64,
        };
        EXPORTED.fetch_add(count as u64 - lost, Relaxed);
        FAILED.fetch_add(lost, Relaxed);
        let cause = CAUSE.lock().take();
        if lost > 0 {
            let said = outcome.as_ref().err().map(ToString::to_string);
            self.tell(lost, &cause.or(said).unwrap_or_default());
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> Counted<E> {
    fn tell(&self, spans: u64, error: &str) {
        let now = crate::time::now();
        let mut told = self.told.lock();
        if told.is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY) {
            *told = Some(now);
            tracing::warn!(spans, error, "spans could not be sent to the collector, and are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use opentelemetry::trace::Tracer;

    use super::*;

    /// Says that it has a batch, and keeps it until it is told to go on.
    #[derive(Debug)]
    struct Slow {
        has: Sender<usize>,
        goes_on: Mutex<Receiver<()>>,
    }

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.has.send(batch.len()).expect("the test listens");
            self.goes_on.lock().recv().expect("the test tells");
            Ok(())
        }
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        let ((has, got), (go, goes_on)) = (channel(), channel());
        let config =
            BatchConfigBuilder::default().with_max_export_batch_size(1).with_scheduled_delay(Duration::from_millis(1));
        let processor = bounded(Slow { has, goes_on: Mutex::new(goes_on) }, 3, config);
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        let before = spans();
        drop(tracer.start("at the collector"));
        assert_eq!(got.recv(), Ok(1));
        // One is at the collector, which still counts; two wait, and the rest is too much.
        for _ in 0..5 {
            drop(tracer.start("behind it"));
        }
        assert_eq!(spans().dropped - before.dropped, 3);
        for _ in 0..3 {
            go.send(()).expect("it waits");
        }
        assert_eq!((got.recv(), got.recv()), (Ok(1), Ok(1)));
        provider.force_flush().expect("nothing is left");
        assert_eq!(spans().exported - before.exported, 3);
    }
}
