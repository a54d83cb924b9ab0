//! `cargo xtask check`: formatting, clippy and tests, with what this machine has. Fetches nothing.

use crate::step::step;
use anyhow::Result;
use xshell::{Shell, cmd};

pub fn run(sh: &Shell) -> Result<()> {
    step("format", || Ok(cmd!(sh, "cargo fmt --all --check").run()?))?;
    step("clippy", || Ok(cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings").run()?))?;
    step("tests", || Ok(cmd!(sh, "cargo test --workspace").run()?))
}
