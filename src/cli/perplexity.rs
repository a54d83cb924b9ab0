//! `pocketlm perplexity`: how well a model predicts a text.

use super::options::ModelOptions;
use crate::{Session, TextNeed};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::{io::Write, path::PathBuf, process::ExitCode};

#[derive(Debug, Args)]
// With --shape there is a FILE without a MODEL before it.
#[command(allow_missing_positional = true)]
pub struct Perplexity {
    #[command(flatten)]
    model: ModelOptions,
    /// A text file; longer than the context, it is scored piece by piece
    file: PathBuf,
    /// Print one JSON object with the negative log-likelihood of each token
    #[arg(long)]
    json: bool,
}

impl Perplexity {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let mut session = self.model.session(TextNeed::Tokenizer, true)?;
        let losses = losses(&mut session, &text)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", json!({ "perplexity": of(&losses), "n_scored": losses.len(), "nll": losses }))?;
        } else {
            writeln!(out, "perplexity {:.4} over {} tokens", of(&losses), losses.len())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Negative log-likelihood of each token of `text` after its first, in nats. The session is one for all logits.
pub fn losses(session: &mut Session, text: &str) -> anyhow::Result<Vec<f64>> {
    let ids = session.engine().tokenizer()?.encode_prompt(text)?;
    if ids.len() < 2 {
        return Err(crate::Error::Invalid { what: "the text has fewer than two tokens".into() }.into());
    }
    let bar = indicatif::ProgressBar::new(ids.len() as u64);
    let mut losses = Vec::with_capacity(ids.len());
    for piece in ids.chunks(session.context()) {
        session.truncate(0);
        let mut next = piece[1..].iter();
        pollster::block_on(session.feed_all(piece, |logits| {
            losses.extend(next.next().map(|&id| loss(logits, id)));
            bar.inc(1);
        }))?;
    }
    bar.finish_and_clear();
    anyhow::ensure!(!losses.is_empty(), "a context of 1 leaves nothing to predict");
    anyhow::ensure!(losses.iter().all(|loss: &f64| loss.is_finite()), "a logit is not a number: damaged weights?");
    Ok(losses)
}

/// The perplexity that such losses make.
pub fn of(losses: &[f64]) -> f64 {
    (losses.iter().sum::<f64>() / losses.len() as f64).exp()
}

/// Negative log-likelihood of `id`, in nats.
fn loss(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b)) as f64;
    let total: f64 = logits.iter().map(|&logit| (logit as f64 - largest).exp()).sum();
    total.ln() + largest - logits[id as usize] as f64
}
