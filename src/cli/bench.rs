//! `pocketlm bench`: prompt and decode speed of a model or of a model's shape.

use super::{
    kernels::commit,
    options::{ModelOptions, tokens},
};
use crate::{
    TextNeed,
    measure::{About, BenchOptions, bench, measure_copy, table},
    platform::now_s,
    timing::Method,
};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use std::{io::Write, process::ExitCode};

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelOptions,
    /// Tokens of a prompt; 0 measures none
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = tokens())]
    prompt: usize,
    /// Tokens decoded one by one; 0 measures none
    #[arg(short, long = "n", value_name = "N", default_value_t = 128, value_parser = tokens())]
    n: usize,
    /// Tokens that are in the context before, each depth measured by itself
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0", value_parser = tokens())]
    depth: Vec<usize>,
    /// Rounds of each measurement, after one that warms up
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Table,
    Md,
    Csv,
    Json,
}

impl Bench {
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.prompt > 0 || self.n > 0, "nothing to measure: -p and -n are both 0");
        let deepest = self.depth.iter().max().copied().unwrap_or(0);
        // An answer that the model ends begins anew with its last token, again and again at worst.
        let needed = deepest + self.prompt.max(2 * self.n) + 2;
        self.model.check_context(deepest + self.prompt.max(self.n) + 1)?;
        self.model.ctx = self.model.ctx.or(Some(needed as u32));
        let start_s = now_s();
        let mut session = self.model.session(TextNeed::Nothing, false)?;
        let load_s = now_s() - start_s;
        let engine = session.engine().clone();
        let about = About::now(&engine.gpu.report, &self.model.name(), commit());
        let bar = ProgressBar::new(1000);
        let found = pollster::block_on(async {
            let copy_bytes_per_s = measure_copy(&engine.gpu, &Method { budget_s: 1.0, ..Method::QUICK }).await?;
            let options = BenchOptions {
                n_prompt: self.prompt,
                n_decode: self.n,
                depths: self.depth.clone(),
                rounds: self.rounds as usize,
                copy_bytes_per_s,
                load_s,
            };
            bench(&mut session, &options, about, |share| bar.set_position((1000.0 * share) as u64)).await
        });
        bar.finish_and_clear();
        let found = found?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.format != Format::Json {
            table::bench_talk(&found).iter().for_each(|line| eprintln!("{line}"));
        }
        match self.format {
            Format::Table => write!(out, "{}", table::bench_table(&found))?,
            Format::Md => write!(out, "{}", table::bench_markdown(&found))?,
            Format::Csv => write!(out, "{}", table::bench_csv(&found))?,
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
