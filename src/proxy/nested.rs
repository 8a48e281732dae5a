//! Requests that a running request makes.

use std::sync::Arc;

use super::identify::Identified;
use crate::admission::nesting::{Nest, Nesting, Token};
use crate::upstream::fields::TURNWISE_TURN;

/// The turn whose token a request brings. A token that is nobody's, of a turn that is over, or another tenant's is as good as
/// none.
pub(super) fn nested_in(nesting: &Nesting, identified: &Identified) -> Option<Arc<Nest>> {
    if !nesting.is_open() {
        return None;
    }
    let mut lines = identified.received.head.headers.get_all(TURNWISE_TURN).iter();
    let token = Token::read(lines.next()?).filter(|_| lines.next().is_none())?;
    nesting.find(token).filter(|nest| nest.is_open_to(|gates| identified.tenant(gates)))
}
