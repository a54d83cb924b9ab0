//! Programs and packages of the operating system: whether one is here, and how it comes here.

use anyhow::{Result, anyhow, bail};
use std::process::Command;
use xshell::{Shell, cmd};

/// Whether `program` can be run.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Installs `packages` with apt-get, as root or through sudo; `by_hand` is the advice where that cannot be.
pub fn install(sh: &Shell, packages: &[&str], by_hand: &str) -> Result<()> {
    if !has("apt-get") {
        bail!("there is no apt-get here to install it with; {by_hand}");
    }
    let sudo: &[&str] = match (cmd!(sh, "id -u").quiet().read()?.as_str(), has("sudo")) {
        ("0", _) => &[],
        (_, true) => &["sudo"],
        (_, false) => {
            bail!(
                "installing {} takes root, and there is no sudo; as root, run `cargo xtask` again, or {by_hand}",
                packages.join(" ")
            )
        }
    };
    eprintln!("installing {} with apt-get", packages.join(" "));
    let quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"];
    let run = |arguments: &[&str]| {
        let words: Vec<&str> = [sudo, &quietly, arguments].concat();
        let (program, rest) = (words[0], &words[1..]);
        cmd!(sh, "{program} {rest...}").run()
    };
    run(&["update"])
        .and_then(|()| run(&[&["install", "--yes", "--no-install-recommends"], packages].concat()))
        .map_err(|error| anyhow!("apt-get could not install {} ({error}); {by_hand}", packages.join(" ")))
}
