//! A backend does not stop because its client hung up: what was begun counts until it has ended.

mod after_the_limit;
mod auto;
mod cancel;
mod finish;
mod half_close;
mod mid_upload;

fn policy(abandoned: &str, limits: &str) -> String {
    format!("limits: {{ {limits} }}\ndefaults: {{ {abandoned} }}\n")
}
