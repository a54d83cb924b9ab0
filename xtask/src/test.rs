//! `cargo xtask test`: everything that has to pass, on a machine that may have neither driver nor model yet.

use crate::{Paths, check, driver, model, shaders, step::step, vocabularies, web};
use anyhow::Result;
use xshell::{Shell, cmd};

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    // The profile of the tests, so that nothing is built twice.
    step("build", || Ok(cmd!(sh, "cargo build").run()?))?;
    step("driver", || driver::provide(sh, &paths.pocketlm("debug")))?;
    fetch(sh, paths)?;
    check::run(sh)?;
    step("shaders", || shaders::run(sh, paths))?;
    web::test(sh, paths)?;
    eprintln!("\neverything passed");
    Ok(())
}

/// What the tests read and the repository does not hold.
pub fn fetch(sh: &Shell, paths: &Paths) -> Result<()> {
    step("model", || model::provide(sh, paths).map(|_| ()))?;
    step("vocabularies", || vocabularies::provide(sh, paths))
}
