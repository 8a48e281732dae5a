//! What the environment says of traces, in the variables that OpenTelemetry's specification has for all programs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Values of the environment, by their names.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// How the collector is to be reached. The exporter reads the rest (endpoint, sampler, queue) itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// PEM file of who vouches for it; `None`: the authorities of the system.
    pub ca: Option<PathBuf>,
    /// PEM files of the certificate and the key that are shown to it.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long a batch may take.
    pub timeout: Duration,
    /// It is spoken with under TLS.
    pub encrypted: bool,
    /// What else stands in its requests.
    pub fields: HashMap<String, String>,
}

/// What is wanted of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    Export(Collector),
}

/// The specification's default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans in a queue, and milliseconds between two batches.
const MOST: u32 = 1_000_000;

const AS_THEY_ARE: [&str; 9] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
];

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// One of a signal's own, or the one of all signals.
fn of_traces(environment: Environment<'_>, what: &str) -> Option<(String, String)> {
    [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
        .into_iter()
        .find_map(|name| Some((environment(&name).filter(|value| !value.trim().is_empty())?, name)))
        .map(|(value, name)| (name, value.trim().to_owned()))
}

impl Wanted {
    /// Reads the environment.
    ///
    /// # Errors
    /// A sentence that names the variable. The library would pass over what it does not understand, and another part of
    /// the traces would be kept than was asked for.
    pub fn read(environment: Environment<'_>) -> Result<Self, String> {
        // The library reads some of them once more, as they are.
        let around =
            |name: &str| environment(name).is_some_and(|value| value.trim() != value && !value.trim().is_empty());
        if let Some(name) = AS_THEY_ARE.into_iter().find(|name| around(name)) {
            return Err(format!("{name} has blanks around its value"));
        }
        let of = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        if of("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self::Nothing);
        }
        let endpoint = of_traces(environment, "ENDPOINT");
        match of("OTEL_TRACES_EXPORTER").as_deref() {
            Some("none") => return Ok(Self::Nothing),
            Some("otlp") => {}
            Some(other) => return Err(format!("OTEL_TRACES_EXPORTER={other}: there are `otlp` and `none`")),
            None if endpoint.is_none() => return Ok(Self::Nothing),
            None => {}
        }
        let encrypted = endpoint.as_ref().is_some_and(|(_, url)| url.starts_with("https:"));
        if let Some((name, url)) = endpoint {
            // Whoever writes a password there had better not find it in a log.
            if url.contains('@') {
                return Err(format!("{name} has a user in it; credentials go to OTEL_EXPORTER_OTLP_HEADERS"));
            }
            let uri: http::Uri = url.parse().map_err(|error| format!("{name}={url}: {error}"))?;
            if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
                return Err(format!("{name}={url}: must be `http://host:port` or `https://host:port`"));
            }
        }
        if let Some((name, protocol)) = of_traces(environment, "PROTOCOL").filter(|(_, it)| it != "http/protobuf") {
            return Err(format!("{name}={protocol}: only `http/protobuf` is spoken (port 4318 of most collectors)"));
        }
        if let Some((name, wanted)) = of_traces(environment, "COMPRESSION").filter(|(_, it)| it != "none") {
            return Err(format!("{name}={wanted}: spans are sent as they are, only `none` can be had"));
        }
        let fields = match of_traces(environment, "HEADERS") {
            Some((name, fields)) => read_fields(&name, &fields)?,
            None => HashMap::new(),
        };
        let timeout = match of_traces(environment, "TIMEOUT") {
            None => TIMEOUT,
            Some((name, text)) => match text.parse() {
                Ok(millis @ 1..=3_600_000) => Duration::from_millis(millis),
                _ => return Err(format!("{name}={text}: must be a whole number of milliseconds, up to an hour")),
            },
        };
        if let Some(sampler) = of("OTEL_TRACES_SAMPLER") {
            check_sampler(&sampler, of("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        }
        for name in ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] {
            if let Some(value) =
                of(name).filter(|value| !value.parse().is_ok_and(|number: u32| (1..=MOST).contains(&number)))
            {
                return Err(format!("{name}={value}: must be a whole number from 1 to {MOST}"));
            }
        }
        let file = |what| of_traces(environment, what).map(|(_, path)| PathBuf::from(path));
        let identity = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and …_CLIENT_KEY go together".to_owned()),
        };
        Ok(Self::Export(Collector { ca: file("CERTIFICATE"), identity, timeout, encrypted, fields }))
    }
}

/// `name=value,name=value`, with percent-encoded values. They may be secrets: none is shown.
fn read_fields(name: &str, fields: &str) -> Result<HashMap<String, String>, String> {
    let mut read = HashMap::new();
    for (place, field) in fields.split(',').map(str::trim).filter(|field| !field.is_empty()).enumerate() {
        let wrong = |what| format!("{name}: field {} {what}", place + 1);
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let key = key.trim();
        if key.parse::<http::HeaderName>().is_err() {
            return Err(wrong("has no name that a field can have"));
        }
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong("is not UTF-8"))?;
        if http::HeaderValue::from_str(&value).is_err() {
            return Err(wrong("has no value that a field can have"));
        }
        read.insert(key.to_owned(), value.into_owned());
    }
    Ok(read)
}

fn check_sampler(sampler: &str, argument: Option<&str>) -> Result<(), String> {
    if !SAMPLERS.contains(&sampler) {
        return Err(format!("OTEL_TRACES_SAMPLER={sampler}: there are {}", SAMPLERS.join(", ")));
    }
    if sampler.ends_with("traceidratio") {
        let argument = argument.unwrap_or_default();
        if !argument.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share)) {
            return Err(format!("OTEL_TRACES_SAMPLER_ARG={argument}: {sampler} needs a number from 0 to 1"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Wanted, String> {
        Wanted::read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn there_are_no_traces_unless_somebody_wants_them() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "gateway")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[HERE, ("OTEL_TRACES_EXPORTER", "none")],
            &[HERE, ("OTEL_SDK_DISABLED", "TRUE")],
        ] {
            assert_eq!(read(variables), Ok(Wanted::Nothing), "{variables:?}");
        }
        for variables in [
            &[HERE][..],
            &[("OTEL_TRACES_EXPORTER", "otlp")],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example/v1/traces")],
            &[HERE, ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")],
            &[HERE, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, x-scope=a=b,")],
        ] {
            assert!(matches!(read(variables), Ok(Wanted::Export(_))), "{variables:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (variables, named) in [
            (&[("OTEL_TRACES_EXPORTER", "zipkin")][..], "OTEL_TRACES_EXPORTER=zipkin"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318")], "OTEL_EXPORTER_OTLP_ENDPOINT=127.0.0.1:4318"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://a:4317")], "OTEL_EXPORTER_OTLP_ENDPOINT=grpc://a:4317"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s")], "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=10s"),
            (&[HERE, ("OTEL_TRACES_SAMPLER", "sometimes")], "OTEL_TRACES_SAMPLER=sometimes"),
            (&[HERE, ("OTEL_TRACES_SAMPLER", "traceidratio")], "OTEL_TRACES_SAMPLER_ARG="),
            (
                &[HERE, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1.5")],
                "OTEL_TRACES_SAMPLER_ARG=1.5",
            ),
            (&[HERE, ("OTEL_BSP_MAX_QUEUE_SIZE", "0")], "OTEL_BSP_MAX_QUEUE_SIZE=0"),
            (&[HERE, ("OTEL_BSP_MAX_QUEUE_SIZE", "9999999999999999")], "OTEL_BSP_MAX_QUEUE_SIZE=9999999999999999"),
            (&[HERE, ("OTEL_TRACES_SAMPLER", "always_off ")], "OTEL_TRACES_SAMPLER has blanks"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@a:4318")], "OTEL_EXPORTER_OTLP_ENDPOINT has a user"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        ] {
            let error = read(variables).expect_err(named);
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn fields_for_the_collector_are_not_shown() {
        for fields in ["secret", "a=b,sec ret=c", "a=%0d%0aret:b"] {
            let error = read(&[HERE, ("OTEL_EXPORTER_OTLP_HEADERS", fields)]).expect_err("no field");
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: field ") && !error.contains("ret"), "{error}");
        }
    }

    #[test]
    fn files_of_traces_go_before_those_of_all() {
        let read = read(&[
            HERE,
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "all.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "traces.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "cert.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
        ]);
        let Ok(Wanted::Export(collector)) = read else { panic!("{read:?}") };
        assert_eq!(collector.ca, Some("traces.pem".into()));
        assert_eq!(collector.identity, Some(("cert.pem".into(), "key.pem".into())));
    }

    #[test]
    fn fields_and_timeout_are_read_as_the_specification_says() {
        let Ok(Wanted::Export(collector)) = read(&[
            HERE,
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", ""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, x-scope=a=b,"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ]) else {
            panic!("it is wanted")
        };
        let fields = [("authorization", "Bearer x"), ("x-scope", "a=b")];
        assert_eq!(collector.fields, fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(collector.timeout, Duration::from_millis(1500));
    }
}
