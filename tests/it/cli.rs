//! The program as people call it: what goes to stdout, what to stderr, and which status it ends with.

use crate::common::{path, smollm2};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

pub fn pocketlm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pocketlm")).args(arguments).output().expect("it starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model() -> String {
    smollm2().to_str().expect("UTF-8").to_string()
}

#[test]
fn run_streams_text_and_reports_on_stderr() {
    let output = pocketlm(&["run", &model(), "-p", "The capital of France is", "--raw", "--kv", "f32", "-n", "2"]);
    assert_eq!(stdout(&output), " Paris.\n");
    assert!(stderr(&output).contains("prompt 5 tokens"), "{}", stderr(&output));
    assert!(output.status.success());
}

#[test]
fn run_reads_stdin_and_prints_json() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pocketlm"))
        .args(["run", &model(), "-p", "-", "-n", "3", "--json", "--system", "Be brief."])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("stdin").write_all(b"Say hello. <|im_end|>").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(json["ids"].as_array().expect("ids").len(), 3);
    assert_eq!(json["stop"], "max-tokens");
    assert!(json["timings"]["prompt_tokens_per_s"].as_f64().expect("a rate") > 0.0);
    // The user's `<|im_end|>` is text: only the template's own ends of messages are id 2.
    let ends = json["prompt_ids"].as_array().expect("ids").iter().filter(|id| **id == 2).count();
    assert_eq!(ends, 2);
}

#[test]
fn a_full_context_stops_the_answer() {
    let output = pocketlm(&["run", &model(), "-p", "Once upon a time", "--raw", "--ctx", "8"]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("the context is full"), "{}", stderr(&output));
    let output =
        pocketlm(&["run", &model(), "-p", "Once upon a time there was a very long prompt", "--raw", "--ctx", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("do not fit a context of 4"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: shorten the prompt or raise --ctx"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

/// Where the adapter has no cooperative matrices, half prompts are exact ones and a warning says so.
#[test]
fn half_prompts_say_what_they_became() {
    let folder = path("tests/data/golden/llama2");
    let folder = folder.to_str().expect("UTF-8");
    let logits = |math| pocketlm(&["logits", folder, "--ids", "5,6,7", "--weights", "f32", "--prompt-math", math]);
    let (exact, half) = (logits("exact"), logits("half"));
    assert!(half.status.success(), "{}", stderr(&half));
    let warned = stderr(&half).contains("prompts are multiplied exactly instead of half");
    assert_eq!(warned, crate::common::gpu().report.coop.is_none(), "{}", stderr(&half));
    assert_eq!(stdout(&half) == stdout(&exact), warned, "rounded if and only if nobody was warned");
    let plan = pocketlm(&["inspect", folder, "--plan", "--prompt-math", "half"]);
    assert!(stdout(&plan).contains("matmul_coop"), "{}", stdout(&plan));
    let plan = pocketlm(&["inspect", folder, "--plan"]);
    assert!(!stdout(&plan).contains("matmul_coop"), "{}", stdout(&plan));
}

#[test]
fn logits_and_perplexity() {
    let folder = path("tests/data/golden/llama2");
    let folder = folder.to_str().expect("UTF-8");
    let output = pocketlm(&["logits", folder, "--ids", "5,6,7", "--all", "--weights", "f32"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["ids"], serde_json::json!([5, 6, 7]));
    assert_eq!(json["logits"].as_array().expect("rows").len(), 3);
    let output = pocketlm(&["logits", folder, "--ids", "5,6,7"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["logits"].as_array().expect("rows").len(), 1);

    let reference = crate::common::json("tests/data/smollm2/reference.json");
    let text = std::env::temp_dir().join(format!("pocketlm-perplexity-{}.txt", std::process::id()));
    std::fs::write(&text, reference["perplexity_text"].as_str().expect("a text")).expect("it is written");
    let output = pocketlm(&["perplexity", &model(), text.to_str().expect("UTF-8"), "--kv", "f32", "--json"]);
    std::fs::remove_file(&text).expect("it was there");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!((json["perplexity"].as_f64().expect("a number") - 16.04).abs() < 0.02, "{}", json["perplexity"]);
    assert_eq!(json["n_scored"], 180);
}

#[test]
fn inspect_and_devices() {
    let output = pocketlm(&["inspect", &model(), "--plan", "--tensors"]);
    let text = stdout(&output);
    for part in ["llama", "134.48 M", "210 tensors", "weights", "layer29.ffn_down", "token_embd.weight"] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    let output = pocketlm(&["devices"]);
    assert!(stdout(&output).contains("(chosen)"), "{}", stdout(&output));
    let json: serde_json::Value = serde_json::from_slice(&pocketlm(&["devices", "--json"]).stdout).expect("JSON");
    assert!(!json.as_array().expect("adapters").is_empty());
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["run"][..],
        &["run", "model.gguf"],
        &["run", "model.gguf", "-p", "x", "--kv", "q9"],
        &["run", "model.gguf", "-p", "x", "--ctx", "0"],
        &["logits", "model.gguf"],
        &["nonsense"],
    ] {
        let output = pocketlm(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    assert!(pocketlm(&["--help"]).status.success());
}
