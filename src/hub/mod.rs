//! Models from the Hugging Face hub, or whatever `HF_ENDPOINT` names: which files of a repository are wanted, fetched
//! into the cache that other tools share. `hf-hub` knows the cache; its own transfers are not used, since they
//! take an answer that ends early for a whole one, compare no checksum, and trust the names that a server sends.

mod cache;
mod choose;
mod half;
mod name;
mod transfer;

pub use choose::{Choice, choose};
pub use name::Name;

use crate::error::{Error, Result};
use cache::CachedRepo;
use serde::Deserialize;
use std::path::PathBuf;
use transfer::Client;

/// Lists a folder's shards.
const INDEX: &str = "model.safetensors.index.json";

/// The hub and its cache on this machine.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache: hf_hub::Cache,
}

/// What a repository holds at one commit.
#[derive(Debug, Clone)]
pub struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    pub file: &'a str,
    pub done: u64,
    pub total: u64,
}

/// The hub's answer about a revision, as far as it matters here.
#[derive(Debug, Deserialize)]
struct RepoInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HTTPS_PROXY`.
    ///
    /// Errors: [`Error::Hub`] for an endpoint that is no address, and without any folder for the cache.
    pub fn from_env() -> Result<Self> {
        let (cache, token) = cache::open()?;
        Ok(Self { client: Client::from_env(token)?, cache })
    }

    /// The model's path, if all of it is in the cache. Asks no network.
    pub fn cached(&self, name: &Name) -> Option<PathBuf> {
        CachedRepo::new(&self.cache, name).model(name)
    }

    /// Asks which files the repository holds.
    ///
    /// Errors: [`Error::Hub`] when the hub cannot be reached, refuses, or answers with names that lead out of a folder.
    pub fn list(&self, name: &Name) -> Result<Listing> {
        let info: RepoInfo = self.client.info(name)?;
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let unsafe_file = files.iter().find(|file| !name::is_safe_path(file));
        if unsafe_file.is_some() || !name::is_safe_id(&info.sha) {
            return Err(Error::Hub {
                what: match unsafe_file {
                    Some(file) => format!("{} lists a file that leaves its folder: `{}`", name.repo, name::shown(file)),
                    None => format!("{} is at a commit that is none: `{}`", name.repo, name::shown(&info.sha)),
                },
                hint: "no honest hub sends that; do not use this address (HF_ENDPOINT)".into(),
            });
        }
        Ok(Listing { commit: info.sha, files })
    }

    /// Fetches the chosen files that the cache lacks; returns their paths, or the one path of a folder.
    ///
    /// Errors: [`Error::Hub`]. What has been fetched stays, and the next call goes on from there.
    pub fn pull(
        &self,
        name: &Name,
        listing: &Listing,
        choice: &Choice,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Vec<PathBuf>> {
        let repo = CachedRepo::new(&self.cache, name);
        let snapshot = repo.snapshot(&listing.commit);
        for file in &choice.files {
            // A link without its blob does not count as a file.
            if !snapshot.join(file).is_file() {
                self.client.fetch(&repo, name, &listing.commit, file, &mut progress)?;
            }
        }
        // The branch moves to this commit only now, so that what it meant before stays whole until then.
        repo.set_ref(&listing.commit)?;
        Ok(match cache::path_of(&snapshot, choice) {
            Some(path) => vec![path],
            None => choice.files.iter().map(|file| snapshot.join(file)).collect(),
        })
    }
}
