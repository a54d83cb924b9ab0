//! `pocketlm logits`: the raw numbers, for people who test numerics.

use super::options::{ModelOptions, text_or_stdin};
use crate::TextNeed;
use clap::Args;
use serde_json::json;
use std::{io::Write, process::ExitCode};

#[derive(Debug, Args)]
pub struct Logits {
    #[command(flatten)]
    model: ModelOptions,
    /// Token ids; needs no tokenizer
    #[arg(long, value_delimiter = ',', required_unless_present = "prompt", conflicts_with = "prompt")]
    ids: Vec<u32>,
    /// Text, taken raw; `-` reads stdin
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The logits after every token instead of the last alone
    #[arg(long)]
    all: bool,
}

impl Logits {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let text = self.prompt.as_deref().map(text_or_stdin).transpose()?;
        let need = if text.is_some() { TextNeed::Tokenizer } else { TextNeed::Nothing };
        let mut session = self.model.session(need, self.all)?;
        let ids = match text {
            Some(text) => session.engine().tokenizer()?.encode_prompt(&text)?,
            None => self.ids,
        };
        if ids.is_empty() {
            return Err(crate::Error::Invalid { what: "the prompt is empty".into() }.into());
        }
        let mut rows: Vec<Vec<f32>> = Vec::new();
        pollster::block_on(async {
            if self.all {
                return session.feed_all(&ids, |row| rows.push(row.to_vec())).await;
            }
            session.feed(&ids).await?;
            rows.push(Vec::new());
            session.logits(&mut rows[0]).await
        })?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        serde_json::to_writer(&mut out, &json!({ "ids": ids, "logits": rows }))?;
        writeln!(out)?;
        // Dropping the writer would swallow the error of a full disk.
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
