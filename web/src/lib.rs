//! pocketlm for a web worker: the library's engine, sessions and doctor, with JSON and JavaScript's objects at the edge.
//! The worker calls one at a time, since a device counts its error scopes.
#![cfg(target_arch = "wasm32")]

mod convert;
mod digest;
mod instrument;

use convert::{Options, Outcome, Sampling, failed, json};
use js_sys::Function;
use pocketlm::{
    Engine, EngineOptions, Error, Session,
    backend::{Gpu, gpu::adapters as list_adapters},
    doctor::{examine, report},
    format::{ByteSource, Gguf},
    model::{ModelFile, shapes},
    platform::{PageFile, PageSink, PlatformFile},
    session::{SavedSession, Stats},
    text::Message,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = "
export interface PageFile { readonly size: number; read(offset: number, nBytes: number): Promise<Uint8Array>; }
export interface PageSink { write(bytes: Uint8Array): void; }
";

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Says what our own mistakes were before they end the worker.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

/// The adapters that the page gets, as `pocketlm devices --json` lists them.
#[wasm_bindgen]
pub async fn adapters() -> String {
    json(&list_adapters().await)
}

/// Names of the shapes that synthetic models can have.
#[wasm_bindgen(js_name = shapeNames)]
pub fn shape_names() -> Vec<String> {
    shapes::names().map(str::to_string).collect()
}

/// Runs every check on the adapter; `show` gets each row as JSON and returns true to end. The report is the command
/// line's.
#[wasm_bindgen]
pub async fn doctor(adapter: Option<String>, show: &Function) -> Outcome<String> {
    let gpu = Gpu::open(adapter.as_deref()).await.map_err(failed)?;
    let go_on = |row: &_| !show.call1(&JsValue::NULL, &json(row).into()).is_ok_and(|stop| stop.is_truthy());
    let rows = examine(&gpu, go_on).await;
    let report = json(&report(&gpu, &rows));
    gpu.destroy();
    Ok(report)
}

/// A file as far as its description goes, or a shape by its name.
async fn model_file(name: &str, file: Option<PageFile>, options: &Options) -> Outcome<ModelFile> {
    let Some(file) = file else {
        let format = options.weights()?.unwrap_or(pocketlm::WeightFormat::Q4_0);
        return ModelFile::from_shape(name, format, 1).map_err(failed);
    };
    let source = Arc::new(ByteSource::file(name, PlatformFile::from(file)));
    let gguf = Gguf::read(source).await.map_err(failed)?;
    ModelFile::from_gguf(gguf).await.map_err(failed)
}

/// A model on a device.
#[wasm_bindgen(js_name = Engine)]
#[derive(Debug)]
pub struct WebEngine(Arc<Engine>);

#[wasm_bindgen(js_class = Engine)]
impl WebEngine {
    /// Loads a GGUF file, or without one makes a model of the shape that is named, with random weights; `progress` hears
    /// bytes done and bytes in all.
    pub async fn load(name: String, file: Option<PageFile>, options: String, progress: Function) -> Outcome<WebEngine> {
        let options = Options::parse(&options)?;
        let model = model_file(&name, file, &options).await?;
        let told = |done: u64, all: u64| {
            let _ = progress.call2(&JsValue::NULL, &(done as f64).into(), &(all as f64).into());
        };
        let options = EngineOptions { session: Some(options.session()?), ..options.engine()? };
        Ok(Self(Arc::new(Engine::open_file(model, &options, told).await.map_err(failed)?)))
    }

    /// What was loaded onto what.
    pub fn info(&self) -> String {
        let engine = &self.0;
        json(&serde_json::json!({
            "model": engine.config.summary(),
            "context": engine.context(None),
            "modelContext": engine.config.context,
            "nVocab": engine.config.n_vocab,
            "weightsBytes": engine.weights_bytes(),
            "hasTokenizer": engine.tokenizer.is_some(),
            "hasTemplate": engine.template.is_some(),
            "adapter": engine.gpu.report,
        }))
    }

    /// Ids of a text as a prompt.
    pub fn encode(&self, text: &str) -> Outcome<Vec<u32>> {
        self.0.tokenizer().and_then(|tokenizer| tokenizer.encode_prompt(text)).map_err(failed)
    }

    /// Ids of a conversation (JSON: `[{role, content}]`), up to where the assistant speaks.
    #[wasm_bindgen(js_name = encodeChat)]
    pub fn encode_chat(&self, messages: &str) -> Outcome<Vec<u32>> {
        let messages: Vec<Message> = convert::parse("messages", messages)?;
        let template = self.0.template().map_err(failed)?;
        let ids = self.0.tokenizer().and_then(|tokenizer| tokenizer.encode_chat(template, &messages, true));
        ids.map_err(failed)
    }

    /// Opens a context.
    pub async fn session(&self, options: String) -> Outcome<WebSession> {
        let options = Options::parse(&options)?.session()?;
        let engine = match self.0.gpu.is_lost() {
            true => self.0.successor().await.map_err(failed)?,
            false => self.0.clone(),
        };
        Ok(WebSession { session: Session::new(engine, &options).await.map_err(failed)? })
    }
}

/// Ends an answer from outside, between two tokens or two batches of its prompt.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

#[wasm_bindgen]
impl Stop {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A context on an engine.
#[wasm_bindgen(js_name = Session)]
#[derive(Debug)]
pub struct WebSession {
    session: Session,
}

#[wasm_bindgen(js_class = Session)]
impl WebSession {
    /// Answers to `ids`. `heard` gets each piece's text and token; `stop` ends the answer, also in the middle of a prompt.
    /// Returns counts and times.
    pub async fn generate(&mut self, ids: Vec<u32>, options: String, stop: &Stop, heard: Function) -> Outcome<String> {
        let options: Sampling = convert::parse("options", &options)?;
        let (whole, max_tokens) = (options.whole, options.max_tokens);
        let tokens = self.session.tokens();
        let n_reused = match whole {
            true => ids.iter().zip(tokens).take_while(|(a, b)| a == b).count(),
            false => tokens.len(),
        };
        self.session.stop_on(stop.0.clone());
        let begun = match whole {
            _ if stop.is_set() => Err(Error::Interrupted { what: "it was stopped before it began".into() }),
            true => self.session.answer(&ids, options.into(), max_tokens).await,
            false => self.session.generate(&ids, options.into(), max_tokens).await,
        };
        if let Err(Error::Interrupted { .. }) = begun {
            drop(begun);
            let mut stats = Stats::default();
            (stats.n_prompt, stats.n_reused) = (self.session.tokens().len().saturating_sub(n_reused), n_reused);
            return Ok(told(stats, "aborted".into()));
        }
        let mut answer = begun.map_err(failed)?;
        while !stop.is_set() {
            match answer.next().await {
                Ok(Some(piece)) => drop(heard.call2(&JsValue::NULL, &piece.text.into(), &piece.token.into())),
                // Where the device was lost, the whole text is processed again, and that can be stopped too.
                Ok(None) | Err(Error::Interrupted { .. }) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        let rest = answer.finish_text();
        if !rest.is_empty() {
            let _ = heard.call2(&JsValue::NULL, &rest.into(), &JsValue::UNDEFINED);
        }
        Ok(told(answer.stats(), answer.stop().map_or("aborted".into(), |stop| serde_json::json!(stop))))
    }

    /// Ids of the context so far.
    pub fn tokens(&self) -> Vec<u32> {
        self.session.tokens().to_vec()
    }

    /// Forgets all after the first so many tokens.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.session.truncate(n_tokens);
    }

    /// Writes tokens and cache; `note` (JSON) comes back with them.
    pub async fn save(&self, mut sink: PageSink, note: String) -> Outcome<()> {
        let note = convert::parse("note", &note)?;
        self.session.save_in(&mut sink, "the saved session", &note).await.map_err(failed)
    }

    /// Takes over what [`WebSession::save`] wrote; returns its note.
    pub async fn restore(&mut self, file: PageFile) -> Outcome<String> {
        let source = ByteSource::file("the saved session", PlatformFile::from(file));
        let saved = SavedSession::read(source).await.map_err(failed)?;
        self.session.restore(&saved).await.map_err(failed)?;
        Ok(json(saved.note()))
    }
}

fn told(stats: Stats, stop: serde_json::Value) -> String {
    json(&serde_json::json!({
        "promptTokens": stats.n_prompt,
        "reusedTokens": stats.n_reused,
        "answerTokens": stats.n_answer,
        "promptSeconds": stats.prompt_s,
        "answerSeconds": stats.answer_s,
        "tokensPerSecond": rate(stats.n_answer.saturating_sub(1), stats.answer_s),
        "stop": stop,
    }))
}

fn rate(n: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { n as f64 / seconds } else { 0.0 }
}
