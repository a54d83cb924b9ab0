//! A real model from file to text, against float64 references.

use crate::common::{feed, ids, json, max_difference, path, session, smollm2};
use pocketlm::{
    CacheFormat, Engine, EngineOptions, SamplingOptions, Session, SessionOptions, kernels::PromptMath, sample::Sampler,
    session::Stop, text::Message,
};
use std::sync::Arc;

/// The npy file's numbers: a header padded to a multiple of 64 bytes, then little-endian f32.
fn reference_logits() -> Vec<f32> {
    let bytes = std::fs::read(path("tests/data/smollm2/logits.npy")).expect("the file");
    let header = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let floats = bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four")));
    floats.collect()
}

#[test]
fn logits_at_every_position() {
    let reference = json("tests/data/smollm2/reference.json");
    let mut session = session(&smollm2(), None, CacheFormat::F32, true);
    let mut all = Vec::new();
    let prompt = ids(&reference["raw_ids"]);
    pollster::block_on(session.feed_all(&prompt, |row| all.extend_from_slice(row))).expect("room");
    let want = reference_logits();
    assert_eq!(want.len(), 21 * 49152);
    let error = max_difference(&all, &want);
    assert!(error < 2e-3, "logits differ by {error}");
}

/// The relative difference of all logits from the reference, and how prompts were multiplied.
fn relative_error(math: PromptMath) -> (f64, PromptMath) {
    let reference = json("tests/data/smollm2/reference.json");
    let prompt = ids(&reference["raw_ids"]);
    let want = reference_logits();
    let options = EngineOptions { prompt_math: math, ..EngineOptions::default() };
    let engine = pollster::block_on(Engine::open(&smollm2(), &options, |_, _| ())).expect("the model loads");
    let used = engine.prompt_math();
    let options = SessionOptions { cache: CacheFormat::F32, all_logits: true, ..SessionOptions::default() };
    let mut session = pollster::block_on(Session::new(Arc::new(engine), &options)).expect("a session opens");
    let mut all = Vec::new();
    pollster::block_on(session.feed_all(&prompt, |row| all.extend_from_slice(row))).expect("room");
    let square = |v: f32| v as f64 * v as f64;
    let off: f64 = all.iter().zip(&want).map(|(a, b)| square(a - b)).sum();
    let relative = (off / want.iter().map(|&v| square(v)).sum::<f64>()).sqrt();
    let most = max_difference(&all, &want);
    println!("{} logits differ by {relative:.2e} of their size, {most} at most", used.name());
    (relative, used)
}

/// Packed activations: close to the reference, though not as close, and never used unasked.
#[test]
fn packed_prompts_are_close() {
    let (relative, used) = relative_error(PromptMath::Packed);
    assert_eq!(used, PromptMath::Packed, "it runs on this adapter");
    assert!(relative < 6e-2, "{relative}");
    assert!(relative > 1e-5, "{relative}: were activations packed at all?");
}

/// Rounded to f16: closer, where the adapter has cooperative matrices, and exact where it has none.
#[test]
fn half_prompts_are_close() {
    let (relative, used) = relative_error(PromptMath::Half);
    if crate::common::gpu().report.coop.is_some() {
        assert_eq!(used, PromptMath::Half, "it runs on this adapter");
        assert!(relative < 5e-3, "{relative}");
        assert!(relative > 2e-5, "{relative}: was anything rounded at all?");
    } else {
        assert_eq!(used, PromptMath::Exact);
        assert!(relative < 2e-5, "{relative}");
    }
}

#[test]
fn greedy_ids_and_same_seed_same_text() {
    let reference = json("tests/data/smollm2/reference.json");
    let mut session = session(&smollm2(), None, CacheFormat::F32, false);
    let engine = session.engine().clone();
    let tokenizer = engine.tokenizer().expect("a tokenizer");
    for case in reference["greedy"].as_array().expect("cases") {
        let prompt = case["prompt"].as_str().expect("text");
        let prompt_ids = match case["chat"].as_bool().expect("a flag") {
            true => {
                tokenizer.encode_chat(engine.template().expect("a template"), &[Message::new("user", prompt)], true)
            }
            false => tokenizer.encode_prompt(prompt),
        };
        let prompt_ids = prompt_ids.expect("it encodes");
        assert_eq!(prompt_ids, ids(&case["prompt_ids"]), "{}", case["id"]);
        let mut want = ids(&case["output_ids"]);
        let ends = engine.end_ids.contains(want.last().expect("an answer"));
        want.truncate(want.len() - ends as usize);
        session.truncate(0);
        let (got, stop, _) = answer(&mut session, &prompt_ids, SamplingOptions::default(), 48);
        assert_eq!(got, want, "{}", case["id"]);
        assert_eq!(stop, Some(if ends { Stop::EndOfGeneration } else { Stop::MaxTokens }), "{}", case["id"]);
    }
    let prompt = tokenizer.encode_prompt("Once upon a time").expect("it encodes");
    let mut draw = |seed| {
        session.truncate(0);
        let options =
            SamplingOptions { temperature: 1.2, top_p: 0.95, repeat_penalty: 1.1, seed, ..Default::default() };
        answer(&mut session, &prompt, options, 16).2
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

/// The device's choice is the CPU's, bit for bit, whatever the options.
#[test]
fn the_device_draws_what_the_cpu_draws() {
    let mut session = session(&smollm2(), None, CacheFormat::F16, false);
    let tokenizer = session.engine().clone();
    let prompt = tokenizer.tokenizer().expect("a tokenizer").encode_prompt("The harbour lay").expect("it encodes");
    let hot = SamplingOptions { temperature: 0.9, seed: 3, ..SamplingOptions::default() };
    for options in [
        SamplingOptions { repeat_penalty: 1.3, ..SamplingOptions::default() },
        hot.clone(),
        SamplingOptions { top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.1, ..hot },
    ] {
        session.truncate(0);
        let mut sampler = Sampler::new(options.clone()).expect("valid options");
        let mut want = Vec::new();
        let mut row = feed(&mut session, &prompt);
        for _ in 0..16 {
            want.push(sampler.pick(&row, session.tokens()).expect("numbers"));
            row = feed(&mut session, &want[want.len() - 1..]);
        }
        session.truncate(0);
        let (got, ..) = answer(&mut session, &prompt, options.clone(), 16);
        assert_eq!(got, want[..got.len()], "{options:?}");
        assert!(got.len() == 16 || session.engine().end_ids.contains(&want[got.len()]), "{options:?}");
    }
}

fn answer(
    session: &mut pocketlm::Session,
    prompt: &[u32],
    options: SamplingOptions,
    n: usize,
) -> (Vec<u32>, Option<Stop>, String) {
    pollster::block_on(async {
        let mut answer = session.generate(prompt, options, Some(n)).await.expect("a prompt");
        let (mut got, mut text) = (Vec::new(), String::new());
        while let Some(piece) = answer.next().await.expect("a token") {
            got.push(piece.token);
            text.push_str(&piece.text);
        }
        (got, answer.stop(), text)
    })
}
