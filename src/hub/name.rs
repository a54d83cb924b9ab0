//! What people call a repository of the hub, and which names from the network may become paths here.

use crate::error::{Error, Result};
use std::path::{Component, Path};

/// A repository and what of it is wanted, written `OWNER/REPO[@REVISION][:FILE]`, with or without `hf:` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `OWNER/REPO`
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A file's name or a pattern with `*` and `?`.
    pub file: Option<String>,
}

impl Name {
    /// Reads a name.
    ///
    /// Errors: [`Error::Hub`] for one that no repository can have.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("hf:").unwrap_or(text);
        let (rest, file) = rest.split_once(':').map_or((rest, None), |(rest, file)| (rest, Some(file.to_string())));
        let (repo, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let plain = |part: &str, more: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with(['.', '/']) && !part.contains("..")
        };
        let is_repo = repo.split_once('/').is_some_and(|(owner, name)| plain(owner, "-_.") && plain(name, "-_."));
        if !is_repo || !plain(revision, "-_./") || file.as_deref() == Some("") {
            return Err(Error::Hub {
                what: format!("`{text}` names no repository"),
                hint: "write OWNER/REPO, as in `ggml-org/models`; `@REVISION` and `:FILE` may follow".into(),
            });
        }
        Ok(Self { repo: repo.into(), revision: revision.into(), file })
    }
}

/// Whether a file's name from the hub stays inside the folder that it is appended to, on every system, and can be
/// shown on a terminal.
pub(super) fn is_safe_path(name: &str) -> bool {
    let clean = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    // `components` forgives doubled and trailing slashes, which the hub never has.
    inside && name.chars().all(clean) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a commit or an etag may become the name of a file.
pub(super) fn is_safe_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A text from the network, fit to be shown on a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
