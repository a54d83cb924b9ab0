//! Talking to the hub: what a file is, and its bytes, resumed where they were cut and checked before they count.

use super::{
    Name, Progress, RepoInfo,
    cache::{CachedRepo, cannot_write},
    half::{Half, PIECE_BYTES},
    name::{is_safe_id, shown},
};
use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{Agent, Body, config::RedirectAuthHeaders, http::Response};

/// An answer about a repository is never longer; the largest repositories list some ten thousand files.
const MAX_INFO_BYTES: u64 = 64 << 20;
/// Tries without a single new byte before a download gives up.
const MAX_FRUITLESS: u32 = 4;
const MAX_REDIRECTS: usize = 5;

/// The HTTP side of the hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

/// What the hub says of a file before it is fetched.
#[derive(Debug)]
struct About {
    /// SHA-256 of a large file, git's SHA-1 of a small one.
    etag: String,
    n_bytes: u64,
}

/// What ends one request for a file's bytes.
enum Cut {
    /// The connection; another request may go on.
    Connection(String),
    Final(Error),
}

impl Client {
    pub(super) fn from_env(token_of_login: Option<String>) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or("https://huggingface.co".into()).trim_end_matches('/').to_string();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::Hub {
                what: format!("HF_ENDPOINT is `{endpoint}`, which is no address"),
                hint: "it begins with https://".into(),
            });
        }
        let config = Agent::config_builder()
            .user_agent(concat!("pocketlm/", env!("CARGO_PKG_VERSION")))
            // Sizes and ranges are those of the file, not of a compressed form of it.
            .accept_encoding("identity")
            .http_status_as_error(false)
            // A renamed repository redirects within the hub; the storage elsewhere never sees the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build();
        let offline = set("HF_HUB_OFFLINE").is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "FALSE"));
        let token = set("HF_TOKEN").or(token_of_login).map(|token| token.trim().to_string());
        Ok(Self { agent: config.into(), endpoint, token, offline })
    }

    /// The files and the commit of a revision.
    pub(super) fn info(&self, name: &Name) -> Result<RepoInfo> {
        if self.offline {
            return Err(Error::Hub {
                what: format!("{} is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub", name.repo),
                hint: "unset HF_HUB_OFFLINE, or give the path of a local copy as MODEL".into(),
            });
        }
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, name.repo, encoded(&name.revision, false));
        let mut response = self.expect_success(name, self.get(&url, None, name)?, None)?;
        let text = response.body_mut().with_config().limit(MAX_INFO_BYTES).read_to_vec();
        let text = text.map_err(|error| self.unreachable(name, &error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| Error::Hub {
            what: format!(
                "{} answers about {} with something else than a list of files: {error}",
                self.host(),
                name.repo
            ),
            hint: "HF_ENDPOINT or a proxy may lead to something that is no model hub".into(),
        })
    }

    /// Brings one file into the cache.
    pub(super) fn fetch(
        &self,
        repo: &CachedRepo,
        name: &Name,
        commit: &str,
        file: &str,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, name.repo, encoded(file, true));
        let about = self.about(name, &url, file)?;
        let blob = repo.blob(&about.etag);
        let _lock = lock(&repo.lock(&about.etag), file)?;
        if !fs::metadata(&blob).is_ok_and(|there| there.is_file() && there.len() == about.n_bytes) {
            let mut half = Half::open(&blob, &about.etag, about.n_bytes)?;
            self.fill(name, &url, file, &mut half, progress)?;
            half.finish(file, &blob)?;
        }
        repo.link(&about.etag, commit, file)
    }

    /// Asks for a file's checksum and size, which the hub sends with its own answer and not with that of the storage
    /// that it redirects to.
    fn about(&self, name: &Name, url: &str, file: &str) -> Result<About> {
        let mut url = url.to_string();
        for _ in 0..=MAX_REDIRECTS {
            let request = self.agent.head(&url).config().max_redirects(0).build();
            let response = self.authorised(request).call().map_err(|e| self.unreachable(name, &e.to_string()))?;
            let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
            let location = header("location").filter(|_| response.status().is_redirection());
            if let Some(path) = location.filter(|to| to.starts_with('/') && !to.starts_with("//")) {
                // A repository that was renamed: the same hub answers under another path.
                url = format!("{}{path}", origin(&self.endpoint));
                continue;
            }
            if location.is_none() && !response.status().is_success() {
                return Err(self.refusal(name, &response, Some(file)));
            }
            let etag = header("x-linked-etag").or(header("etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_string();
            let n_bytes = header("x-linked-size").or(header("content-length")).and_then(|size| size.parse().ok());
            return match n_bytes {
                Some(n_bytes) if is_safe_id(&etag) => Ok(About { etag, n_bytes }),
                _ => Err(Error::Hub {
                    what: format!("{} tells neither checksum nor size of {file}", self.host()),
                    hint: "HF_ENDPOINT or a proxy may lead to something that is no model hub".into(),
                }),
            };
        }
        Err(Error::Hub { what: format!("{} sends {file} in circles", self.host()), hint: "try again later".into() })
    }

    /// Requests bytes until the file is whole, going on after each cut as long as something arrives.
    fn fill(
        &self,
        name: &Name,
        url: &str,
        file: &str,
        half: &mut Half,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<()> {
        let mut fruitless = 0;
        while half.done < half.total {
            let before = half.done;
            let mut report = |done, total| progress(Progress { file, done, total });
            match self.pour(name, url, file, half, &mut report) {
                Ok(()) => {}
                Err(Cut::Final(error)) => return Err(error),
                Err(Cut::Connection(why)) => {
                    fruitless = if half.done > before { 0 } else { fruitless + 1 };
                    if fruitless == MAX_FRUITLESS {
                        let mut error = self.unreachable(name, &why);
                        if let (true, Error::Hub { hint, .. }) = (half.done > 0, &mut error) {
                            *hint = format!(
                                "{} of {} bytes of {file} are kept; the same command goes on from there",
                                half.done, half.total
                            );
                        }
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(250 << fruitless));
                }
            }
        }
        Ok(())
    }

    /// One request for what is missing.
    fn pour(
        &self,
        name: &Name,
        url: &str,
        file: &str,
        half: &mut Half,
        report: &mut impl FnMut(u64, u64),
    ) -> Result<(), Cut> {
        let response = self.get(url, (half.done > 0).then_some(half.done), name);
        let response = response.map_err(|error| match half.done {
            0 => Cut::Final(error),
            _ => Cut::Connection(error.to_string()),
        })?;
        let response = self.expect_success(name, response, Some(file)).map_err(Cut::Final)?;
        let expected = format!("bytes {}-{}/{}", half.done, half.total - 1, half.total);
        let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
        match response.status().as_u16() {
            206 if half.done > 0 && range == Some(&expected) => {}
            206 => {
                return Err(Cut::Final(half.refuse(
                    file,
                    &format!("the range `{}` instead of `{expected}`", shown(range.unwrap_or_default())),
                )));
            }
            // A server without ranges begins again, and so do we.
            _ => half.restart().map_err(Cut::Final)?,
        }
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            report(half.done, half.total);
            match body.read(&mut piece) {
                Ok(0) if half.done < half.total => return Err(Cut::Connection("the connection closed early".into())),
                Ok(0) => return Ok(()),
                Ok(n) if n as u64 > half.total - half.done => {
                    return Err(Cut::Final(
                        half.refuse(file, &format!("more than the announced {} bytes", half.total)),
                    ));
                }
                Ok(n) => half.append(&piece[..n]).map_err(Cut::Final)?,
                Err(error) => return Err(Cut::Connection(error.to_string())),
            }
        }
    }

    /// A GET, from byte `from` on, whose redirects are followed without the token.
    fn get(&self, url: &str, from: Option<u64>, name: &Name) -> Result<Response<Body>> {
        let mut request = self.authorised(self.agent.get(url));
        if let Some(from) = from {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| self.unreachable(name, &error.to_string()))
    }

    fn authorised<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn expect_success(&self, name: &Name, response: Response<Body>, file: Option<&str>) -> Result<Response<Body>> {
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(name, &response, file)),
        }
    }

    /// Why the hub gives nothing.
    fn refusal(&self, name: &Name, response: &Response<Body>, file: Option<&str>) -> Error {
        let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok()).map(shown);
        let status = response.status().as_u16();
        let asked = file.map_or(name.repo.clone(), |file| format!("{file} of {}", name.repo));
        let said = header("x-error-message").map(|said| format!(": {said}")).unwrap_or_default();
        let page = format!("{}/{}", self.endpoint, name.repo);
        let has_token = if self.token.is_some() { "has no access" } else { "is not set" };
        let hint = match status {
            401 | 403 => format!(
                "the name may be misspelt, or the model may ask you to accept terms: do so on {page}, then set HF_TOKEN to a token of your account (it {has_token})"
            ),
            404 => format!("compare the name and the revision with {page}"),
            _ => "try again later; what is fetched stays".into(),
        };
        let refuses = match status {
            401 | 403 => "refuses",
            404 => "does not have",
            _ => "fails to give",
        };
        Error::Hub { what: format!("{} {refuses} {asked} (HTTP status {status}){said}", self.host()), hint }
    }

    /// No answer at all.
    fn unreachable(&self, name: &Name, why: &str) -> Error {
        Error::Hub {
            what: format!("cannot reach {}: {}", self.host(), shown(why)),
            hint: format!(
                "`pocketlm pull {}` needs the internet (HTTPS_PROXY and HF_ENDPOINT are honoured); without it, run that on another machine, copy what it prints with `cp -rL`, and give the copy's path as MODEL",
                name.repo
            ),
        }
    }

    fn host(&self) -> &str {
        self.endpoint.split("://").nth(1).unwrap_or(&self.endpoint)
    }
}

/// Waits until no other program fetches this blob.
fn lock(path: &Path, file: &str) -> Result<File> {
    let locked = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if lock.try_lock().is_err() {
            tracing::warn!("another program is fetching {file}; waiting for it");
            lock.lock()?;
        }
        Ok(lock)
    };
    locked().map_err(|error| cannot_write(path, &error))
}

/// `https://host:port` of an address.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |at| at + 3);
    address[host..].find('/').map_or(address, |end| &address[..host + end])
}

/// A path as it stands in an address; slashes stay if they separate folders.
fn encoded(path: &str, keeps_slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keeps_slashes && byte == b'/');
    path.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
