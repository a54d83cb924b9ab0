//! The instrument in a page: what `pocketlm bench --format json` and `pocketlm kernels --json` print, and the report's page.

use crate::{
    convert::{Options, Outcome, failed, json, parse},
    model_file,
};
use js_sys::Function;
use pocketlm::{
    Engine, EngineOptions, Session,
    backend::Gpu,
    measure::{About, BenchOptions, ExamineOptions, Subject, SubjectOptions, examine, measure_copy, page, table},
    platform::{PageFile, now_s},
    timing::Method,
};
use serde::Deserialize;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// How much to measure; the defaults are the command line's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Measure {
    prompt: usize,
    n: usize,
    /// Of bench: tokens that are in the context before.
    depths: Vec<usize>,
    /// Of kernels: the same, one number.
    depth: usize,
    rounds: Option<usize>,
    quick: bool,
}

impl Default for Measure {
    fn default() -> Self {
        Self { prompt: 512, n: 128, depths: vec![0], depth: 256, rounds: None, quick: false }
    }
}

/// Prompt and decode speed of a shape or a file; `progress` hears the share that is done. Returns JSON: `report` and `text`,
/// a table in Markdown.
#[wasm_bindgen]
pub async fn bench(name: String, file: Option<PageFile>, options: String, progress: Function) -> Outcome<String> {
    let (measure, load): (Measure, Options) = (parse("options", &options)?, Options::parse(&options)?);
    let start_s = now_s();
    let model = model_file(&name, file, &load).await?;
    let deepest = measure.depths.iter().max().copied().unwrap_or(0);
    let mut session = load.session()?;
    session.context = session.context.or(Some(deepest.saturating_add(measure.prompt.max(measure.n)).saturating_add(1)));
    let engine = EngineOptions { session: Some(session.clone()), ..load.engine()? };
    let engine = Arc::new(Engine::open_file(model, &engine, |_, _| ()).await.map_err(failed)?);
    let mut session = Session::new(engine.clone(), &session).await.map_err(failed)?;
    let load_s = now_s() - start_s;
    let method = Method { budget_s: 1.0, ..Method::QUICK };
    let options = BenchOptions {
        n_prompt: measure.prompt,
        n_decode: measure.n,
        depths: measure.depths,
        rounds: measure.rounds.unwrap_or(5),
        copy_bytes_per_s: measure_copy(&engine.gpu, &method).await.map_err(failed)?,
        load_s,
    };
    let about = About::now(&engine.gpu.report, &name, None);
    let told = |share: f64| drop(progress.call2(&JsValue::NULL, &"measuring".into(), &share.into()));
    let found = pocketlm::measure::bench(&mut session, &options, about, told).await.map_err(failed)?;
    engine.gpu.destroy();
    Ok(json(&serde_json::json!({ "report": found, "text": table::bench_markdown(&found) })))
}

/// Every kernel of a shape or a file against the device's ceilings; `progress` hears what is done and the share of it.
/// Returns JSON: `report`, `text`, and `html`, a page of its own with plots.
#[wasm_bindgen]
pub async fn kernels(name: String, file: Option<PageFile>, options: String, progress: Function) -> Outcome<String> {
    let (measure, load): (Measure, Options) = (parse("options", &options)?, Options::parse(&options)?);
    let model = model_file(&name, file, &load).await?;
    let gpu = Gpu::open(load.adapter.as_deref()).await.map_err(failed)?;
    let subject = SubjectOptions {
        n_prompt: measure.prompt,
        depth: measure.depth,
        cache: load.session()?.cache,
        engine: load.engine()?,
    };
    let subject = Subject::new(&model, &gpu, &subject).map_err(failed)?;
    let mut method = if measure.quick { Method::QUICK } else { Method::default() };
    method.rounds = measure.rounds.unwrap_or(method.rounds);
    let about = About::now(&gpu.report, &name, None);
    let told = |what: &str, share: f64| drop(progress.call2(&JsValue::NULL, &what.into(), &share.into()));
    let found = examine(&gpu, subject, &ExamineOptions { method }, about, told).await.map_err(failed)?;
    gpu.destroy();
    let (text, html) = (table::examination(&found), page::page(&found, None));
    Ok(json(&serde_json::json!({ "report": found, "text": text, "html": html })))
}
