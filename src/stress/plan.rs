//! What is sent: the four tests.

mod member;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::Full;
use serde_json::json;

use crate::stress::client::Target;
use member::with_member;

/// One of the four tests, with all that its requests are made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub target: Target,
    pub test: Test,
    /// Told apart from other runs: sessions and texts bear it.
    pub name: String,
    pub seed: u64,
    /// Set in every request.
    pub headers: HeaderMap,
}

/// Which requests are sent.
#[derive(Debug, Clone)]
pub enum Test {
    /// Runs of one agent, each in a session of its own.
    AgentRun {
        agent: String,
    },
    /// Numbered messages to a few sessions, each sent without waiting for the answers to those before.
    SessionQueue {
        agent: String,
        sessions: u64,
        messages: u64,
    },
    /// A mix: of ten requests six runs, and one each of listing agents, listing sessions, creating a user and a memory.
    FullApi {
        agent: String,
    },
    Custom(Custom),
}

/// Requests of any kind.
#[derive(Debug, Clone)]
pub struct Custom {
    pub method: Method,
    /// With `{session}`, `{turn}`, `{message}` and `{uuid}`, as the body.
    pub path: String,
    pub body: Option<String>,
    pub sessions: u64,
    pub session_in: Option<SessionIn>,
}

/// Where a custom request says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionIn {
    Header(http::HeaderName),
    /// A JSON pointer; its parents must be in the body.
    Json(String),
    Query(String),
}

/// One request to be sent.
#[derive(Debug)]
pub struct Planned {
    pub request: Request<Full<Bytes>>,
    /// Which message of which session it is, where these are counted.
    pub turn: Option<Turn>,
}

/// A numbered message. Its text is its name in the agent's record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Turn {
    pub session: u64,
    pub number: u64,
}

impl Test {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::AgentRun { .. } => "agent-run",
            Self::SessionQueue { .. } => "session-queue",
            Self::FullApi { .. } => "full-api",
            Self::Custom(_) => "custom",
        }
    }
}

impl Plan {
    /// How many requests there are, if the plan itself says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.test {
            Test::SessionQueue { sessions, messages, .. } => Some(sessions.saturating_mul(*messages)),
            _ => None,
        }
    }

    /// The name of a session.
    #[must_use]
    pub fn session(&self, number: u64) -> String {
        format!("{}-s{number}", self.name)
    }

    /// The text of a message.
    #[must_use]
    pub fn message(&self, turn: &Turn) -> String {
        format!("{} turn {} of s{}", self.name, turn.number, turn.session)
    }

    /// Which message of which session request `number` is, where these are counted.
    #[must_use]
    pub fn turn(&self, number: u64) -> Option<Turn> {
        match &self.test {
            Test::SessionQueue { sessions, .. } => {
                // Round by round, beginning with another session each time: nobody is always first.
                let round = number / sessions;
                let session = number.wrapping_add(mixed(self.seed, round) % sessions) % sessions;
                Some(Turn { session, number: round })
            }
            Test::Custom(custom) => Some(Turn { session: number % custom.sessions, number: number / custom.sessions }),
            Test::AgentRun { .. } | Test::FullApi { .. } => None,
        }
    }

    /// The request with number `number`, from 0.
    ///
    /// # Errors
    /// In a sentence, when a template does not make a request.
    pub fn request(&self, number: u64) -> Result<Planned, String> {
        let dice = mixed(self.seed, number);
        if let Test::AgentRun { agent } | Test::SessionQueue { agent, .. } | Test::FullApi { agent } = &self.test
            && (agent.is_empty() || agent.contains(['/', '?', '#']))
        {
            return Err(format!("`{agent}` is no name of an agent: it is one part of a path"));
        }
        match &self.test {
            Test::AgentRun { agent } => {
                let body = json!({
                    "message_content": format!("{} message {number}", self.name),
                    "message_type": "text",
                    "session_name": self.session(number),
                    "session_origin": "stress",
                });
                self.post(&run_path(agent), &body).map(|request| Planned { request, turn: None })
            }
            Test::SessionQueue { agent, .. } => {
                let Some(turn) = self.turn(number) else { return Err("it counts no turns".to_owned()) };
                let body = json!({
                    "message_content": self.message(&turn),
                    "message_type": "text",
                    "session_name": self.session(turn.session),
                    "session_origin": "stress",
                });
                let request = self.post(&run_path(agent), &body)?;
                Ok(Planned { request, turn: Some(turn) })
            }
            Test::FullApi { agent } => {
                self.of_full_api(agent, number, dice).map(|request| Planned { request, turn: None })
            }
            Test::Custom(custom) => self.of_custom(custom, number),
        }
    }

    fn of_full_api(&self, agent: &str, number: u64, dice: u64) -> Result<Request<Full<Bytes>>, String> {
        match dice % 10 {
            0 => self.get("/api/v1/agent/list"),
            1 => self.get("/api/v1/sessions"),
            2 => {
                let body = json!({
                    "email": format!("{}-{number}@example.com", self.name),
                    "phone_number": format!("+1555{:07}", dice / 10 % 10_000_000),
                    "user_data": { "source": "stress", "number": number },
                });
                self.post("/api/v1/users", &body)
            }
            3 => {
                let body = json!({
                    "name": format!("{}-memory-{number}", self.name),
                    "description": "made by a stress test",
                    "content": format!("content {number}"),
                    "read_mode": "auto",
                    "access": "private",
                });
                self.post("/api/v1/memories", &body)
            }
            _ => {
                let body = json!({
                    "message_content": format!("{} message {number}", self.name),
                    "message_type": "text",
                    "session_name": self.session(number),
                    "session_origin": "stress",
                });
                self.post(&run_path(agent), &body)
            }
        }
    }

    fn of_custom(&self, custom: &Custom, number: u64) -> Result<Planned, String> {
        let Some(turn) = self.turn(number) else { return Err("it counts no turns".to_owned()) };
        let session = self.session(turn.session);
        let filled = |template: &str| {
            if !template.contains('{') {
                return template.to_owned();
            }
            let uuid = uuid(mixed(self.seed, number), mixed(!self.seed, number));
            let filled = template.replace("{session}", &session).replace("{turn}", &turn.number.to_string());
            filled.replace("{uuid}", &uuid).replace("{message}", &self.message(&turn))
        };
        let mut path = filled(&custom.path);
        let mut body = custom.body.as_deref().map(filled);
        let mut session_header = None;
        match &custom.session_in {
            None => {}
            Some(SessionIn::Header(name)) => session_header = Some((name.clone(), session.clone())),
            Some(SessionIn::Query(name)) => {
                path += if path.contains('?') { "&" } else { "?" };
                path += &format!("{name}={session}");
            }
            Some(SessionIn::Json(pointer)) => {
                let text = body.as_deref().unwrap_or("{}");
                body = Some(with_member(text, pointer, &session)?);
            }
        }
        let is_json = body.as_ref().is_some_and(|body| serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok());
        let mut request = self.plain(custom.method.clone(), &path, body.unwrap_or_default().into())?;
        if is_json && !self.headers.contains_key(header::CONTENT_TYPE) {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for value in request.headers_mut().values_mut() {
            if let Some(template) = value.to_str().ok().filter(|text| text.contains('{')) {
                *value =
                    HeaderValue::try_from(filled(template)).map_err(|_| "a filled -H is no field value".to_owned())?;
            }
        }
        if let Some((name, value)) = session_header {
            let value = HeaderValue::try_from(value).map_err(|_| "the session is no field value".to_owned())?;
            request.headers_mut().insert(name, value);
        }
        Ok(Planned { request, turn: Some(turn) })
    }

    fn get(&self, path: &str) -> Result<Request<Full<Bytes>>, String> {
        self.plain(Method::GET, path, Bytes::new())
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> Result<Request<Full<Bytes>>, String> {
        let mut request = self.plain(Method::POST, path, body.to_string().into())?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    fn plain(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        if !path.starts_with('/') {
            return Err(format!("`{path}` is no path: it does not begin with a slash"));
        }
        let uri = format!("{}{path}", self.target.base);
        let is_empty = body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = uri.parse().map_err(|error| format!("`{uri}` is no path: {error}"))?;
        *request.method_mut() = method;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.target.host.clone());
        // RFC 9110, 8.6: where content means something its absence is said. What there is has its length from hyper.
        if is_empty && [Method::POST, Method::PUT, Method::PATCH].contains(request.method()) {
            request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        Ok(request)
    }
}

fn run_path(agent: &str) -> String {
    format!("/api/v1/agent/{agent}/run")
}

/// splitmix64: the same for the same seed and number, and well mixed.
#[must_use]
pub fn mixed(seed: u64, number: u64) -> u64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Version 4 (RFC 9562), but made of the seed, so that a run can be repeated.
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xF000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn plan(test: Test) -> Plan {
        let target = Target::of("http://127.0.0.1:1/x").expect("a URL");
        Plan { target, test, name: "n".to_owned(), seed: 7, headers: HeaderMap::new() }
    }

    async fn body(request: Request<Full<Bytes>>) -> String {
        String::from_utf8(request.into_body().collect().await.expect("it is here").to_bytes().to_vec()).expect("text")
    }

    #[tokio::test]
    async fn messages_of_sessions_are_numbered_in_turn() {
        let plan = plan(Test::SessionQueue { agent: "a".to_owned(), sessions: 3, messages: 2 });
        assert_eq!(plan.length(), Some(6));
        let turns: Vec<Turn> = (0..6).filter_map(|number| plan.request(number).expect("a request").turn).collect();
        for (round, turns) in turns.chunks(3).enumerate() {
            assert!(turns.iter().all(|turn| turn.number == round as u64), "{turns:?}");
            assert_eq!(turns.iter().map(|turn| turn.session).collect::<std::collections::HashSet<_>>().len(), 3);
        }
        let planned = plan.request(4).expect("a request");
        let turn = planned.turn.expect("it is counted");
        assert_eq!(planned.request.uri(), "/x/api/v1/agent/a/run");
        let body: serde_json::Value = serde_json::from_str(&body(planned.request).await).expect("JSON");
        let expected = (plan.session(turn.session), plan.message(&turn));
        assert_eq!((&body["session_name"], &body["message_content"]), (&expected.0.into(), &expected.1.into()));
    }

    #[tokio::test]
    async fn templates_are_filled_and_sessions_put_where_they_belong() {
        let custom = |session_in| Custom {
            method: Method::PUT,
            path: "/{session}/{turn}".to_owned(),
            body: Some(r#"{"id":"{uuid}","in":{}}"#.to_owned()),
            sessions: 2,
            session_in,
        };
        let first = |session_in| plan(Test::Custom(custom(session_in))).request(3).expect("a request").request;
        let request = first(Some(SessionIn::Header(http::HeaderName::from_static("x-s"))));
        assert_eq!((request.uri().path(), &request.headers()["x-s"]), ("/x/n-s1/1", &"n-s1".parse().expect("text")));
        assert_eq!(first(Some(SessionIn::Query("q".to_owned()))).uri().query(), Some("q=n-s1"));
        let text = body(first(Some(SessionIn::Json("/in/s".to_owned())))).await;
        assert!(text.contains(r#""in":{"s":"n-s1"}"#) && !text.contains("{uuid}"), "{text}");
        assert!(plan(Test::Custom(custom(Some(SessionIn::Json("/no/s".to_owned()))))).request(0).is_err());
    }

    #[test]
    fn the_mix_is_sixty_and_four_times_ten() {
        let plan = plan(Test::FullApi { agent: "a".to_owned() });
        let mut seen = std::collections::HashMap::new();
        for number in 0..10_000 {
            let request = plan.request(number).expect("a request").request;
            *seen.entry(request.uri().path().to_owned()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 5);
        assert!((5700..6300).contains(&seen["/x/api/v1/agent/a/run"]), "{seen:?}");
        assert!(seen.values().all(|count| *count > 850), "{seen:?}");
    }

    #[test]
    fn a_uuid_is_one_and_the_same_for_the_same_seed() {
        let text = uuid(mixed(1, 2), mixed(3, 4));
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'4'));
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        assert_eq!(text, uuid(mixed(1, 2), mixed(3, 4)));
    }
}
