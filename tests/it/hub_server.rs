//! A small server that plays the hub, with faults on request, and the program run against it.

use sha1::Digest;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does wrong with the n-th request for a file's bytes.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The same, without having said how long the body is.
    CutUnannounced(usize),
    /// A status with headers, instead of an answer.
    Status(u16, &'static str),
    /// No ranges: always the whole file.
    NoRange,
    /// Another range than the one asked for.
    WrongRange,
    /// Other bytes than the file's.
    Damage,
    /// More bytes than announced.
    TooMany,
}

#[derive(Debug, Default)]
pub struct Script {
    pub files: BTreeMap<String, Vec<u8>>,
    /// By the number of the request for bytes; those beyond are answered well.
    pub faults: Vec<Option<Fault>>,
    pub n_bodies: usize,
    /// Replaces the list of files, when set.
    pub listing: Option<String>,
    /// Replaces the headers that tell checksum and size, when set.
    pub about: Option<String>,
    /// An answer to every request for the list.
    pub refusal: Option<(u16, &'static str)>,
    pub requests: Vec<Request>,
    pub address: String,
}

#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET /path`
    pub line: String,
    pub range: Option<usize>,
    pub has_token: bool,
}

/// A hub with one repository, `tiny/model`, and a cache of its own.
pub struct Server {
    pub address: String,
    pub script: Arc<Mutex<Script>>,
    pub cache: PathBuf,
}

impl Server {
    pub fn new(label: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        let script = Arc::new(Mutex::new(Script { files, address: address.clone(), ..Script::default() }));
        let cache = std::env::temp_dir().join(format!("pocketlm-hub-{label}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&cache);
        let shared = script.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that leaves early is part of the game.
                let _ = serve(stream, &shared);
            }
        });
        Self { address, script, cache }
    }

    pub fn faults(&self, faults: &[Option<Fault>]) {
        let mut script = self.script.lock().expect("no panic");
        (script.faults, script.n_bodies) = (faults.to_vec(), 0);
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Script)) {
        edit(&mut self.script.lock().expect("no panic"));
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.script.lock().expect("no panic").requests)
    }

    pub fn pocketlm(&self, arguments: &[&str]) -> Output {
        pocketlm(arguments, &self.address, &self.cache)
    }

    pub fn pull(&self, arguments: &[&str]) -> Output {
        self.pocketlm(&[&["pull", "tiny/model"], arguments].concat())
    }

    pub fn repo(&self) -> PathBuf {
        self.cache.join("hub/models--tiny--model")
    }

    /// Files that the cache holds, by kind.
    pub fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.repo().join("blobs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.cache);
    }
}

pub fn pocketlm(arguments: &[&str], endpoint: &str, cache: &Path) -> Output {
    with_hub(Command::new(env!("CARGO_BIN_EXE_pocketlm")).env_remove("HF_HUB_OFFLINE").args(arguments), endpoint, cache)
}

/// Runs a command that sees this hub and this cache, and no proxy.
pub fn with_hub(command: &mut Command, endpoint: &str, cache: &Path) -> Output {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HF_HUB_CACHE"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", cache).env("HF_TOKEN", "hf_secret").output().expect("it starts")
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut request = Request::default();
    for (i, line) in BufReader::new(stream.try_clone()?).lines().enumerate() {
        let line = line?;
        let lower = line.to_ascii_lowercase();
        match i {
            0 => request.line = line.trim_end_matches(" HTTP/1.1").into(),
            _ if line.is_empty() => break,
            _ if lower.starts_with("authorization: bearer hf_secret") => request.has_token = true,
            _ => {
                let from = lower.strip_prefix("range: bytes=").map(|range| range.trim_end_matches('-').parse());
                request.range = from.and_then(Result::ok).or(request.range);
            }
        }
    }
    let answer = answer(&request, &mut script.lock().expect("no panic"));
    stream.write_all(&answer)
}

/// A whole answer as bytes on the wire; each connection carries one.
fn answer(request: &Request, script: &mut Script) -> Vec<u8> {
    script.requests.push(request.clone());
    let reply = |status: u16, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    };
    let (method, path) = request.line.split_once(' ').expect("a request line");
    if path.contains("old/name") {
        let to = path.replace("old/name", "tiny/model");
        return reply(307, &format!("location: {to}\r\ncontent-length: 0\r\n"), b"");
    }
    if path == "/api/models/tiny/model/revision/main" {
        if let Some((status, headers)) = script.refusal {
            return reply(status, &format!("{headers}content-length: 0\r\n"), b"");
        }
        let names: Vec<_> = script.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let listing = serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string();
        let listing = script.listing.clone().unwrap_or(listing);
        return reply(200, &format!("content-length: {}\r\n", listing.len()), listing.as_bytes());
    }
    let name = path.rsplit_once(COMMIT).or(path.split_once("/storage")).map_or("", |(_, name)| name);
    let name = name.trim_start_matches('/').replace("%20", " ");
    let Some(bytes) = script.files.get(&name).cloned() else {
        return reply(404, "x-error-message: Entry not found\r\ncontent-length: 0\r\n", b"");
    };
    // As on the hub, large files lie in a storage behind an address of its own, and small ones do not.
    let is_large = !name.ends_with(".json");
    if is_large && path.contains("/resolve/") {
        let about = script.about.clone().unwrap_or(about(&bytes, "x-linked-etag", "x-linked-size"));
        let storage = script.address.replace("127.0.0.1", "localhost");
        let to = format!("location: {storage}/storage/{}\r\n", name.replace(' ', "%20"));
        return reply(302, &format!("{about}{to}content-length: 0\r\n"), b"");
    }
    if method == "HEAD" {
        return reply(200, &script.about.clone().unwrap_or(about(&bytes, "etag", "content-length")), b"");
    }
    body(request.range, script, bytes, reply)
}

/// Headers that tell a file's checksum and size.
fn about(bytes: &[u8], etag: &str, size: &str) -> String {
    let hex = |sum: &[u8]| sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sum = match etag {
        "etag" => hex(&sha1::Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat())),
        _ => hex(&sha2::Sha256::digest(bytes)),
    };
    format!("{etag}: \"{sum}\"\r\n{size}: {}\r\n", bytes.len())
}

/// A file's bytes from an offset on, with the next fault of the script.
fn body(
    range: Option<usize>,
    script: &mut Script,
    mut bytes: Vec<u8>,
    reply: impl Fn(u16, &str, &[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let fault = script.faults.get(script.n_bodies).cloned().flatten();
    script.n_bodies += 1;
    let total = bytes.len();
    let from = range.filter(|_| !matches!(fault, Some(Fault::NoRange)));
    let first = from.unwrap_or(0);
    if first >= total {
        return reply(416, &format!("content-range: bytes */{total}\r\ncontent-length: 0\r\n"), b"");
    }
    let (status, range) = match from {
        None => (200, String::new()),
        Some(from) => {
            let told = from + usize::from(matches!(fault, Some(Fault::WrongRange)));
            (206, format!("content-range: bytes {told}-{}/{total}\r\n", total - 1))
        }
    };
    let length = format!("content-length: {}\r\n", total - first);
    match fault {
        Some(Fault::Cut(n)) => reply(status, &(range + &length), &bytes[first..total.min(first + n)]),
        Some(Fault::CutUnannounced(n)) => reply(status, &range, &bytes[first..total.min(first + n)]),
        Some(Fault::Status(status, headers)) => reply(status, &format!("{headers}content-length: 0\r\n"), b""),
        Some(Fault::TooMany) => reply(status, &range, &[&bytes[first..], b"more"].concat()),
        Some(Fault::Damage) => {
            bytes[total / 2] ^= 1;
            reply(status, &(range + &length), &bytes[first..])
        }
        Some(Fault::NoRange | Fault::WrongRange) | None => reply(status, &(range + &length), &bytes[first..]),
    }
}
