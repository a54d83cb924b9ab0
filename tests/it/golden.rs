//! Whole models against logits that others computed: `transformers` for folders, numpy for GGUF formats.

use crate::common::{engine, floats, ids, json, logits, max_difference, path, session};
use pocketlm::{CacheFormat, Session, SessionOptions, WeightFormat};

/// One checkpoint of `tests/data/golden`: logits within 1e-3, greedy ids wherever the margin allows.
fn check_folder(name: &str) {
    let model = path(&format!("tests/data/golden/{name}"));
    check_session(name, session(&model, Some(WeightFormat::F32), CacheFormat::F32, false));
}

fn check_session(name: &str, mut session: Session) {
    let golden = json(&format!("tests/data/golden/{name}/golden.json"));
    let cases = golden["cases"].as_array().expect("cases");
    assert!(cases.len() >= 8);
    for case in cases {
        let prompt = ids(&case["input_ids"]);
        let error = max_difference(&logits(&mut session, &prompt), &floats(&case["last_logits"]));
        assert!(error < 1e-3, "{name}, prompt of {}: logits differ by {error}", prompt.len());
        let greedy: Vec<u32> = pollster::block_on(async {
            let mut greedy = Vec::new();
            for _ in 0..12 {
                let id = session.most_probable().await.expect("a token");
                session.feed(&[id]).await.expect("room");
                greedy.push(id);
            }
            greedy
        });
        if case["margin"].as_f64().expect("a margin") > 0.01 {
            assert_eq!(greedy, ids(&case["greedy"]), "{name}, prompt of {}", prompt.len());
        }
    }
}

#[test]
fn llama2_sharded() {
    check_folder("llama2");
}

#[test]
fn llama3_grouped_tied_scaled() {
    check_folder("llama3-gqa-tied");
}

#[test]
fn phi3_fused_window() {
    check_folder("phi3-4k");
}

/// A window of 48 and batches of 16 leave a ring of 63 rows, which prompts of up to 150 tokens go round twice.
#[test]
fn phi3_in_a_ring() {
    let engine = engine(&path("tests/data/golden/phi3-4k"), Some(WeightFormat::F32));
    let options = SessionOptions { cache: CacheFormat::F32, batch: 16, ..SessionOptions::default() };
    check_session("phi3-4k", pollster::block_on(Session::new(engine, &options)).expect("a session opens"));
}

#[test]
fn phi3_grouped_partial_rotary_tied() {
    check_folder("phi3-gqa-partial-rotary");
}

/// Prompts below, across and beyond the border between the two sets of factors.
#[test]
fn phi3_longrope() {
    check_folder("phi3-longrope");
}

#[test]
fn mistral_window() {
    check_folder("mistral-window");
}

#[test]
fn qwen2_biases() {
    check_folder("qwen2");
}

#[test]
fn qwen3_head_norms() {
    check_folder("qwen3");
}

#[test]
fn mixtral_experts() {
    check_folder("mixtral");
}

#[test]
fn phimoe_sparse_mixer() {
    check_folder("phimoe");
}

#[test]
fn gguf_formats() {
    let golden = json("tests/data/golden-gguf/golden.json");
    for (format, cases) in golden.as_object().expect("formats") {
        let mut session =
            session(&path(&format!("tests/data/golden-gguf/{format}.gguf")), None, CacheFormat::F32, false);
        for case in cases.as_array().expect("cases") {
            let prompt = ids(&case["ids"]);
            let error = max_difference(&logits(&mut session, &prompt), &floats(&case["last_logits"]));
            assert!(error < 1e-3, "{format}, prompt of {}: logits differ by {error}", prompt.len());
        }
    }
}

/// Every way to hold a folder's weights runs, and errs in the order of its precision.
#[test]
fn folder_in_every_format() {
    let golden = json("tests/data/golden/llama3-gqa-tied/golden.json");
    let case = &golden["cases"][3];
    let want = floats(&case["last_logits"]);
    let error = |weights| {
        let model = path("tests/data/golden/llama3-gqa-tied");
        max_difference(&logits(&mut session(&model, weights, CacheFormat::F32, false), &ids(&case["input_ids"])), &want)
    };
    let [f16, q8_0, q4_0] = [WeightFormat::F16, WeightFormat::Q8_0, WeightFormat::Q4_0].map(|f| error(Some(f)));
    assert!(f16 < 1e-3 && f16 < q8_0 && q8_0 < q4_0 && q4_0 < 3.0, "f16 {f16}, q8_0 {q8_0}, q4_0 {q4_0}");
    assert_eq!(error(None), q4_0, "q4_0 is the default of a folder");
}

/// However a prompt is cut into batches and tokens, the logits are the same.
#[test]
fn batches_agree_with_single_tokens() {
    let mut session = session(&path("tests/data/golden/phi3-4k"), Some(WeightFormat::F32), CacheFormat::F32, true);
    let prompt: Vec<u32> = (0..90).map(|i| 3 + i * 31 % 250).collect();
    let whole = logits(&mut session, &prompt);
    let mut all = Vec::new();
    session.truncate(0);
    pollster::block_on(session.feed_all(&prompt, |row| all.push(row.to_vec()))).expect("room");
    assert_eq!(all.len(), prompt.len());
    assert!(max_difference(&all[prompt.len() - 1], &whole) < 1e-5);
    session.truncate(0);
    let mut row = Vec::new();
    for (i, &id) in prompt.iter().enumerate() {
        pollster::block_on(async {
            session.feed(&[id]).await.expect("room");
            session.logits(&mut row).await.expect("logits");
        });
        let error = max_difference(&row, &all[i]);
        assert!(error < 1e-4, "position {i}: {error}");
    }
    // A rolled-back cache continues as if the rest had never been.
    session.truncate(40);
    pollster::block_on(session.feed(&prompt[40..])).expect("room");
    pollster::block_on(session.logits(&mut row)).expect("logits");
    assert!(max_difference(&row, &whole) < 1e-5);
}

/// Each cache is close to the exact one, in the order of its precision, and not the same.
#[test]
fn rounded_caches_are_close() {
    let prompt: Vec<u32> = (0..60).map(|i| 3 + i * 29 % 250).collect();
    let [exact, f16, q8_0, q4_0] = CacheFormat::ALL.map(|cache| {
        logits(&mut session(&path("tests/data/golden/llama2"), Some(WeightFormat::F32), cache, false), &prompt)
    });
    let [f16, q8_0, q4_0] = [f16, q8_0, q4_0].map(|rounded| max_difference(&exact, &rounded));
    assert!(0.0 < f16 && f16 < q8_0 && q8_0 < q4_0, "f16 {f16}, q8_0 {q8_0}, q4_0 {q4_0}");
    assert!(f16 < 2e-2 && q8_0 < 0.1 && q4_0 < 1.5, "f16 {f16}, q8_0 {q8_0}, q4_0 {q4_0}");
}
