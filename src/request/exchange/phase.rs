//! How far a request has come, and the words for it.

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Its head is there, its body is being read for the session key.
    Arriving,
    /// Waits for its session's turn.
    Turn,
    /// Waits for a rate limit.
    Rate,
    /// Waits for a place.
    Place,
    /// Has a place, and waits for a server with room.
    Server,
    /// Waits for nobody any more; no server has it yet.
    Connecting,
    /// Is at the upstream.
    Running,
    /// The response head has come.
    Answering,
    /// The client has gone, the upstream still works.
    Abandoned,
    /// Shares the answer of an equal request.
    Joined,
}

impl Phase {
    pub(super) const ALL: [Self; 10] = [
        Self::Arriving,
        Self::Turn,
        Self::Rate,
        Self::Place,
        Self::Server,
        Self::Connecting,
        Self::Running,
        Self::Answering,
        Self::Abandoned,
        Self::Joined,
    ];

    /// The phase that `as u8` made a number of.
    pub(super) fn of(number: u8) -> Self {
        Self::ALL[usize::from(number) % Self::ALL.len()]
    }

    /// What it waits for, in the words of the admin endpoints; `None` while it does not wait.
    #[must_use]
    pub fn waiting_for(self) -> Option<&'static str> {
        match self {
            Self::Turn => Some("turn"),
            Self::Rate => Some("rate"),
            Self::Place => Some("place"),
            Self::Server => Some("server"),
            Self::Arriving | Self::Connecting | Self::Running | Self::Answering | Self::Abandoned | Self::Joined => {
                None
            }
        }
    }

    /// The word for it in the admin endpoints.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Turn | Self::Rate | Self::Place | Self::Server => "waiting",
            Self::Connecting | Self::Running | Self::Answering => "running",
            Self::Abandoned => "abandoned",
            Self::Joined => "joined",
        }
    }
}
