//! `pocketlm bench`: prompt and decode speed of a model or of a model's shape.

use super::{human_bytes, options::ModelOptions};
use crate::{Session, TextNeed};
use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;
use std::{io::Write, process::ExitCode, time::Instant};

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelOptions,
    /// Tokens of a prompt; 0 measures none
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens decoded one by one; 0 measures none
    #[arg(short, long = "n", value_name = "N", default_value_t = 128)]
    n: usize,
    /// Tokens that are in the context before, each depth measured by itself
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Rounds of each measurement, after one that warms up
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Md,
    Csv,
    Json,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Test {
    Prompt,
    Decode,
}

impl Test {
    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Decode => "decode",
        }
    }
}

/// One measurement: tokens per second of every round.
#[derive(Debug, serde::Serialize)]
struct Row {
    /// `prompt 512` or `decode 128`.
    test: String,
    depth: usize,
    tokens_per_s: Vec<f64>,
}

impl Row {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.tokens_per_s.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Median, minimum, maximum.
    fn cells(&self) -> [String; 5] {
        let sorted = self.sorted();
        let show = |rate: f64| format!("{rate:.2}");
        let (median, least, most) = (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1]);
        [self.test.clone(), self.depth.to_string(), show(median), show(least), show(most)]
    }
}

const HEADINGS: [&str; 5] = ["test", "depth", "tokens/s", "least", "most"];

impl Bench {
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        let deepest = self.depth.iter().max().copied().unwrap_or(0);
        let needed = deepest + self.prompt.max(self.n + 1);
        if self.model.ctx.is_none() {
            self.model.ctx = Some(u32::try_from(needed).context("that many tokens fit no context")?);
        }
        let start = Instant::now();
        let mut session = self.model.session(TextNeed::Nothing, false)?;
        let load_s = start.elapsed().as_secs_f64();
        let rows = pollster::block_on(self.measure(&mut session))?;
        self.print(&session, load_s, &rows)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn measure(&self, session: &mut Session) -> anyhow::Result<Vec<Row>> {
        let n_rows = self.depth.len() * ((self.prompt > 0) as usize + (self.n > 0) as usize);
        let bar = ProgressBar::new(n_rows as u64 * (self.rounds as u64 + 1));
        let mut rows = Vec::new();
        for &depth in &self.depth {
            for (test, n) in [(Test::Prompt, self.prompt), (Test::Decode, self.n)] {
                if n == 0 {
                    continue;
                }
                let mut row = Row { test: format!("{} {n}", test.name()), depth, tokens_per_s: Vec::new() };
                for round in 0..=self.rounds {
                    let seconds = match test {
                        Test::Prompt => prompt_s(session, depth, n).await?,
                        Test::Decode => decode_s(session, depth, n).await?,
                    };
                    row.tokens_per_s.extend((round > 0).then_some(n as f64 / seconds));
                    bar.inc(1);
                }
                rows.push(row);
            }
        }
        bar.finish_and_clear();
        Ok(rows)
    }

    fn print(&self, session: &Session, load_s: f64, rows: &[Row]) -> anyhow::Result<()> {
        let engine = session.engine();
        let report = &engine.gpu.report;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if let Format::Json = self.format {
            let object = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "model": self.model.name(),
                "adapter": report,
                "load_s": load_s,
                "weights_bytes": engine.weights_bytes(),
                "session_bytes": session.bytes(),
                "experts": engine.expert_stats(),
                "rows": rows,
            });
            writeln!(out, "{object:#}")?;
            return Ok(out.flush()?);
        }
        eprintln!("{} on {} ({})", self.model.name(), report.name, report.driver);
        eprintln!(
            "loaded in {load_s:.1} s; {} of weights and {} of context on the device",
            human_bytes(engine.weights_bytes()),
            human_bytes(session.bytes())
        );
        let cells: Vec<[String; 5]> =
            std::iter::once(HEADINGS.map(String::from)).chain(rows.iter().map(Row::cells)).collect();
        for (i, row) in cells.iter().enumerate() {
            match self.format {
                Format::Csv => writeln!(out, "{}", row.join(","))?,
                Format::Md => {
                    writeln!(out, "| {} |", row.join(" | "))?;
                    if i == 0 {
                        writeln!(out, "|{}", "---|".repeat(HEADINGS.len()))?;
                    }
                }
                _ => {
                    let [test, depth, median, least, most] = row;
                    writeln!(out, "{test:<14} {depth:>7} {median:>10} {least:>10} {most:>10}")?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

/// Arbitrary ids of the vocabulary.
fn ids(session: &Session, n: usize) -> Vec<u32> {
    let n_vocab = session.engine().config.n_vocab as u64;
    (0..n as u64).map(|i| ((i * 7919 + 11) % n_vocab) as u32).collect()
}

/// Puts `depth` tokens into the context and waits until they are there.
async fn prepare(session: &mut Session, depth: usize) -> anyhow::Result<()> {
    session.truncate(0);
    session.feed(&ids(session, depth)).await?;
    session.engine().gpu.finished("filling the context").await?;
    Ok(())
}

/// From a prompt to its first token.
async fn prompt_s(session: &mut Session, depth: usize, n: usize) -> anyhow::Result<f64> {
    prepare(session, depth).await?;
    let ids = ids(session, n);
    let start = Instant::now();
    session.feed(&ids).await?;
    session.most_probable().await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Each token's id is read back before the next is decoded, as an answer does it.
async fn decode_s(session: &mut Session, depth: usize, n: usize) -> anyhow::Result<f64> {
    prepare(session, depth).await?;
    let first = ids(session, 1);
    session.feed(&first).await?;
    let mut token = session.most_probable().await?;
    let start = Instant::now();
    for _ in 0..n {
        session.feed(&[token]).await?;
        token = session.most_probable().await?;
    }
    Ok(start.elapsed().as_secs_f64())
}
