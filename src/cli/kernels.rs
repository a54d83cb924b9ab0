//! `pocketlm kernels`: what the device can do, what each kernel of a model makes of it, and where a token's time goes.

use super::options::{ModelOptions, tokens};
use crate::{
    SessionOptions,
    backend::Gpu,
    error::Error,
    measure::{
        About, Comparison, Examination, ExamineOptions, Subject, SubjectOptions, compare, examine, page, read, table,
    },
    platform::PartialFile,
    timing::Method,
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub struct Kernels {
    #[command(flatten)]
    model: ModelOptions,
    /// Tokens of the prompt, of which one batch (512) is measured; 0 measures none
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = tokens())]
    prompt: usize,
    /// Tokens that are in the context before
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = tokens())]
    depth: usize,
    /// Folder for kernels.json and kernels.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A kernels.json of before: say what became slower or faster by more than the noise
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Rounds of each measurement [default: 7]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    rounds: Option<u32>,
    /// A first look: seconds instead of a minute, and as much less certain
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Of the source that was measured, for whoever compares: set when the program is built, or when it runs.
pub fn commit() -> Option<String> {
    std::env::var("POCKETLM_COMMIT").ok().or(option_env!("POCKETLM_COMMIT").map(String::from))
}

/// The files of a result in a folder, which is made if it is not there.
fn files(folder: &Path) -> Result<[(PathBuf, PartialFile); 2], Error> {
    let open = |name: &str| {
        let path = folder.join(name);
        let file = std::fs::create_dir_all(folder).and_then(|()| PartialFile::create(&path));
        file.map(|file| (path.clone(), file)).map_err(|source| Error::Write { path, source })
    };
    Ok([open("kernels.json")?, open("kernels.html")?])
}

/// Writes a result as JSON and as a page.
fn write_files(folder: &Path, found: &Examination, compared: Option<&Comparison>) -> anyhow::Result<()> {
    let texts = [format!("{}\n", serde_json::to_string_pretty(found)?), page::page(found, compared)];
    for ((path, mut file), text) in files(folder)?.into_iter().zip(texts) {
        let written = file.write_all(text.as_bytes()).and_then(|()| file.finish(true));
        written.map_err(|source| Error::Write { path: path.clone(), source })?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

impl Kernels {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        // What cannot be compared with is said before a minute has gone by.
        let old = self.compare.as_deref().map(read).transpose()?;
        // So is what cannot be written to; nothing lies there meanwhile that an interrupt would leave behind.
        if let Some(folder) = &self.out {
            drop(files(folder)?);
        }
        let found = pollster::block_on(self.measure())?;
        let compared = old.as_ref().map(|old| compare(old, &found));
        // Whoever reads the table may stop, and what cannot be written is printed all the same.
        let written = self.out.as_deref().map(|folder| write_files(folder, &found, compared.as_ref()));
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?,
            false => write!(out, "{}", table::examination(&found))?,
        }
        if let (Some(compared), Some(old)) = (&compared, &self.compare) {
            // Data is one JSON object; the rest is talk then.
            let text = format!("\ncompared with {}:\n{}", old.display(), table::comparison(compared));
            if self.json { eprint!("{text}") } else { write!(out, "{text}")? }
        }
        out.flush()?;
        written.transpose()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn measure(&self) -> anyhow::Result<Examination> {
        let needed = self.depth + self.prompt.min(SessionOptions::default().batch).max(1);
        self.model.check_context(needed)?;
        let file = self.model.file()?;
        let mut gpu = Gpu::open(self.model.adapter.as_deref()).await?;
        gpu.set_prompt_math(self.model.engine_options().prompt_math);
        let subject = SubjectOptions {
            n_prompt: self.prompt,
            depth: self.depth,
            cache: self.model.session_options(false).cache,
            engine: self.model.engine_options(),
        };
        let mut subject = Subject::new(&file, &gpu, &subject)?;
        if !self.model.no_tune {
            subject.take_choices(&gpu).await?;
        }
        let mut method = if self.quick { Method::QUICK } else { Method::default() };
        method.rounds = self.rounds.map_or(method.rounds, |n| n as usize);
        let bar = ProgressBar::new(1000).with_style(ProgressStyle::with_template("{msg:10} {bar:30} {elapsed}")?);
        let progress = |what: &str, share: f64| {
            bar.set_message(what.to_string());
            bar.set_position((1000.0 * share) as u64);
        };
        let about = About::now(&gpu.report, &self.model.name(), commit());
        let found = examine(&gpu, subject, &ExamineOptions { method }, about, progress).await;
        bar.finish_and_clear();
        Ok(found?)
    }
}
