//! `pocketlm run`: answers one prompt.

use super::human_bytes;
use super::options::{ModelOptions, SamplingArguments, text_or_stdin};
use crate::{
    TextNeed,
    backend::gpu::ExpertStats,
    session::{Generation, Stats, Stop},
    text::Message,
};
use clap::Args;
use serde_json::json;
use std::{io::Write, process::ExitCode};

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    model: ModelOptions,
    /// What to say to the model; `-` reads stdin
    #[arg(short, long)]
    prompt: String,
    /// Most tokens to answer with [default: until the model stops or the context is full]
    #[arg(short, long = "n", value_name = "N")]
    n: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Continue the prompt as it is: no chat template, special tokens are recognised
    #[arg(long)]
    raw: bool,
    /// Instructions that come before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Print one JSON object with ids, text, stop and timings instead of streaming
    #[arg(long)]
    json: bool,
}

impl Run {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let sampling = self.sampling.checked();
        let prompt = text_or_stdin(&self.prompt)?;
        let mut session = self.model.session(if self.raw { TextNeed::Tokenizer } else { TextNeed::Template }, false)?;
        let tokenizer = session.engine().tokenizer()?;
        let prompt_ids = if self.raw {
            tokenizer.encode_prompt(&prompt)?
        } else {
            let mut messages: Vec<Message> = self.system.iter().map(|text| Message::new("system", text)).collect();
            messages.push(Message::new("user", prompt));
            tokenizer.encode_chat(session.engine().template()?, &messages, true)?
        };
        pollster::block_on(async {
            let mut answer = session.generate(&prompt_ids, sampling, self.n).await?;
            let mut ids = Vec::new();
            let mut text = String::new();
            while let Some(piece) = answer.next().await? {
                ids.push(piece.token);
                self.show(&mut text, &piece.text)?;
            }
            let rest = answer.finish_text();
            self.show(&mut text, &rest)?;
            self.report(&answer, &prompt_ids, &ids, &text)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, text: &mut String, piece: &str) -> anyhow::Result<()> {
        text.push_str(piece);
        if !self.json {
            let mut out = std::io::stdout().lock();
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }

    fn report(&self, answer: &Generation<'_>, prompt_ids: &[u32], ids: &[u32], text: &str) -> anyhow::Result<()> {
        let (stats, stop) = (answer.stats(), answer.stop());
        if self.json {
            let timings = json!({
                "prompt_tokens": stats.n_prompt,
                "prompt_s": stats.prompt_s,
                "prompt_tokens_per_s": rate(stats.n_prompt, stats.prompt_s),
                "answer_tokens": stats.n_answer,
                "answer_s": stats.answer_s,
                "answer_tokens_per_s": answer_rate(&stats),
                "experts": answer.engine().expert_stats(),
            });
            let object =
                json!({ "prompt_ids": prompt_ids, "ids": ids, "text": text, "stop": stop, "timings": timings });
            writeln!(std::io::stdout().lock(), "{object}")?;
            return Ok(());
        }
        writeln!(std::io::stdout().lock())?;
        if stop == Some(Stop::ContextFull) {
            eprintln!("\nstopped: the context is full; --ctx sets a larger one");
        }
        eprintln!("\n{}", speeds(&stats));
        if let Some(told) = experts(&answer.engine().expert_stats()) {
            eprintln!("{told}");
        }
        Ok(())
    }
}

/// `prompt 30 tokens, 152.0/s; answer 48 tokens, 31.5/s`, and after `prompt 30` how many were not processed again.
pub fn speeds(stats: &Stats) -> String {
    let per_s = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{rate:.1}/s"));
    let reused = if stats.n_reused > 0 { format!(" (and {} reused)", stats.n_reused) } else { String::new() };
    format!(
        "prompt {} tokens{reused}, {}; answer {} tokens, {}",
        stats.n_prompt,
        per_s(rate(stats.n_prompt, stats.prompt_s)),
        stats.n_answer,
        per_s(answer_rate(stats))
    )
}

/// `experts: 87.5 % found on the device; 66 fetched, 4.1 GiB in 3.2 s`; `None` where all of them are there.
pub fn experts(stats: &ExpertStats) -> Option<String> {
    let found = 100.0 * stats.hit_rate()?;
    let (n, bytes, seconds) = (stats.n_fetched, human_bytes(stats.fetched_bytes), stats.fetch_s);
    Some(format!("experts: {found:.1} % found on the device; {n} fetched, {bytes} in {seconds:.1} s"))
}

fn rate(n: usize, seconds: f64) -> Option<f64> {
    (n > 0 && seconds > 0.0).then(|| n as f64 / seconds)
}

/// The first token belongs to the prompt's time.
fn answer_rate(stats: &Stats) -> Option<f64> {
    rate(stats.n_answer.saturating_sub(1), stats.answer_s)
}
