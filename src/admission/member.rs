//! Who stands in a session's line.

use std::sync::{Arc, Weak};

use crate::admission::nesting::Nest;
use crate::limit::places::Scope;
use crate::request::exchange::{EndedBy, Exchange};

/// A request in a line, as others see it.
#[derive(Debug, Clone)]
pub struct Member {
    pub exchange: Arc<Exchange>,
    /// Where it takes a place once it has its turn; none if it takes none.
    pub(super) scopes: Option<(Scope, Scope)>,
    pub(super) nest: Option<Weak<Nest>>,
}

impl Member {
    /// What it is nested in.
    #[must_use]
    pub fn nested_in(&self) -> Option<Arc<Exchange>> {
        let nest = self.nest.as_ref().and_then(Weak::upgrade)?;
        nest.parent().map(|parent| parent.exchange().clone())
    }

    /// Ends it wherever it is, with everything that is nested in it.
    pub fn end(&self, by: EndedBy) {
        self.exchange.end(by);
        if let Some(nest) = self.nest.as_ref().and_then(Weak::upgrade) {
            nest.end_inside(by);
        }
    }

    /// Ends it if no server has it yet. Whether it did.
    pub fn end_unless_begun(&self, by: EndedBy) -> bool {
        self.exchange.end_unless_begun(by)
    }
}
