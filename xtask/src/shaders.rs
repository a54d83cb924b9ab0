//! `cargo xtask shaders`: every variant of every shader through Tint, the WGSL compiler of Chrome.
//!
//! Tint finds what naga lets pass: barriers and subgroup operations in non-uniform control flow, missing `enable`
//! lines, and whatever else only a browser would refuse.

use crate::{Paths, npm};
use anyhow::{Context, Result};
use xshell::{Shell, cmd};

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    let dumped = paths.target.join("shaders");
    // Shaders of kernels that are no more would be checked as well.
    sh.remove_path(&dumped)?;
    let to = paths.short(&dumped);
    cmd!(sh, "cargo run --quiet --example dump_shaders -- {to}").run()?;
    npm::provide(sh, &paths.root.join("xtask/tint"), "Tint")?;
    cmd!(sh, "node xtask/tint/check.mjs {to}").run().context("Tint refuses a shader, or could not be asked")
}
