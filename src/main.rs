use std::process::ExitCode;

/// Faster than glibc's, and gives memory back after a burst of connections. See the decision in `docs/adr`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    turnwise::cli::main()
}
