//! What came in: the framing of the head, whose request it is, and which session it belongs to.
//!
//! All but [`exchange`] are pure functions of the request (and of the policy): no input or output, no clock, no
//! waiting.

pub mod client_address;
pub mod exchange;
pub mod form;
pub mod framing;
pub mod ids;
pub mod json_pointer;
pub mod session_key;
pub mod story;

pub use framing::{BadHead, check_head};
pub use ids::RequestId;
pub use session_key::{BadKey, HeadLookup, HeadView, KeyLookup, SessionKey, Tenant};
