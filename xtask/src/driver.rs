//! Sees to an adapter: a GPU, or failing that Mesa's software driver.

use crate::packages;
use anyhow::{Context, Result, bail};
use std::{
    path::Path,
    process::{Command, Output},
};
use xshell::Shell;

const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

const BY_HAND: &str = "install a Vulkan loader and a driver: \
    mesa-vulkan-drivers and libvulkan1 on Debian and Ubuntu, mesa-vulkan-drivers and vulkan-loader on Fedora, \
    vulkan-swrast and vulkan-icd-loader on Arch; then run this again";

/// Makes sure that `pocketlm`, the built program, finds an adapter; installs a driver if it finds none.
pub fn provide(sh: &Shell, pocketlm: &Path) -> Result<()> {
    if let Some(adapters) = adapters(pocketlm)? {
        eprint!("{adapters}");
        return Ok(());
    }
    eprintln!("no adapter was found: neither a GPU nor a software driver");
    packages::install(sh, &PACKAGES, BY_HAND)?;
    match adapters(pocketlm)? {
        Some(adapters) => eprint!("{adapters}"),
        None => bail!("there is still no adapter, although {} are installed; {BY_HAND}", PACKAGES.join(" and ")),
    }
    Ok(())
}

/// What `pocketlm devices` lists; `None` when there is no adapter.
fn adapters(pocketlm: &Path) -> Result<Option<String>> {
    let output = Command::new(pocketlm).arg("devices").output();
    let Output { status, stdout, stderr } = output.with_context(|| format!("cannot run {}", pocketlm.display()))?;
    match status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&stdout).into_owned())),
        Some(1) => Ok(None),
        _ => bail!("`pocketlm devices` broke down ({status}):\n{}", String::from_utf8_lossy(&stderr)),
    }
}
