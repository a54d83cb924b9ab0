//! Answers a prompt: `cargo run --release --example generate -- MODEL "Why is the sky blue?"`.

use pocketlm::{Engine, EngineOptions, SamplingOptions, Session, SessionOptions, text::Message};
use std::{env, io::Write, path::Path, sync::Arc};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(model), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate MODEL PROMPT".into());
    };
    // Whatever touches the device is async, since in a browser it has to be; natively, one `block_on` at the edge.
    pollster::block_on(async {
        // The engine is the model on a device. Sessions share it, so it sits in an `Arc`; the closure hears of progress.
        let engine = Arc::new(Engine::open(Path::new(&model), &EngineOptions::default(), |_, _| ()).await?);
        // The model's own template turns messages into the tokens that it was trained on.
        let messages = [Message::new("user", prompt)];
        let prompt_ids = engine.tokenizer()?.encode_chat(engine.template()?, &messages, true)?;
        // The session is a context: its keys and values. A second `generate` would continue the conversation.
        let mut session = Session::new(engine, &SessionOptions::default()).await?;
        // The default takes the most probable token each time; `temperature` and its neighbours make it draw.
        let mut answer = session.generate(&prompt_ids, SamplingOptions::default(), Some(128)).await?;
        while let Some(piece) = answer.next().await? {
            // A piece is empty while a character is incomplete.
            print!("{}", piece.text);
            std::io::stdout().flush()?;
        }
        println!("{}", answer.finish_text());
        Ok(())
    })
}
