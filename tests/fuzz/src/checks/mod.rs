//! What has to hold of any input: a module for each target.

pub mod answers;
pub mod fields;
pub mod form;
pub mod head;
pub mod job_records;
pub mod json_pointer;
pub mod policy;
pub mod proxy_protocol;
pub mod whole;
