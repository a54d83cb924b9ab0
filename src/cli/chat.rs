//! `pocketlm chat`: a conversation that keeps its cache from turn to turn.

use super::{
    options::{ModelOptions, SamplingArguments},
    run::{experts, speeds},
};
use crate::{
    Error, SamplingOptions, Session, TextNeed,
    platform::PartialFile,
    session::{SavedSession, Stats, Stop, is_saved_session},
    text::Message,
};
use anyhow::{Context, bail};
use clap::Args;
use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::json;
use std::{
    io::Write,
    path::{Path, PathBuf},
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
    /// Go on with the conversation in this file, if it is there, and save to it when leaving
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
}

const HELP: &str = "/reset         forget the conversation
/save FILE     write the conversation and its cache, to go on with --session FILE
/export FILE   write the messages as JSON
/help          this
/quit          leave (also Ctrl-D)
Ctrl-C         stop the answer, or the processing of a long prompt";

impl Chat {
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        let sampling = self.sampling.checked();
        let mut chat = self.open()?;
        let mut editor = DefaultEditor::new()?;
        // After the editor, which takes the signal for itself when it is made.
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("listening for Ctrl-C")?;
        chat.session.stop_on(interrupted.clone());
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
            let (command, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            match (command, argument.trim()) {
                ("", _) => {}
                ("/quit" | "/exit", "") => break,
                ("/help", "") => eprintln!("{HELP}"),
                ("/reset", "") => {
                    chat.messages.retain(|message| message.role == "system");
                    chat.session.truncate(0);
                    eprintln!("the conversation is forgotten");
                }
                ("/save" | "/export", "") => eprintln!("{command} needs a file name"),
                ("/save", path) => tell(path, chat.save(Path::new(path))),
                ("/export", path) => tell(path, chat.export(Path::new(path))),
                (command, _) if command.starts_with('/') => eprintln!("unknown command {command}; /help lists them"),
                _ => {
                    interrupted.store(false, Ordering::Relaxed);
                    chat.turn(line, &sampling, &interrupted)?;
                }
            }
        }
        if let Some(path) = &self.session {
            chat.save(path)?;
            eprintln!("saved to {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Loads the model, and takes up the conversation of `--session`.
    fn open(&mut self) -> anyhow::Result<Conversation> {
        if let Some(folder) = self.session.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            bail!("--session: there is no folder {} to save to", folder.display());
        }
        let saved = match self.session.as_deref().filter(|path| path.exists()) {
            Some(path) => Some(pollster::block_on(SavedSession::open(path))?),
            None => None,
        };
        if let Some(saved) = &saved {
            // A wish that the file cannot meet is refused when it is restored.
            self.model.kv.get_or_insert(saved.cache());
        }
        let mut session = self.model.session(TextNeed::Template, false)?;
        let mut messages: Vec<Message> = self.system.iter().map(|text| Message::new("system", text)).collect();
        if let Some(saved) = saved {
            let n_reused = pollster::block_on(session.restore(&saved))?;
            messages = messages_of(saved.note()).context("the session file holds no conversation")?;
            if self.system.is_some() {
                eprintln!("warning: the conversation goes on with its own system message; --system is for new ones");
            }
            eprintln!("{} messages; {n_reused} of {} tokens in the cache", messages.len(), saved.n_tokens());
        }
        Ok(Conversation { session, messages })
    }
}

/// A session and the messages that led to it.
struct Conversation {
    session: Session,
    messages: Vec<Message>,
}

impl Conversation {
    /// One message and its answer.
    fn turn(&mut self, line: String, sampling: &SamplingOptions, interrupted: &AtomicBool) -> anyhow::Result<()> {
        self.messages.push(Message::new("user", line));
        match self.answer(sampling, interrupted) {
            Ok(text) => self.messages.push(Message::new("assistant", text)),
            Err(error) => {
                self.messages.pop();
                explain(error)?;
            }
        }
        Ok(())
    }

    /// Feeds what is new since the last turn and streams the answer.
    fn answer(&mut self, sampling: &SamplingOptions, interrupted: &AtomicBool) -> anyhow::Result<String> {
        let session = &mut self.session;
        let engine = session.engine();
        let ids = engine.tokenizer()?.encode_chat(engine.template()?, &self.messages, true)?;
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

    /// Saves to a file that is new or holds a saved session already: a slip of the fingers must not cost a model.
    fn save(&self, path: &Path) -> anyhow::Result<()> {
        if path.exists() && !is_saved_session(path).unwrap_or(false) {
            bail!("{} is there and no saved session: choose another name", path.display());
        }
        Ok(pollster::block_on(self.session.save(path, &json!({ "messages": messages_json(&self.messages) })))?)
    }

    fn export(&self, path: &Path) -> anyhow::Result<()> {
        if path.exists() {
            bail!("{} is there already: choose another name", path.display());
        }
        let mut file = PartialFile::create(path)?;
        writeln!(file, "{:#}", messages_json(&self.messages))?;
        Ok(file.finish(false)?)
    }
}

fn messages_json(messages: &[Message]) -> serde_json::Value {
    messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect()
}

fn messages_of(note: &serde_json::Value) -> Option<Vec<Message>> {
    let text = |message: &serde_json::Value, key| message.get(key)?.as_str().map(str::to_string);
    let message = |m: &serde_json::Value| Some(Message::new(text(m, "role")?, text(m, "content")?));
    note.get("messages")?.as_array()?.iter().map(message).collect()
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
        Error::Device { .. } => eprintln!("/save FILE keeps the conversation; then start again with --session FILE"),
        _ => told.hint().into_iter().for_each(|hint| eprintln!("hint: {hint}")),
    }
    Ok(())
}

fn tell(path: &str, written: anyhow::Result<()>) {
    match written {
        Ok(()) => eprintln!("saved to {path}"),
        Err(error) => eprintln!("error: {error:#}"),
    }
}
