//! `pocketlm chat`: a conversation that keeps its cache from turn to turn.

use super::{
    options::{ModelOptions, SamplingArguments},
    run::{experts, speeds},
};
use crate::{
    Error, SamplingOptions, Session, TextNeed,
    session::{Stats, Stop},
    text::Message,
};
use anyhow::Context;
use clap::Args;
use rustyline::{DefaultEditor, error::ReadlineError};
use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[derive(Debug, Args)]
pub struct Chat {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

const HELP: &str = "/reset         forget the conversation
/save FILE     write the conversation as JSON
/help          this
/quit          leave (also Ctrl-D)
Ctrl-C         stop the answer";

impl Chat {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let sampling = self.sampling.checked();
        let mut session = self.model.session(TextNeed::Template, false)?;
        let system: Vec<Message> = self.system.iter().map(|text| Message::new("system", text)).collect();
        let mut messages = system.clone();
        let mut editor = DefaultEditor::new()?;
        // After the editor, which takes the signal for itself when it is made.
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("listening for Ctrl-C")?;
        eprintln!("/help lists commands");
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(ReadlineError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
                    eprintln!("that line was not UTF-8");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let _ = editor.add_history_entry(&line);
            match line.trim() {
                "" => {}
                "/quit" | "/exit" => break,
                "/help" => eprintln!("{HELP}"),
                "/reset" => {
                    messages = system.clone();
                    session.truncate(0);
                    eprintln!("the conversation is forgotten");
                }
                "/save" => eprintln!("/save needs a file name"),
                command if command.starts_with("/save ") => save(command[6..].trim(), &messages),
                command if command.starts_with('/') => eprintln!("unknown command {command}; /help lists them"),
                _ => {
                    messages.push(Message::new("user", line));
                    interrupted.store(false, Ordering::Relaxed);
                    match self.answer(&mut session, &messages, &sampling, &interrupted) {
                        Ok(text) => messages.push(Message::new("assistant", text)),
                        Err(error) => {
                            messages.pop();
                            explain(error)?;
                        }
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Feeds what is new since the last turn and streams the answer.
    fn answer(
        &self,
        session: &mut Session,
        messages: &[Message],
        sampling: &SamplingOptions,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<String> {
        let ids = {
            let engine = session.engine();
            engine.tokenizer()?.encode_chat(engine.template()?, messages, true)?
        };
        if ids.len() > session.context() {
            return Err(Error::ContextFull { n_tokens: ids.len(), context: session.context() }.into());
        }
        let mut text = String::new();
        let (stats, stop) = pollster::block_on(async {
            let mut answer = session.answer(&ids, sampling.clone(), None).await?;
            let mut stop = None;
            while let Some(piece) = answer.next().await? {
                print_piece(&mut text, &piece.text)?;
                if interrupted.load(Ordering::Relaxed) {
                    stop = Some("stopped");
                    break;
                }
            }
            let rest = answer.finish_text();
            print_piece(&mut text, &rest)?;
            if answer.stop() == Some(Stop::ContextFull) {
                stop = Some(
                    "the context is full: /save keeps the conversation, /reset begins anew, --ctx sets a larger one",
                );
            }
            anyhow::Ok::<(Stats, Option<&str>)>((answer.stats(), stop))
        })?;
        writeln!(std::io::stdout().lock())?;
        if let Some(stop) = stop {
            eprintln!("({stop})");
        }
        if let Some(told) = experts(&session.engine().expert_stats()) {
            eprintln!("({told})");
        }
        eprintln!("({}; context {} of {})\n", speeds(&stats), session.tokens().len(), session.context());
        Ok(text)
    }
}

fn print_piece(text: &mut String, piece: &str) -> std::io::Result<()> {
    text.push_str(piece);
    let mut out = std::io::stdout().lock();
    out.write_all(piece.as_bytes())?;
    out.flush()
}

/// A message that does not fit, or that the template refuses, ends the turn and not the program.
fn explain(error: anyhow::Error) -> anyhow::Result<()> {
    let Some(told) = error.downcast_ref::<Error>() else { return Err(error) };
    eprintln!("error: {told}");
    match told {
        Error::ContextFull { .. } => {
            eprintln!("/save FILE keeps the conversation, /reset begins anew, a shorter message may fit");
        }
        Error::Device { .. } => eprintln!("/save FILE keeps the conversation; then start again"),
        _ => told.hint().into_iter().for_each(|hint| eprintln!("hint: {hint}")),
    }
    Ok(())
}

fn save(path: &str, messages: &[Message]) {
    let list: Vec<_> = messages.iter().map(|m| serde_json::json!({ "role": m.role, "content": m.content })).collect();
    let json = serde_json::Value::Array(list);
    match write_whole(Path::new(path), format!("{json:#}\n").as_bytes()) {
        Ok(()) => eprintln!("saved to {path}"),
        Err(error) => eprintln!("cannot write {path}: {error}"),
    }
}

/// Writes beside the file first, so that a failure leaves no half of it under its name.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, path)
}
