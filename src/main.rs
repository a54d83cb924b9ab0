//! The program `pocketlm`: parses, runs, and says what went wrong and what to try next.

use std::process::ExitCode;

fn main() -> ExitCode {
    pocketlm::cli::main()
}
