//! The binary `wardkeep`: parses the command line and exits with its code.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    wardkeep::cli::main()
}
