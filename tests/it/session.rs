//! Sessions: however a context came about (grown, rolled back, reused, in parts), its logits are those of a fresh one.

use crate::common::{engine, feed, logits, max_difference, path};
use pocketlm::{
    CacheFormat, Engine, EngineOptions, Error, SamplingOptions, Session, SessionOptions, WeightFormat,
    backend::Gpu,
    kernels::{CacheLayout, Tuning},
    model::ModelFile,
    session::record_options,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

fn open(engine: &Arc<Engine>, options: SessionOptions) -> Session {
    pollster::block_on(Session::new(engine.clone(), &options)).expect("a session opens")
}

fn prompt(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + i * i * 31 % 250).collect()
}

/// A cache that grew on the way holds what one of full size holds, bit for bit.
#[test]
fn growth_changes_nothing() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let (context, n) = (1100, 1060);
    for cache in [CacheFormat::F16, CacheFormat::Q4_0] {
        let options = SessionOptions { cache, context: Some(context), ..SessionOptions::default() };
        let (mut grown, mut full) = (open(&engine, options.clone()), open(&engine, options));
        let ids = prompt(n);
        feed(&mut full, &ids);
        full.truncate(0);
        let pieces = [&ids[..1000], &ids[1000..1024], &ids[1024..1025], &ids[1025..]];
        for (piece, capacity) in pieces.into_iter().zip([1024, 1024, 1100, 1100]) {
            assert_eq!(feed(&mut grown, piece), feed(&mut full, piece), "{cache:?}, {}", grown.tokens().len());
            assert_eq!(grown.capacity(), capacity, "{cache:?}");
        }
        let needs = grown.needs();
        assert_eq!(grown.bytes(), needs.cache + needs.activations, "{cache:?}");
    }
}

/// An answer whose device is lost goes on with a new one, on which the context is processed again; so does a prompt.
#[test]
fn a_lost_device_is_replaced() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let greedy = SamplingOptions::default;
    let answer = |session: &mut Session, lose_after: Option<usize>| {
        pollster::block_on(async {
            let mut answer = session.generate(&[5, 6, 7], greedy(), Some(8)).await.expect("a prompt");
            let mut ids = Vec::new();
            while let Some(piece) = answer.next().await.expect("it goes on") {
                ids.push(piece.token);
                if lose_after == Some(ids.len()) {
                    answer.engine().gpu.destroy();
                }
            }
            ids
        })
    };
    let wanted = answer(&mut open(&engine, SessionOptions::default()), None);
    assert_eq!(wanted.len(), 8);
    let mut session = open(&engine, SessionOptions::default());
    let mut other = open(&engine, SessionOptions::default());
    assert_eq!(answer(&mut session, Some(3)), wanted);
    assert!(engine.gpu.is_lost() && !session.engine().gpu.is_lost());
    // Another session of the lost device finds the engine that was made for the first.
    assert_eq!(answer(&mut other, Some(8)), wanted);
    assert!(Arc::ptr_eq(session.engine(), other.engine()));
    // Lost twice: whoever comes from the first engine finds the third.
    session.truncate(0);
    assert_eq!(answer(&mut session, Some(2)), wanted);
    assert!(Arc::ptr_eq(&pollster::block_on(engine.successor()).expect("it is there"), session.engine()));
}

/// What a token's keys and values take: Phi-3-mini has 32 layers of 32 heads of 96.
#[test]
fn cache_sizes() {
    let token = |format, n_heads, head_dim| 2 * CacheLayout { format, n_heads, head_dim }.row_bytes();
    let phi3 = CacheFormat::ALL.map(|format| 32 * token(format, 32, 96));
    assert_eq!(phi3, [786_432, 393_216, 208_896, 110_592]);
    // A head of 20 numbers has one scale; three heads of 36 have two each, and codes of 4 bits fill whole words.
    assert_eq!(token(CacheFormat::Q8_0, 2, 20), 2 * (2 * 20 + 4));
    assert_eq!(token(CacheFormat::Q4_0, 3, 36), 2 * (3 * 20 + 12));
}

/// Rolled back by little, a ring goes on; rolled back by more than it holds, it is filled anew.
#[test]
fn a_ring_rolls_back() {
    let engine = engine(&path("tests/data/golden/phi3-4k"), Some(WeightFormat::F32));
    for cache in [CacheFormat::F32, CacheFormat::Q8_0] {
        let options = SessionOptions { cache, batch: 16, context: Some(300), ..SessionOptions::default() };
        let (mut session, mut fresh) = (open(&engine, options.clone()), open(&engine, options));
        let mut ids = prompt(150);
        feed(&mut session, &ids);
        for (to, reused) in [(140, 140), (165, 165), (164, 0), (100, 0), (139, 139), (3, 0), (30, 30), (50, 0)] {
            ids.truncate(to);
            ids.extend((0..40).map(|i| 5 + (to as u32 + i * 7) % 240));
            let n = pollster::block_on(session.set_prompt(&ids)).expect("room");
            assert_eq!(n, reused, "to {to}");
            assert_eq!(session.tokens(), ids);
            let mut got = Vec::new();
            pollster::block_on(session.logits(&mut got)).expect("logits");
            let error = max_difference(&got, &logits(&mut fresh, &ids));
            // Other batches, other roundings; a quantised cache makes more of them.
            let bound = if cache == CacheFormat::F32 { 1e-5 } else { 0.1 };
            assert!(error < bound, "{cache:?}, to {to}: {error}");
        }
    }
}

#[test]
fn a_prompt_keeps_what_it_shares() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let options = SessionOptions { cache: CacheFormat::F32, ..SessionOptions::default() };
    let (mut session, mut fresh) = (open(&engine, options.clone()), open(&engine, options));
    let base = prompt(60);
    let other = [&base[..25], &[7, 8, 9]].concat();
    let longer = [&base[..], &[9, 9]].concat();
    // The whole of a prompt is never reused: its last token brings the logits.
    for (ids, reused) in [(&base, 0), (&base, 59), (&longer, 60), (&other, 25), (&base, 25), (&base[..10].to_vec(), 9)]
    {
        assert_eq!(pollster::block_on(session.set_prompt(ids)).expect("room"), reused);
        assert_eq!(session.tokens(), &ids[..]);
        let mut got = Vec::new();
        pollster::block_on(session.logits(&mut got)).expect("logits");
        let error = max_difference(&got, &logits(&mut fresh, ids));
        assert!(error < 1e-5, "{} tokens: {error}", ids.len());
    }
    // A prompt that is refused leaves the context alone.
    let before = session.tokens().to_vec();
    assert!(matches!(pollster::block_on(session.set_prompt(&prompt(5000))), Err(Error::ContextFull { .. })));
    assert!(matches!(pollster::block_on(session.set_prompt(&[5, 99_999])), Err(Error::TokenOutOfRange { .. })));
    assert_eq!(session.tokens(), before);
}

/// A prompt stopped between batches leaves what is done, and the rest can follow.
#[test]
fn a_prompt_can_be_stopped() {
    let engine = engine(&path("tests/data/golden/phi3-4k"), Some(WeightFormat::F32));
    let options = SessionOptions { cache: CacheFormat::F32, batch: 16, ..SessionOptions::default() };
    let (mut session, mut fresh) = (open(&engine, options.clone()), open(&engine, options));
    let flag = Arc::new(AtomicBool::new(true));
    session.stop_on(flag.clone());
    let ids = prompt(100);
    let stopped = pollster::block_on(session.set_prompt(&ids));
    let told = stopped.expect_err("the flag is set").to_string();
    assert_eq!(told, "interrupted: 16 of 100 tokens of the prompt are processed");
    assert_eq!(session.tokens(), &ids[..16]);
    flag.store(false, Ordering::Relaxed);
    assert_eq!(pollster::block_on(session.set_prompt(&ids)).expect("room"), 16);
    let mut got = Vec::new();
    pollster::block_on(session.logits(&mut got)).expect("logits");
    assert_eq!(got, logits(&mut fresh, &ids));
    // Stopped while a ring is filled anew, it keeps its tokens and fills up later.
    session.truncate(40);
    flag.store(true, Ordering::Relaxed);
    assert!(pollster::block_on(session.feed(&ids[40..])).is_err());
    assert_eq!(session.tokens(), &ids[..40]);
    flag.store(false, Ordering::Relaxed);
    assert_eq!(feed(&mut session, &ids[40..]), got);
}

/// On a device that binds little, a layer's cache lies in several buffers, and nothing else changes.
#[test]
fn a_cache_in_parts() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("an adapter");
    for (name, binding) in [("llama2", 56 << 10), ("llama3-gqa-tied", 44 << 10)] {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: binding, ..adapter.limits() };
        let model = path(&format!("tests/data/golden/{name}"));
        let ids = prompt(150);
        let whole = engine(&model, Some(WeightFormat::F32));
        let parted = pollster::block_on(async {
            let gpu = Gpu::from_adapter(&adapter, Some(limits)).await.expect("a device");
            let file = ModelFile::open(&model).await.expect("a model");
            let options = EngineOptions { weights: Some(WeightFormat::F32), ..EngineOptions::default() };
            Arc::new(Engine::load(file, gpu, &options, |_, _| ()).await.expect("it loads"))
        });
        for cache in CacheFormat::ALL {
            let options = SessionOptions { cache, batch: 32, context: Some(400), ..SessionOptions::default() };
            let recorded = record_options(&whole.config, &options, Tuning::BASELINE, binding);
            assert!(cache != CacheFormat::F32 || recorded.part_kv_heads == 1, "{name}: {recorded:?}");
            let (mut whole, mut parted) = (open(&whole, options.clone()), open(&parted, options));
            let error = max_difference(&feed(&mut whole, &ids), &feed(&mut parted, &ids));
            assert!(error < 1e-5, "{name}, {cache:?}: {error}");
        }
    }
}
