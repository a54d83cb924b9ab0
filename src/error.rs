//! The one error type of the library: what happened, where, and (through [`Error::hint`]) what to try next.

use std::{io::ErrorKind, path::PathBuf};

/// Everything that can go wrong with files, users' input and devices. Mistakes of our own are asserts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a read.
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    /// The operating system refused a write; what was to be replaced or made is as it was.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },

    /// The user stopped it; nothing half done is left behind.
    #[error("interrupted: {what}")]
    Interrupted { what: String },

    /// A file breaks its own format: truncated, overflowing, contradictory.
    #[error("{file} is damaged or not what it claims to be: {what}")]
    Corrupt { file: String, what: String },

    /// A file of tuning or of results that is none, or that is of no use on this device.
    #[error("{file} cannot be used: {what}")]
    Foreign { file: String, what: String, hint: &'static str },

    /// The file is well formed, but holds something this version cannot run.
    #[error("{what} is not supported")]
    Unsupported { what: String, supported: String },

    /// A tensor that the architecture needs is absent.
    #[error("tensor `{name}` is missing from the model")]
    MissingTensor { name: String },

    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },

    /// The configuration lacks a value or contradicts itself.
    #[error("model configuration: {what}")]
    Config { what: String },

    /// Text was asked for, but there is no (usable) tokenizer or chat template.
    #[error("{what}")]
    Text { what: String, hint: &'static str },

    /// No adapter at all, or none that matches what was asked for.
    #[error("{what}")]
    NoAdapter { what: String, available: Vec<String> },

    /// The device cannot hold what is asked of it; `fits` is the longest context that it could hold, where it is the
    /// context that is too long.
    #[error("the device cannot hold {what}: {needed} bytes needed, {limit} bytes possible")]
    TooLarge { what: String, needed: u64, limit: u64, hint: String, fits: Option<usize> },

    /// The device has no more memory.
    #[error("the device ran out of memory while {doing}")]
    OutOfMemory { doing: String, hint: String },

    /// The device was lost, or refused a command.
    #[error("the device failed while {doing}: {what}")]
    Device { doing: String, what: String },

    /// The prompt and what was asked for do not fit the context.
    #[error("{n_tokens} tokens do not fit a context of {context}")]
    ContextFull { n_tokens: usize, context: usize },

    /// A session file that cannot be taken up again, or not with this model and cache.
    #[error("cannot go on with the session {file}: {what}")]
    SavedSession { file: String, what: String },

    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {n_vocab}")]
    TokenOutOfRange { id: u32, n_vocab: usize },

    /// The model hub could not be reached, refused, or sent something else than it announced.
    #[error("{what}")]
    Hub { what: String, hint: String },

    /// An argument that no model could satisfy.
    #[error("{what}")]
    Invalid { what: String },
}

/// A [`std::result::Result`] with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The next thing to try, as one sentence; `None` where the message says it all.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Io { .. } => "check the path and that you may read it".into(),
            Error::Write { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    "nothing half-written was left behind; free some space or choose another place".into()
                }
                ErrorKind::AlreadyExists => "choose another name, or --force to replace it".into(),
                _ => "check that the folder exists and that you may write to it".into(),
            },
            Error::Corrupt { .. } => {
                "download the file again and compare its size and SHA-256 with the publisher's".into()
            }
            Error::Unsupported { supported, .. } => format!("supported: {supported}"),
            Error::MissingTensor { .. } | Error::Shape { .. } => {
                "the file may be incomplete or of another architecture; `pocketlm inspect` lists what it holds".into()
            }
            Error::Config { .. } => "compare the file with the one its publisher offers".into(),
            Error::Text { hint, .. } | Error::Foreign { hint, .. } => (*hint).into(),
            Error::NoAdapter { available, .. } if available.is_empty() => {
                "install a Vulkan driver; Mesa's software one works everywhere: apt install mesa-vulkan-drivers".into()
            }
            Error::NoAdapter { available, .. } => format!("available: {}", available.join(", ")),
            Error::TooLarge { hint, .. } | Error::OutOfMemory { hint, .. } | Error::Hub { hint, .. } => hint.clone(),
            Error::Device { .. } => {
                "run `pocketlm doctor` to test the driver; a smaller --ctx or another --adapter may help".into()
            }
            Error::SavedSession { .. } => {
                "give the model and --kv that it was made with, or begin a new one under another name".into()
            }
            Error::ContextFull { .. } => "shorten the prompt or raise --ctx".into(),
            Error::TokenOutOfRange { .. } | Error::Invalid { .. } | Error::Interrupted { .. } => return None,
        })
    }

    /// A [`Error::Corrupt`] for `file`.
    pub(crate) fn corrupt(file: &str, what: impl Into<String>) -> Self {
        Error::Corrupt { file: file.into(), what: what.into() }
    }

    /// A [`Error::Config`].
    pub(crate) fn config(what: impl Into<String>) -> Self {
        Error::Config { what: what.into() }
    }
}
