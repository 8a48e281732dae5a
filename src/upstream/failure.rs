//! What can go wrong at an upstream, and whose fault it is.

use crate::request::exchange::{GivenUp, UploadFault};

/// Why there is no response head. A closed set: whoever turns it into an answer must name each one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No server is healthy.
    Unavailable,
    /// No server with room within `limits.queue_timeout`.
    NoRoom,
    /// The gateway had no file descriptor for a connection within `connect_timeout`. No fault of the server.
    NoDescriptor,
    /// Refused, reset or unreachable, after the retries.
    Connect,
    /// Its name could not be resolved, after the retries.
    NoAddress,
    /// `connect_timeout` over.
    ConnectTimeout,
    /// The connection was lost, or what came was no response.
    Broken,
    /// `timeouts.response` over.
    ResponseTimeout,
    /// `timeouts.total` over.
    TotalTimeout,
    /// The client's own body came to no good end; no fault of the server.
    Upload(UploadFault),
}

/// All kinds of failure that are counted: those of a [`Failure`], and an answer that stalls.
pub const KINDS: [&str; 8] =
    ["unavailable", "connect", "dns", "connect_timeout", "broken", "response_timeout", "total_timeout", "idle_timeout"];

impl Failure {
    /// The `kind` label of `turnwise_upstream_errors_total`; `None` where no server is to blame.
    #[must_use]
    pub fn kind(self) -> Option<&'static str> {
        match self {
            Self::Unavailable => Some("unavailable"),
            Self::Connect => Some("connect"),
            Self::NoAddress => Some("dns"),
            Self::ConnectTimeout => Some("connect_timeout"),
            Self::Broken => Some("broken"),
            Self::ResponseTimeout => Some("response_timeout"),
            Self::TotalTimeout => Some("total_timeout"),
            Self::NoRoom | Self::NoDescriptor | Self::Upload(_) => None,
        }
    }

    /// Whether the server certainly has not begun to work on the request.
    #[must_use]
    pub fn is_unprocessed(self) -> bool {
        matches!(
            self,
            Self::Unavailable
                | Self::NoRoom
                | Self::NoDescriptor
                | Self::Connect
                | Self::NoAddress
                | Self::ConnectTimeout
        )
    }

    /// Whether it counts towards the server's ejection.
    #[must_use]
    pub fn blames_server(self) -> bool {
        matches!(self, Self::Connect | Self::NoAddress | Self::ConnectTimeout | Self::Broken | Self::ResponseTimeout)
    }
}

impl From<GivenUp> for Failure {
    fn from(why: GivenUp) -> Self {
        match why {
            GivenUp::Response => Self::ResponseTimeout,
            GivenUp::Total => Self::TotalTimeout,
        }
    }
}
