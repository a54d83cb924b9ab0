//! SentencePiece in GGUF with real vocabularies: Llama 2's against the encoder it is published with, Mistral's and
//! Phi-3's against the tokenizers crate. `cargo xtask fetch` fetches them.

use crate::{
    common::{ids, path},
    to_gguf::{check_same, folder, metadata},
    tokenizer::{check_streams, streamed},
    tokenizer_files::added,
};
use pocketlm::{
    format::{Metadata, Value},
    text::{Specials, Tokenizer},
};
use serde_json::json;
use std::sync::OnceLock;

/// A file that `cargo xtask fetch` prepares.
fn prepared(name: &str) -> serde_json::Value {
    let path = path("models/vocabularies").join(name);
    let bytes = std::fs::read(&path);
    let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask fetch` prepares it", path.display()));
    serde_json::from_slice(&bytes).expect(name)
}

fn llama2() -> &'static serde_json::Value {
    static LLAMA2: OnceLock<serde_json::Value> = OnceLock::new();
    LLAMA2.get_or_init(|| prepared("llama-2.json"))
}

fn texts() -> Vec<String> {
    let file = crate::common::json("tests/data/vocabularies/texts.json");
    assert_eq!(llama2()["texts"], file, "the texts have changed: `cargo xtask fetch` has them encoded again");
    let text = |text: &serde_json::Value| match text["repeat"].as_str() {
        Some(unit) => unit.repeat(text["times"].as_u64().expect("a number") as usize),
        None => text.as_str().expect("a text").to_string(),
    };
    file.as_array().expect("a list").iter().map(text).collect()
}

/// Texts with special tokens in them, and every kind of space around those.
fn texts_with(specials: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for special in specials {
        for (before, after) in
            [("", ""), ("", " "), (" ", ""), (" ", " "), ("\n", "\n"), ("  ", " \n\t "), ("\u{a0}", "\u{3000}")]
        {
            for (left, right) in [("", ""), ("a", "b"), (" a ", " b "), ("🙂", "漢"), ("▁", "▁")] {
                texts.push(format!("{left}{before}{special}{after}{right}"));
            }
            texts.push(format!("x{before}{special}{after}{special}{before}{special}y"));
        }
        texts.push(format!("{}x", special.repeat(50)));
        texts.push(format!("{0}{special}{special}", &special[..special.len() - 1]));
    }
    texts.push(specials.iter().flat_map(|special| [special, " ", special, "a"]).collect());
    texts
}

/// Pieces of the vocabulary at random, with spaces between some: words that no language has.
fn random_texts(tokens: &[String], n: usize) -> Vec<String> {
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let mut text = || {
        let one_of = 1 + below(tokens.len());
        let n_pieces = 1 + below(40);
        let pieces = (0..n_pieces).map(|_| tokens[below(one_of)].replace('▁', " "));
        pieces.collect::<String>()
    };
    (0..n).map(|_| text()).collect()
}

/// Characters over and over in all patterns of a few: where which of two equal merges comes first shows.
fn patterns(units: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for pattern in 0..1usize << 10 {
        texts.push((0..10).map(|bit| units[pattern >> bit & 1]).collect());
    }
    texts.extend((0..70).map(|n| units[0].repeat(n)));
    texts
}

/// Metadata as llama.cpp's conversion writes it for a model of the Llama family.
fn llama_metadata(tokens: &[String], scores: Vec<f32>, extra: &[(u32, &str, i64)], architecture: &str) -> Metadata {
    let mut tokens = tokens.to_vec();
    let mut types = vec![1; tokens.len()];
    types[..259].fill(6);
    types[..3].copy_from_slice(&[2, 3, 3]);
    let mut scores = scores;
    for &(id, text, kind) in extra {
        tokens.resize(tokens.len().max(id as usize + 1), String::new());
        types.resize(tokens.len(), 5);
        scores.resize(tokens.len(), -1000.0);
        tokens[id as usize] = text.into();
        types[id as usize] = kind;
    }
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", Value::String(architecture.into()));
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String("default".into()));
    metadata.insert("tokenizer.ggml.tokens", Value::Strings(tokens));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    metadata.insert("tokenizer.ggml.scores", Value::Floats(scores));
    metadata.insert("tokenizer.ggml.bos_token_id", Value::Unsigned(1));
    metadata.insert("tokenizer.ggml.eos_token_id", Value::Unsigned(2));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(true));
    metadata
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("a list of texts")
}

/// Minus the rank of the first merge that makes each piece.
fn scores_by_rank(tokens: &[String], merges: &[String]) -> Vec<f32> {
    let mut ranks = std::collections::HashMap::new();
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    tokens.iter().map(|token| ranks.get(token).map_or(0.0, |rank| -(*rank as f32))).collect()
}

/// As in the publisher's own file: pieces stand in the order of their scores, but for runs of spaces, which share one.
fn scores_by_id(tokens: &[String]) -> Vec<f32> {
    let score = |(id, token): (usize, &String)| match token.trim_matches('▁') {
        "" => -1e9,
        _ => 259.0 - (id as f32).max(259.0),
    };
    tokens.iter().enumerate().map(score).collect()
}

fn llama2_tokenizers() -> [Tokenizer; 2] {
    let (tokens, merges) = (strings(&llama2()["tokens"]), strings(&llama2()["merges"]));
    [scores_by_rank(&tokens, &merges), scores_by_id(&tokens)]
        .map(|scores| Tokenizer::from_gguf(&llama_metadata(&tokens, scores, &[], "llama")).unwrap().unwrap())
}

#[test]
fn llama2_encodes_as_its_own_encoder() {
    for tokenizer in llama2_tokenizers() {
        for (text, expected) in texts().iter().zip(llama2()["ids"].as_array().unwrap()) {
            let found = tokenizer.encode(text, Specials::AsText).unwrap();
            assert_eq!(found, ids(expected), "{text:.200?}");
        }
    }
}

#[test]
fn llama2_texts_survive() {
    let [tokenizer, _] = llama2_tokenizers();
    let tokens = strings(&llama2()["tokens"]);
    for text in texts().iter().chain(&random_texts(&tokens, 500)) {
        let ids = tokenizer.encode(text, Specials::AsText).unwrap();
        let survivor = text.replace('▁', " ");
        assert_eq!(tokenizer.decode(&ids), survivor);
        assert_eq!(streamed(&tokenizer, &[], &ids).1, survivor);
        assert_eq!(tokenizer.encode_prompt(text).unwrap()[0], 1);
    }
    // Cut anywhere into prompt and answer.
    for text in texts().iter().filter(|text| text.len() < 200 && !text.contains('\u{fffd}')) {
        check_streams(&tokenizer, text);
    }
}

/// A `tokenizer.json` of the Llama family.
fn llama_json(tokens: &[String], merges: &[String], added_tokens: serde_json::Value) -> serde_json::Value {
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    json!({
        "version": "1.0", "added_tokens": added_tokens,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges }
    })
}

/// The tokenizers crate by itself, which knows nothing of this one.
fn reference(file: &serde_json::Value) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap()
}

fn check_against(reference: &tokenizers::Tokenizer, tokenizers: &[&Tokenizer], texts: &[String]) {
    for text in texts {
        let expected = reference.encode(text.as_str(), false).unwrap();
        for tokenizer in tokenizers {
            assert_eq!(tokenizer.encode(text, Specials::Recognised).unwrap(), expected.get_ids(), "{text:.200?}");
        }
    }
}

fn every_text(tokens: &[String], specials: &[&str]) -> Vec<String> {
    let mut texts = [texts(), texts_with(specials), random_texts(tokens, 2000)].concat();
    for units in [[" ", "a"], ["\n", " "], ["-", "="], ["a", "b"], ["0", "1"], [" ", "\t"], ["l", "L"], ["▁", "."]] {
        texts.extend(patterns(&units));
    }
    texts
}

#[test]
fn llama2_and_its_special_tokens() {
    let (tokens, merges) = (strings(&llama2()["tokens"]), strings(&llama2()["merges"]));
    let specials = [(0, "<unk>"), (1, "<s>"), (2, "</s>")];
    let file = llama_json(&tokens, &merges, specials.map(|(id, text)| added(id, text, true, false)).into());
    let [by_rank, by_id] = llama2_tokenizers();
    let texts = every_text(&tokens, &specials.map(|(_, text)| text));
    check_against(&reference(&file), &[&by_rank, &by_id], &texts);
    let folder = folder(&file, json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true }));
    let metadata = metadata(&folder, tokens.len());
    let expected = llama_metadata(&tokens, Vec::new(), &[], "llama");
    assert_eq!(metadata.integers("tokenizer.ggml.token_type"), expected.integers("tokenizer.ggml.token_type"));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    check_same(
        &Tokenizer::in_folder(&folder).unwrap().unwrap(),
        &Tokenizer::from_gguf(&metadata).unwrap().unwrap(),
        &texts,
    );
}

#[test]
fn mistral() {
    let file = prepared("mistral.json");
    let vocab: std::collections::BTreeMap<u64, String> = file["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), text.clone()))
        .collect();
    let (tokens, merges) = (Vec::from_iter(vocab.into_values()), strings(&file["model"]["merges"]));
    let scores = scores_by_rank(&tokens, &merges);
    let by_hand = Tokenizer::from_gguf(&llama_metadata(&tokens, scores, &[], "llama")).unwrap().unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true });
    let folder = folder(&file, config);
    let written = Tokenizer::from_gguf(&metadata(&folder, tokens.len())).unwrap().unwrap();
    let texts = every_text(&tokens, &["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]);
    check_against(&reference(&file), &[&by_hand, &written], &texts);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    check_same(&Tokenizer::in_folder(&folder).unwrap().unwrap(), &by_hand, &texts);
}

/// Mistral's newer files have another way to put the space in front, for which GGUF has no key of its own.
#[test]
fn mistral_with_metaspace() {
    let mut file = prepared("mistral.json");
    file["normalizer"] = json!(null);
    file["pre_tokenizer"] =
        json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false });
    file["added_tokens"][2]["rstrip"] = json!(true);
    let folder = folder(&file, json!({ "eos_token": "</s>" }));
    let written = Tokenizer::from_gguf(&metadata(&folder, 32_000)).unwrap().unwrap();
    let texts = [texts(), texts_with(&["<unk>", "<s>", "</s>"])].concat();
    check_against(&reference(&file), &[&written], &texts);
}

/// Phi-3's tokens on top of Llama 2's.
const PHI3: &[(u32, &str)] = &[
    (32000, "<|endoftext|>"),
    (32001, "<|assistant|>"),
    (32002, "<|placeholder1|>"),
    (32003, "<|placeholder2|>"),
    (32004, "<|placeholder3|>"),
    (32005, "<|placeholder4|>"),
    (32006, "<|system|>"),
    (32007, "<|end|>"),
    (32008, "<|placeholder5|>"),
    (32009, "<|placeholder6|>"),
    (32010, "<|user|>"),
];

#[test]
fn phi3() {
    let (tokens, merges) = (strings(&llama2()["tokens"]), strings(&llama2()["merges"]));
    let all = [&[(0, "<unk>"), (1, "<s>"), (2, "</s>")], PHI3].concat();
    let as_added = |(id, text): &(u32, &str)| {
        let mut token = added(*id, text, *id != 2, false);
        token["rstrip"] = json!(!["<unk>", "<s>", "<|endoftext|>"].contains(text));
        token
    };
    let file = llama_json(&tokens, &merges, all.iter().map(as_added).collect());
    let mut extra: Vec<(u32, &str, i64)> = PHI3.iter().map(|(id, text)| (*id, *text, 3)).collect();
    extra.push((2, "</s>", 4));
    extra.push((32063, "[PAD32063]", 5));
    let scores = scores_by_rank(&tokens, &merges);
    let by_hand = Tokenizer::from_gguf(&llama_metadata(&tokens, scores, &extra, "phi3")).unwrap().unwrap();
    let mut folder = folder(&file, json!({ "bos_token": "<s>", "eos_token": "<|endoftext|>", "add_bos_token": true }));
    folder.generation_config = Some(json!({ "eos_token_id": [32000, 32001, 32007] }));
    let metadata = metadata(&folder, 32_064);
    let written = Tokenizer::from_gguf(&metadata).unwrap().unwrap();
    let texts = every_text(&tokens, &all.iter().map(|(_, text)| *text).collect::<Vec<_>>());
    check_against(&reference(&file), &[&by_hand, &written], &texts);
    assert_eq!(written.n_vocab(), 32_064);
    assert_eq!(written.end_of_generation_ids().iter().copied().collect::<Vec<_>>(), [2, 32000, 32001, 32007]);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    check_same(&Tokenizer::in_folder(&folder).unwrap().unwrap(), &written, &texts);
    let prompt = "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi <|end|>\n<|assistant|>\n";
    let expected = [32006, 1522, 11473, 29889, 32007, 32010, 6324, 29871, 32007, 32001];
    assert_eq!(written.encode(prompt, Specials::Recognised).unwrap(), expected);
}
