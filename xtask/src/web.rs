//! `cargo xtask web`: the module for web pages, the npm package around it and the site; and their tests in real browsers.

use crate::{Paths, npm, packages, step::step};
use anyhow::{Context, Result, bail};
use std::{env, path::Path};
use xshell::{PushEnv, Shell, cmd};

const TARGET: &str = "wasm32-unknown-unknown";
/// The profile in Cargo.toml that the module is built with.
const PROFILE: &str = "web";

/// Browsers that the tests drive: program, and Debian's package.
const BROWSERS: [(&str, &str); 2] = [("chromium", "chromium"), ("firefox-esr", "firefox-esr")];

/// Builds everything; `serve` then serves the site until it is stopped.
pub fn run(sh: &Shell, paths: &Paths, serve: bool) -> Result<()> {
    build(sh, paths)?;
    if serve {
        cmd!(sh, "node web/serve.mjs").run()?;
    }
    Ok(())
}

/// Builds, then drives browsers through the site.
pub fn test(sh: &Shell, paths: &Paths) -> Result<()> {
    step("web", || build(sh, paths))?;
    step("browsers", || {
        let missing: Vec<_> = BROWSERS.iter().filter(|(program, _)| !packages::has(program)).collect();
        if !missing.is_empty() {
            let wanted: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
            packages::install(sh, &wanted, "install Chromium and Firefox ESR, then run this again")?;
        }
        // The ids that browsers must generate too are made by the program for this machine.
        let pocketlm = paths.pocketlm("debug");
        Ok(cmd!(sh, "node web/tests/run.mjs {pocketlm}").run()?)
    })
}

fn build(sh: &Shell, paths: &Paths) -> Result<()> {
    let _std = wasm_std(sh)?;
    cmd!(sh, "cargo build --quiet --package pocketlm-web --target {TARGET} --profile {PROFILE}").run()?;
    let wasm = paths.target.join(TARGET).join(PROFILE).join("pocketlm_web.wasm");
    cmd!(sh, "cargo run --quiet --package bindgen -- {wasm} web/pkg").run()?;
    npm::provide(sh, &paths.root.join("web"), "the web package's tools")?;
    Ok(cmd!(sh, "node web/build.mjs").run()?)
}

/// Sees to a standard library for [`TARGET`]: rustup's, or one built from source where that cannot be downloaded. Cargo
/// finds the latter through the environment as long as what is returned lives.
fn wasm_std(sh: &Shell) -> Result<Vec<PushEnv<'_>>> {
    let sysroot = cmd!(sh, "rustc --print sysroot").quiet().read()?;
    let here = || Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir();
    if here() || env::var_os("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS").is_some() {
        return Ok(Vec::new());
    }
    if packages::has("rustup") && cmd!(sh, "rustup target add {TARGET}").run().is_ok() && here() {
        return Ok(Vec::new());
    }
    let exports = cmd!(sh, "bash xtask/wasm-std.sh").read().context("there is no standard library for WebAssembly")?;
    // export NAME='VALUE', a line each.
    let pairs = exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let pushed: Vec<_> = pairs.map(|(name, value)| sh.push_env(name, value.trim_matches('\''))).collect();
    match pushed.is_empty() {
        true => bail!("xtask/wasm-std.sh named no standard library for WebAssembly"),
        false => Ok(pushed),
    }
}
