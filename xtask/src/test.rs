//! `cargo xtask test`: everything that has to pass, on a machine that may have neither driver nor model yet.

use crate::{Paths, check, driver, model, shaders, step::step};
use anyhow::Result;
use xshell::{Shell, cmd};

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    // The profile of the tests, so that nothing is built twice.
    step("build", || Ok(cmd!(sh, "cargo build").run()?))?;
    step("driver", || driver::provide(sh, &paths.pocketlm("debug")))?;
    step("model", || model::provide(sh, paths).map(|_| ()))?;
    check::run(sh)?;
    step("shaders", || shaders::run(sh, paths))?;
    eprintln!("\neverything passed");
    Ok(())
}
