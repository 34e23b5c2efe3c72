//! The binary `wardkeep`: parses the command line and exits with its code.

#![forbid(unsafe_code)]

/// A search makes some hundred small allocations; after a bulk load the system's allocator spends half of a search's time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    wardkeep::cli::main()
}
