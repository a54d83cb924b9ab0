//! The cache on disk that all of the hub's tools share: `blobs` by checksum, `snapshots` of commits that link to them,
//! `refs` from branches to commits.

use super::{Choice, INDEX, Name, choose::choose, name::is_safe_id};
use crate::{
    error::{Error, Result},
    platform,
};
use hf_hub::{Cache, Repo, RepoType};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders below a snapshot are followed this deep.
const MAX_DEPTH: usize = 4;
/// An index of shards larger than this is no index.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The cache, and the token of a login. The cache is in `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`.
pub(super) fn open() -> Result<(Cache, Option<String>)> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = match (set("HF_HOME"), set("XDG_CACHE_HOME"), std::env::home_dir()) {
        (Some(home), _, _) => home,
        (None, Some(caches), _) => caches.join("huggingface"),
        (None, None, Some(home)) => home.join(".cache/huggingface"),
        (None, None, None) => {
            return Err(Error::Hub {
                what: "there is no home folder for the cache".into(),
                hint: "set HF_HOME to a folder that you may write to".into(),
            });
        }
    };
    let cache = Cache::new(home.join("hub"));
    // The token lies beside the cache's usual place, wherever the cache itself is.
    let token = cache.token();
    Ok((set("HF_HUB_CACHE").map_or(cache, Cache::new), token))
}

/// One repository in the cache.
#[derive(Debug)]
pub(super) struct CachedRepo {
    cache: Cache,
    repo: Repo,
}

impl CachedRepo {
    pub(super) fn new(cache: &Cache, name: &Name) -> Self {
        let repo = Repo::with_revision(name.repo.clone(), RepoType::Model, name.revision.clone());
        Self { cache: cache.clone(), repo }
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    /// Where the content with this etag is, or will be.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// The lock that the hub's own tools take while they fetch a blob.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.cache.path().join(".locks").join(self.repo.folder_name()).join(format!("{etag}.lock"))
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// Lets the revision mean this commit from now on.
    pub(super) fn set_ref(&self, commit: &str) -> Result<()> {
        if self.repo.revision() == commit {
            return Ok(());
        }
        let written = self.cache.repo(self.repo.clone()).create_ref(commit);
        written.map_err(|error| cannot_write(&self.folder(), &error))
    }

    /// The commit that the revision meant when it was last fetched.
    fn commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        let text = fs::read_to_string(self.folder().join("refs").join(revision)).ok();
        let commit = text.map_or_else(|| revision.to_string(), |text| text.trim().to_string());
        is_safe_id(&commit).then_some(commit)
    }

    /// The model's path if the cache holds all of it.
    pub(super) fn model(&self, name: &Name) -> Option<PathBuf> {
        let snapshot = self.snapshot(&self.commit()?);
        let mut files = Vec::new();
        list(&snapshot, "", MAX_DEPTH, &mut files);
        let choice = choose(&files, name.file.as_deref()).ok()?;
        if choice.is_folder && !is_whole(&snapshot, &choice) {
            return None;
        }
        path_of(&snapshot, &choice)
    }

    /// Links a blob into a commit's snapshot under the file's name.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf> {
        let (blob, link) = (self.blob(etag), self.snapshot(commit).join(file));
        let linked = || {
            fs::create_dir_all(link.parent().unwrap_or(&link))?;
            // What is there may point to a blob that somebody removed.
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // snapshots/COMMIT/FILE: two folders up, and one more for each folder in the file's own name.
            let up = "../".repeat(2 + file.matches('/').count());
            // Windows lets only some users make symbolic links. Each of the three leaves the whole file or none.
            platform::symlink(&Path::new(&up).join("blobs").join(etag), &link)
                .or_else(|_| fs::hard_link(&blob, &link))
                .or_else(|_| fs::rename(&blob, &link))
        };
        linked().map_err(|error| cannot_write(&link, &error))?;
        Ok(link)
    }
}

/// The path to give as MODEL: the one file, or the folder.
pub(super) fn path_of(snapshot: &Path, choice: &Choice) -> Option<PathBuf> {
    match choice.files.as_slice() {
        _ if choice.is_folder => Some(snapshot.into()),
        [file] => Some(snapshot.join(file)),
        _ => None,
    }
}

/// Whether the weights that a folder's index asks for are all there.
fn is_whole(snapshot: &Path, choice: &Choice) -> bool {
    let has = |file: &str| choice.files.iter().any(|there| there == file);
    if !has(INDEX) {
        return !choice.files.iter().any(|file| file.contains("-of-"));
    }
    let index = snapshot.join(INDEX);
    if !fs::metadata(&index).is_ok_and(|about| about.len() <= MAX_INDEX_BYTES) {
        return false;
    }
    let Ok(text) = fs::read(&index) else { return false };
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let shards = json.get("weight_map").and_then(|map| map.as_object());
    shards.is_some_and(|map| map.values().all(|shard| shard.as_str().is_some_and(has)))
}

/// Files below a folder, by their names relative to it. Links without a target are not there.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        if path.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth > 0 {
            list(&path, &format!("{prefix}{name}/"), depth - 1, files);
        }
    }
    files.sort();
}

/// A write that the system refused.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::Hub {
        what: format!("cannot write {}: {error}", path.display()),
        hint: "free some space, or set HF_HOME to a folder with more; what is fetched stays, and the next try goes on \
               from there"
            .into(),
    }
}
