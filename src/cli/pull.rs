//! `pocketlm pull`: fetches a model from the hub into the shared cache.

use crate::{
    error::Error,
    hub::{self, Choice, Hub, Listing, Name},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub struct Pull {
    /// OWNER/REPO of the Hugging Face hub; `@REVISION` and `:FILE` may follow
    #[arg(value_name = "NAME")]
    name: String,
    /// Fetch the files that match, with `*` and `?` [default: the best 4-bit GGUF file, or the files of a model folder]
    #[arg(long, value_name = "PATTERN")]
    file: Option<String>,
}

impl Pull {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let mut name = Name::parse(&self.name)?;
        name.file = self.file.or(name.file);
        let paths = pull(&Hub::from_env()?, &name)?;
        let mut out = std::io::stdout().lock();
        for path in paths {
            writeln!(out, "{}", path.display())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The path that MODEL stands for: `hf:OWNER/REPO[:FILE]` comes from the cache, or is fetched; others stay as they are.
pub fn resolve(model: &Path) -> anyhow::Result<PathBuf> {
    let Some(text) = model.to_str().filter(|text| text.starts_with("hf:")) else { return Ok(model.into()) };
    let (name, hub) = (Name::parse(text)?, Hub::from_env()?);
    if let Some(path) = hub.cached(&name) {
        return Ok(path);
    }
    match pull(&hub, &name)?.as_slice() {
        [path] => Ok(path.clone()),
        several => Err(Error::Hub {
            what: format!("`{text}` stands for {} files", several.len()),
            hint: "name one of them, as in hf:OWNER/REPO:FILE".into(),
        }
        .into()),
    }
}

fn pull(hub: &Hub, name: &Name) -> anyhow::Result<Vec<PathBuf>> {
    let listing = hub.list(name)?;
    let choice = hub::choose(&listing.files, name.file.as_deref())?;
    announce(name, &listing, &choice);
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )?);
    let paths = hub.pull(name, &listing, &choice, |progress| {
        bar.set_message(progress.file.to_string());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    Ok(paths?)
}

fn announce(name: &Name, listing: &Listing, choice: &Choice) {
    let commit: String = listing.commit.chars().take(12).collect();
    eprintln!("{} at {commit}: {} ({})", name.repo, choice.files.join(", "), choice.why);
}
