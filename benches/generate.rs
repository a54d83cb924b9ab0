//! Prompt and decode speed of a model: `cargo bench --bench generate [-- MODEL]`. Prints median, minimum and maximum.
//!
//! The prompt is processed in one batch and timed to its logits; decoding is greedy, timed per token, the first left out.

use pocketlm::{Engine, EngineOptions, SamplingOptions, Session, SessionOptions};
use std::{path::PathBuf, sync::Arc};

const PROMPTS: [usize; 2] = [64, 256];
const DECODE: usize = 64;
const ROUNDS: usize = 5;

fn main() -> pocketlm::Result<()> {
    // Cargo hands `--bench` on to us.
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let model = argument.map_or("models/SmolLM2-135M-Instruct.Q4_1.gguf".into(), PathBuf::from);
    pollster::block_on(async {
        let engine = Arc::new(Engine::open(&model, &EngineOptions::default(), |_, _| ()).await?);
        println!("{} on {} ({})", model.display(), engine.gpu.report.name, engine.gpu.report.driver);
        let n_vocab = engine.config.n_vocab as u32;
        let mut session = Session::new(engine, &SessionOptions::default()).await?;
        for n in PROMPTS {
            let ids: Vec<u32> = (0..n as u32).map(|i| (i * 7919 + 11) % n_vocab).collect();
            let (mut prompt, mut decode) = (Vec::new(), Vec::new());
            // The first round warms up shaders and caches.
            for round in 0..=ROUNDS {
                session.truncate(0);
                let mut answer = session.generate(&ids, SamplingOptions::default(), Some(DECODE)).await?;
                while answer.next().await?.is_some() {}
                let stats = answer.stats();
                if round > 0 {
                    prompt.push(n as f64 / stats.prompt_s);
                    decode.push(stats.n_answer.saturating_sub(1) as f64 / stats.answer_s);
                }
            }
            println!("prompt of {n:>4}  {}", spread(&mut prompt));
            println!("decode after  {}", spread(&mut decode));
        }
        Ok(())
    })
}

/// `median (minimum to maximum) tokens/s`
fn spread(rates: &mut [f64]) -> String {
    rates.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1} to {:.1}) tokens/s", rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
}
