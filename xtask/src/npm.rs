//! npm packages that a folder's `package-lock.json` pins by version and hash.

use crate::packages;
use anyhow::{Result, anyhow, bail};
use std::{fs, path::Path, time::SystemTime};
use xshell::{Shell, cmd};

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

const BY_HAND: &str = "install Node.js 18 or later with npm, then run this again";

/// Makes sure that node and the npm packages of `folder` are there; `what` they are for goes into messages.
pub fn provide(sh: &Shell, folder: &Path, what: &str) -> Result<()> {
    // Each by itself: Node.js from elsewhere often brings npm along, and Debian's package would be at odds with it.
    let missing = || -> Vec<&str> {
        [("node", "nodejs"), (NPM, "npm")]
            .into_iter()
            .filter(|(p, _)| !packages::has(p))
            .map(|(_, package)| package)
            .collect()
    };
    if !missing().is_empty() {
        eprintln!("{what}: this takes Node.js and npm; not here: {}", missing().join(" and "));
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
        .map_err(|error| anyhow!("npm could not fetch {what} ({error}); check the network, then run this again"))
}

/// When `file` was last written; `None` when it is not there.
pub fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
