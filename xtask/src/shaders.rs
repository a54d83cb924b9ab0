//! `cargo xtask shaders`: every variant of every shader through Tint, the WGSL compiler of Chrome.
//!
//! Tint finds what naga lets pass: barriers and subgroup operations in non-uniform control flow, missing `enable`
//! lines, and whatever else only a browser would refuse.

use crate::{Paths, packages};
use anyhow::{Context, Result, anyhow, bail};
use std::{fs, path::Path, time::SystemTime};
use xshell::{Shell, cmd};

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

const BY_HAND: &str = "install Node.js 18 or later with npm, then run this again";

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    let dumped = paths.target.join("shaders");
    // Shaders of kernels that are no more would be checked as well.
    sh.remove_path(&dumped)?;
    let to = paths.short(&dumped);
    cmd!(sh, "cargo run --quiet --example dump_shaders -- {to}").run()?;
    provide_tint(sh, &paths.root.join("xtask/tint"))?;
    cmd!(sh, "node xtask/tint/check.mjs {to}").run().context("Tint refuses a shader, or could not be asked")
}

/// Makes sure that node and the npm packages of `folder` are there.
fn provide_tint(sh: &Shell, folder: &Path) -> Result<()> {
    // Each by itself: Node.js from elsewhere often brings npm along, and Debian's package would be at odds with it.
    let missing = || -> Vec<&str> {
        [("node", "nodejs"), (NPM, "npm")]
            .into_iter()
            .filter(|(p, _)| !packages::has(p))
            .map(|(_, package)| package)
            .collect()
    };
    if !missing().is_empty() {
        eprintln!("running Tint takes Node.js and npm; not here: {}", missing().join(" and "));
        packages::install(sh, &missing(), BY_HAND)?;
        if !missing().is_empty() {
            bail!("still not here: {}; {BY_HAND}", missing().join(" and "));
        }
    }
    // npm writes the first file when an installation is complete.
    let installed = changed(&folder.join("node_modules/.package-lock.json"));
    if installed.is_some_and(|installed| Some(installed) >= changed(&folder.join("package-lock.json"))) {
        return Ok(());
    }
    let _folder = sh.push_dir(folder);
    // No package here needs its install script.
    cmd!(sh, "{NPM} ci --ignore-scripts --no-audit --no-fund")
        .run()
        .map_err(|error| anyhow!("npm could not fetch Tint ({error}); check the network, then run this again"))
}

/// When `file` was last written; `None` when it is not there.
fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
