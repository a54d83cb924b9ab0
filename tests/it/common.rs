//! What several tests need: paths, a device, a model opened on it.

use pocketlm::{CacheFormat, Engine, EngineOptions, Session, SessionOptions, WeightFormat, backend::Gpu};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file of the repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The model that `cargo xtask demo` and `cargo xtask test` fetch.
pub fn smollm2() -> PathBuf {
    let path = path("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing: `cargo xtask demo` fetches it", path.display());
    path
}

/// The best adapter. A machine without one fails the test: nothing would have been tested.
pub fn gpu() -> Gpu {
    pollster::block_on(Gpu::open(None)).expect("an adapter: `cargo xtask test` installs a software one")
}

pub fn json(relative: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(path(relative)).expect(relative);
    serde_json::from_str(&text).expect(relative)
}

pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|v| v.as_u64().expect("an id") as u32).collect()
}

pub fn floats(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

pub fn engine(model: &Path, weights: Option<WeightFormat>) -> Arc<Engine> {
    let options = EngineOptions { weights, tune: Some(false), ..EngineOptions::default() };
    Arc::new(pollster::block_on(Engine::open(model, &options, |_, _| ())).expect("the model loads"))
}

pub fn session(model: &Path, weights: Option<WeightFormat>, cache: CacheFormat, all_logits: bool) -> Session {
    let options = SessionOptions { cache, all_logits, ..SessionOptions::default() };
    pollster::block_on(Session::new(engine(model, weights), &options)).expect("a session opens")
}

/// Logits after the last of `ids`, in a fresh context.
pub fn logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    session.truncate(0);
    feed(session, ids)
}

/// Logits after the last of `ids`, behind what the session holds.
pub fn feed(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    let mut out = Vec::new();
    pollster::block_on(async {
        session.feed(ids).await.expect("ids fit");
        session.logits(&mut out).await.expect("logits come back");
    });
    out
}

/// Largest absolute difference; NaN counts as infinite.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let worst = |m: f32, d: f32| if d.is_nan() { f32::INFINITY } else { m.max(d) };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, worst)
}

#[test]
fn the_comparer_sees_differences() {
    assert_eq!(max_difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
    assert_eq!(max_difference(&[1.0, f32::NAN], &[1.0, 2.0]), f32::INFINITY);
}
