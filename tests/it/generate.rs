//! Answers whose tokens the device chooses, several to a submit: the same as one by one with the CPU's sampler, and what
//! ran too far leaves no trace.

use crate::common::{engine, feed, path};
use pocketlm::{
    CacheFormat, Engine, EngineOptions, SamplingOptions, Session, SessionOptions, WeightFormat,
    sample::Sampler,
    session::{MAX_TOKENS_PER_SUBMIT, Stop},
};
use std::sync::Arc;

const PER_SUBMIT: [Option<usize>; 4] = [Some(1), Some(3), Some(8), None];

fn open(engine: &Arc<Engine>, options: &SessionOptions, tokens_per_submit: Option<usize>) -> Session {
    let options = SessionOptions { tokens_per_submit, ..options.clone() };
    pollster::block_on(Session::new(engine.clone(), &options)).expect("a session opens")
}

fn prompt(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + i * i * 31 % 240).collect()
}

fn drawing() -> SamplingOptions {
    SamplingOptions { temperature: 1.3, seed: 11, ..SamplingOptions::default() }
}

/// Token by token: the logits come to the CPU, which chooses.
fn one_by_one(session: &mut Session, prompt: &[u32], options: SamplingOptions, n: usize) -> (Vec<u32>, Stop) {
    let mut sampler = Sampler::new(options).expect("valid options");
    let (mut tokens, mut logits) = (Vec::new(), feed(session, prompt));
    loop {
        let token = sampler.pick(&logits, session.tokens()).expect("numbers");
        if session.engine().end_ids.contains(&token) {
            return (tokens, Stop::EndOfGeneration);
        }
        tokens.push(token);
        if tokens.len() == n {
            return (tokens, Stop::MaxTokens);
        }
        if session.tokens().len() >= session.context() {
            return (tokens, Stop::ContextFull);
        }
        logits = feed(session, &[token]);
    }
}

/// The first `take` tokens of an answer of `n`, which is dropped then; and why it ended, if it did.
fn generated(
    session: &mut Session,
    prompt: &[u32],
    options: SamplingOptions,
    n: usize,
    take: usize,
) -> (Vec<u32>, Option<Stop>) {
    pollster::block_on(async {
        let mut answer = session.generate(prompt, options, Some(n)).await.expect("a prompt");
        let mut tokens = Vec::new();
        while tokens.len() < take
            && let Some(piece) = answer.next().await.expect("a token")
        {
            tokens.push(piece.token);
        }
        if tokens.len() == take {
            return (tokens, None);
        }
        assert!(answer.next().await.expect("it is over").is_none());
        (tokens, answer.stop())
    })
}

/// What a session holds: its tokens, the logits after them, and those after each of three more tokens.
fn content(session: &mut Session) -> (Vec<u32>, Vec<Vec<f32>>) {
    let tokens = session.tokens().to_vec();
    let mut rows = vec![Vec::new()];
    pollster::block_on(session.logits(&mut rows[0])).expect("logits");
    let n_more = 3.min(session.context() - tokens.len());
    rows.extend([9, 77, 5][..n_more].iter().map(|&token| feed(session, &[token])));
    (tokens, rows)
}

/// An answer of `n` tokens by every number of tokens per submit, whole and cut short: the tokens, and what the session
/// holds then, bit for bit.
fn check(engine: &Arc<Engine>, options: &SessionOptions, sampling: &SamplingOptions, prompt: &[u32], n: usize) {
    let mut whole = open(engine, options, None);
    let (tokens, stop) = one_by_one(&mut whole, prompt, sampling.clone(), n);
    // The first token's logits would be computed in another way: they come from the prompt's batch.
    let cut = tokens.len() / 2;
    assert!(cut > 1, "{tokens:?}");
    let mut part = open(engine, options, None);
    one_by_one(&mut part, prompt, sampling.clone(), cut);
    let (capacity, whole, part) = (whole.capacity(), content(&mut whole), content(&mut part));
    for per_submit in PER_SUBMIT {
        let what = format!("{per_submit:?} per submit, {sampling:?}");
        let mut session = open(engine, options, per_submit);
        let got = generated(&mut session, prompt, sampling.clone(), n, usize::MAX);
        assert_eq!(got, (tokens.clone(), Some(stop)), "{what}");
        assert_eq!(session.capacity(), capacity, "{what}");
        assert!(content(&mut session) == whole, "{what}: the session differs");
        let mut session = open(engine, options, per_submit);
        let got = generated(&mut session, prompt, sampling.clone(), n, cut);
        assert_eq!(got, (tokens[..cut].to_vec(), None), "{what}");
        assert!(content(&mut session) == part, "{what}: cut short, the session differs");
    }
}

#[test]
fn any_options_and_tokens_per_submit() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    for sampling in [
        SamplingOptions::default(),
        SamplingOptions { repeat_penalty: 1.3, ..SamplingOptions::default() },
        drawing(),
        SamplingOptions { top_k: 20, ..drawing() },
        SamplingOptions { top_p: 0.8, ..drawing() },
        SamplingOptions { min_p: 0.1, ..drawing() },
        SamplingOptions { top_k: 60, top_p: 0.9, min_p: 0.02, repeat_penalty: 1.2, seed: u64::MAX, ..drawing() },
    ] {
        check(&engine, &SessionOptions::default(), &sampling, &prompt(21), 40);
    }
}

#[test]
fn a_cache_grows_and_a_context_ends() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let options = SessionOptions { cache: CacheFormat::Q8_0, context: Some(1100), ..SessionOptions::default() };
    check(&engine, &options, &drawing(), &prompt(1010), 30);
    check(&engine, &options, &SamplingOptions::default(), &prompt(1090), 30);
}

#[test]
fn a_ring_goes_round() {
    let engine = engine(&path("tests/data/golden/phi3-4k"), Some(WeightFormat::F32));
    for batch in [1, 5, 16] {
        let options = SessionOptions { cache: CacheFormat::F32, batch, ..SessionOptions::default() };
        check(&engine, &options, &drawing(), &prompt(50), 60);
    }
}

/// LongRoPE changes its angles at 64 tokens, where the text so far is processed again.
#[test]
fn angles_change_on_the_way() {
    let engine = engine(&path("tests/data/golden/phi3-longrope"), Some(WeightFormat::F32));
    check(&engine, &SessionOptions::default(), &drawing(), &prompt(50), 30);
}

#[test]
fn experts_that_take_turns() {
    let options =
        EngineOptions { weights: Some(WeightFormat::F32), experts_per_layer: Some(2), ..EngineOptions::default() };
    let model = path("tests/data/golden/mixtral");
    let engine = Arc::new(pollster::block_on(Engine::open(&model, &options, |_, _| ())).expect("it loads"));
    check(&engine, &SessionOptions::default(), &SamplingOptions { top_k: 30, ..drawing() }, &prompt(9), 12);
}

/// Whatever token ends an answer, those that were chosen behind it are forgotten.
#[test]
fn an_end_is_an_end() {
    let model = path("tests/data/golden/llama2");
    let sampling = drawing();
    let whole = engine(&model, Some(WeightFormat::F32));
    let mut session = open(&whole, &SessionOptions::default(), Some(1));
    let (tokens, _) = generated(&mut session, &prompt(12), sampling.clone(), 20, 20);
    for at in [4, 5, 9] {
        let options = EngineOptions { weights: Some(WeightFormat::F32), ..EngineOptions::default() };
        let mut engine = pollster::block_on(Engine::open(&model, &options, |_, _| ())).expect("it loads");
        engine.end_ids.insert(tokens[at]);
        check(&Arc::new(engine), &SessionOptions::default(), &sampling, &prompt(12), 20);
    }
}

/// Between two tokens nothing is created, and there are as many submits, dispatches and bytes as there have to be.
#[test]
fn nothing_is_created_between_tokens() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let before = engine.gpu.counters();
    let mut session = open(&engine, &SessionOptions::default(), Some(8));
    assert!((engine.gpu.counters() - before).created > 50, "a session's buffers and bind groups are counted");
    for (sampling, picks) in [(SamplingOptions::default(), 2), (SamplingOptions { top_p: 0.9, ..drawing() }, 3)] {
        session.truncate(0);
        let all = pollster::block_on(async {
            let mut answer = session.generate(&prompt(20), sampling, Some(41)).await.expect("a prompt");
            let gpu = &answer.engine().gpu;
            let mut all = vec![gpu.counters()];
            while answer.next().await.expect("a token").is_some() {
                all.push(answer.engine().gpu.counters());
            }
            all
        });
        assert_eq!(all.len(), 42);
        let (first, all) = (all[0], all[41] - all[0]);
        assert!(first.created > 0);
        assert_eq!(all.created, 0);
        // The first token comes from the prompt's logits; the others are chosen eight at a time.
        assert_eq!(all.submits, 1 + 40 / 8);
        assert_eq!(all.read_back_bytes, 4 * (all.submits + 41));
        let per_step = (all.dispatches - picks) as f64 / 40.0;
        assert_eq!(per_step.fract(), 0.0, "{all:?}");
        assert!((12.0..=20.0).contains(&per_step), "{all:?}");
    }
}

/// More than the device's ring holds is as much as it holds.
#[test]
fn tokens_per_submit_have_a_limit() {
    let engine = engine(&path("tests/data/golden/llama2"), Some(WeightFormat::F32));
    let mut one = open(&engine, &SessionOptions::default(), Some(1));
    let mut many = open(&engine, &SessionOptions::default(), Some(10 * MAX_TOKENS_PER_SUBMIT));
    let [one, many] = [&mut one, &mut many].map(|session| generated(session, &prompt(5), drawing(), 200, 200).0);
    assert_eq!(one.len(), many.len());
    assert_eq!(one, many);
}
