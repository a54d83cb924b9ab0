//! JSON from the page to options of the library, and the library's errors to JavaScript's.

use js_sys::Reflect;
use pocketlm::{CacheFormat, EngineOptions, Error, SamplingOptions, SessionOptions, WeightFormat};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::prelude::*;

/// What a page's function gets: a value, or an `Error` with `code` and `hint`.
pub type Outcome<T> = Result<T, JsValue>;

/// How to load a model and open contexts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    pub adapter: Option<String>,
    weights: Option<String>,
    context: Option<usize>,
    kv: Option<String>,
    batch: Option<usize>,
}

impl Options {
    pub fn parse(text: &str) -> Outcome<Self> {
        parse("options", text)
    }

    pub fn weights(&self) -> Outcome<Option<WeightFormat>> {
        named("weights", self.weights.as_deref(), WeightFormat::from_name)
    }

    pub fn engine(&self) -> Outcome<EngineOptions> {
        Ok(EngineOptions {
            adapter: self.adapter.clone(),
            weights: self.weights()?,
            // A page that measured for seconds before its first word would seem slow, not fast.
            tune: Some(false),
            ..EngineOptions::default()
        })
    }

    pub fn session(&self) -> Outcome<SessionOptions> {
        let default = SessionOptions::default();
        Ok(SessionOptions {
            context: self.context,
            cache: named("kv", self.kv.as_deref(), CacheFormat::from_name)?.unwrap_or(default.cache),
            batch: self.batch.unwrap_or(default.batch),
            ..default
        })
    }
}

/// How to choose tokens, and how many.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sampling {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    seed: u64,
    pub max_tokens: Option<usize>,
    /// The ids are the whole context; else they follow what there is.
    pub whole: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        let SamplingOptions { temperature, top_k, top_p, min_p, repeat_penalty, seed, .. } = SamplingOptions::default();
        Self { temperature, top_k, top_p, min_p, repeat_penalty, seed, max_tokens: None, whole: false }
    }
}

impl From<Sampling> for SamplingOptions {
    fn from(from: Sampling) -> Self {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, seed, .. } = from;
        SamplingOptions { temperature, top_k, top_p, min_p, repeat_penalty, seed, ..SamplingOptions::default() }
    }
}

fn named<T>(what: &str, name: Option<&str>, find: impl Fn(&str) -> Option<T>) -> Outcome<Option<T>> {
    let Some(name) = name else { return Ok(None) };
    let unknown = || failed(Error::Invalid { what: format!("there is no format `{name}` for {what}") });
    find(name).map(Some).ok_or_else(unknown)
}

/// A value out of JSON.
pub fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Outcome<T> {
    serde_json::from_str(text).map_err(|e| failed(Error::Invalid { what: format!("the {what} cannot be read: {e}") }))
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// The library's error as one that JavaScript can throw.
pub fn failed(error: Error) -> JsValue {
    let mut message = error.to_string();
    if let Error::Io { source, .. } | Error::Write { source, .. } = &error {
        message = format!("{message}: {source}");
    }
    let thrown = js_sys::Error::new(&message);
    let code = match &error {
        Error::Io { .. } | Error::Write { .. } => "io",
        Error::Interrupted { .. } => "aborted",
        Error::Corrupt { .. } | Error::MissingTensor { .. } | Error::Shape { .. } | Error::Config { .. } => "corrupt",
        Error::Unsupported { .. } => "unsupported",
        Error::NoAdapter { .. } => "no-adapter",
        Error::TooLarge { .. } | Error::OutOfMemory { .. } => "too-large",
        Error::Device { .. } => "device",
        Error::ContextFull { .. } => "context-full",
        _ => "invalid",
    };
    let hint = match &error {
        Error::NoAdapter { available, .. } if available.is_empty() => {
            "this browser offers no WebGPU here: a newer one may, and so may its settings for graphics".to_string()
        }
        _ => page_words(&error.hint().unwrap_or_default()),
    };
    let mut fields: Vec<(&str, JsValue)> = vec![("code", code.into()), ("hint", hint.into())];
    if let Error::TooLarge { fits: Some(n), .. } = &error {
        fields.push(("fits", (*n as f64).into()));
    }
    for (key, value) in fields {
        let _ = Reflect::set(&thrown, &key.into(), &value);
    }
    thrown.into()
}

/// Hints name the command line's options; a page has others.
fn page_words(hint: &str) -> String {
    [("--ctx", "`context`"), ("--weights", "`weights`"), ("--kv", "`kv`"), ("--adapter", "`adapter`")]
        .into_iter()
        .fold(hint.to_string(), |hint, (option, word)| hint.replace(option, word))
        .replace("`pocketlm doctor`", "the doctor page")
}
