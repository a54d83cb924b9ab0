//! Shapes of published models: their sizes, and what their synthetic tensors are made of.

use pocketlm::{
    CacheFormat, Engine, EngineOptions, Session, SessionOptions, WeightFormat,
    backend::Gpu,
    format::ByteSource,
    kernels::Tuning,
    model::{ModelFile, shapes},
    session::{MemoryNeeds, place, plans, record_options},
};
use std::sync::Arc;

/// Parameters as the models' cards give them, in billions.
#[test]
fn every_shape_has_its_published_size() {
    let published = [
        ("phi-3-mini", 3.82),
        ("phi-3.5-mini", 3.82),
        ("phi-3-medium", 13.96),
        ("phi-4-mini", 3.84),
        ("phi-3.5-moe", 41.87),
        ("llama-2-7b", 6.74),
        ("llama-2-13b", 13.02),
        ("llama-3.2-1b", 1.24),
        ("llama-3.1-8b", 8.03),
        ("tinyllama-1.1b", 1.10),
        ("smollm2-135m", 0.1345),
        ("mistral-7b", 7.24),
        ("mixtral-8x7b", 46.70),
        ("qwen2.5-1.5b", 1.54),
        ("qwen3-4b", 4.02),
        ("tiny-llama", 0.000361),
    ];
    assert!(shapes::names().eq(published.iter().map(|(name, _)| *name)));
    for (name, billions) in published {
        let config = shapes::config(name).expect(name);
        let found = config.n_weights() as f64 / 1e9;
        assert!((found / billions - 1.0).abs() < 0.006, "{name}: {found}");
    }
    assert_eq!(shapes::config("mixtral-8x7b").expect("a shape").n_active_weights() / 100_000_000, 128);
    assert!(shapes::config("phi-9").expect_err("unknown").to_string().contains("phi-3-mini"));
}

/// Device memory of a shape at WebGPU's limits: weights, and cache for `context` tokens.
fn needs(name: &str, format: WeightFormat, cache: CacheFormat, context: usize) -> MemoryNeeds {
    let file = ModelFile::from_shape(name, format, 1).expect("a shape");
    let (placement, placed) = place(&file, 128 << 20, &EngineOptions::default()).expect("it fits");
    assert!(placement.matrices.iter().all(|m| m.plane_bytes().iter().all(|&bytes| bytes <= 128 << 20)), "{name}");
    let session = SessionOptions { context: Some(context), cache, ..SessionOptions::default() };
    let options = record_options(&file.config, &session, Tuning::BASELINE, 128 << 20);
    let plans = plans(&file.config, &placed, &options, false);
    let bound = |bytes| bytes <= 128 << 20;
    assert!(plans.iter().flat_map(|(_, plan)| &plan.buffers).all(|buffer| bound(buffer.bytes)), "{name}");
    MemoryNeeds::of(&placement, &plans)
}

#[test]
fn phi_3_mini_is_as_small_as_promised() {
    let gib = |n: f64| (n * (1u64 << 30) as f64) as u64;
    assert!(needs("phi-3-mini", WeightFormat::Q4_0, CacheFormat::F16, 64).weights <= gib(2.01));
    assert!(needs("phi-3-mini", WeightFormat::Q4_G128, CacheFormat::F16, 64).weights <= gib(1.84));
    for (cache, per_token) in [(CacheFormat::F16, 393_216), (CacheFormat::Q8_0, 208_896), (CacheFormat::Q4_0, 110_592)]
    {
        // Within the window of 2047 the cache holds every token.
        assert_eq!(needs("phi-3-mini", WeightFormat::Q4_0, cache, 1024).cache, 1024 * per_token, "{cache:?}");
    }
    // Beyond it, only the window and a batch.
    let full = needs("phi-3-mini", WeightFormat::Q4_0, CacheFormat::F16, 4096).cache;
    assert!(full < 4096 * 393_216 * 2 / 3, "{full}");
}

/// Every shape's matrices, experts and caches are bound in pieces of at most 128 MiB.
#[test]
fn every_shape_binds_at_webgpu_limits() {
    for name in shapes::names() {
        for format in [WeightFormat::Q4_0, WeightFormat::F16] {
            needs(name, format, CacheFormat::Q8_0, 32768);
        }
    }
}

/// A read of random blocks is the same wherever it begins, and the weights are of a sane size.
#[test]
fn random_tensors_can_be_read_anywhere() {
    for format in WeightFormat::ALL {
        let n = 4096;
        let source = ByteSource::random(format, n, 7, false);
        let mut whole = vec![0; source.n_bytes() as usize];
        let mut part = vec![0; 301];
        pollster::block_on(async {
            source.read_at(0, &mut whole).await.expect("it is long enough");
            source.read_at(997, &mut part).await.expect("it is long enough");
            assert!(source.read_at(source.n_bytes() - 5, &mut [0; 6]).await.is_err());
        });
        assert_eq!(part, whole[997..][..301], "{format}");
        let weights = format.decode(&whole);
        let deviation = (weights.iter().map(|w| (w * w) as f64).sum::<f64>() / n as f64).sqrt();
        assert!((0.02..0.12).contains(&deviation), "{format}: {deviation}");
        let mean = weights.iter().map(|&w| w as f64).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.3 * deviation, "{format}: mean {mean}");
    }
}

/// What is made on the device answers, and takes the memory that was told before.
#[test]
fn a_synthetic_model_runs() {
    pollster::block_on(async {
        for format in [WeightFormat::Q4_0, WeightFormat::Q6_K] {
            let file = ModelFile::from_shape("smollm2-135m", format, 1).expect("a shape");
            let gpu = Gpu::open(None).await.expect("an adapter");
            let options = EngineOptions::default();
            let (placement, _) = place(&file, gpu.max_binding_bytes(), &options).expect("it fits");
            let engine = Arc::new(Engine::load(file, gpu, &options, |_, _| ()).await.expect("it loads"));
            let alignment = 512 * (placement.matrices.len() + placement.vectors.len()) as u64;
            assert!((placement.bytes()..placement.bytes() + alignment).contains(&engine.weights_bytes()));
            let options = SessionOptions { context: Some(64), ..SessionOptions::default() };
            let mut session = Session::new(engine, &options).await.expect("a session");
            session.feed(&[1, 2, 3]).await.expect("room");
            let mut logits = Vec::new();
            session.logits(&mut logits).await.expect("logits");
            let (least, most) = logits.iter().fold((f32::MAX, f32::MIN), |(a, b), &l| (a.min(l), b.max(l)));
            assert!(least.is_finite() && most.is_finite() && most - least > 1e-3, "{least} to {most}");
        }
    });
}
