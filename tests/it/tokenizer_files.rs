//! Tokenizers' files: what `tokenizer.json` and GGUF metadata may say, and damaged ones.

use crate::sentencepiece::{check_ids, tiny_metadata};
use pocketlm::{
    Error,
    format::{Metadata, Value},
    text::{Specials, Tokenizer},
};
use serde_json::json;

pub(crate) fn added(id: u32, content: &str, special: bool, normalized: bool) -> serde_json::Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized, "special": special })
}

/// Llama's older kind of `tokenizer.json`: `▁` by normalisers, bytes as fallback.
pub(crate) fn tokenizer_json() -> serde_json::Value {
    let mut vocab = serde_json::Map::new();
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes);
    for token in pieces.chain(["▁", "a", "b", "▁a"].map(String::from)) {
        vocab.insert(token, json!(vocab.len()));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        // "normalized" as some older files have it by mistake.
        "added_tokens": [added(0, "<unk>", true, false), added(1, "<s>", true, true), added(2, "</s>", true, false),
                         added(263, "<|end|>", false, false)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": [["▁", "a"]] }
    })
}

pub(crate) fn folder(tokenizer_json: &serde_json::Value, config: Option<serde_json::Value>) -> Tokenizer {
    Tokenizer::from_folder(tokenizer_json.to_string().as_bytes(), config.as_ref()).unwrap()
}

#[test]
fn folders() {
    let mut tokenizer = folder(&tokenizer_json(), None);
    assert_eq!(tokenizer.n_vocab(), 264);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), None, true));
    assert_eq!(tokenizer.encode_prompt("a b").unwrap(), [1, 262, 259, 261]);
    check_ids(&tokenizer, Specials::Recognised, "<s>a</s>", &[1, 262, 2]);
    // `<|end|>` is not called special, but looks it.
    check_ids(&tokenizer, Specials::Recognised, "<|end|>", &[263]);
    assert!(!tokenizer.encode("<|end|>", Specials::AsText).unwrap().contains(&263));
    assert_eq!(tokenizer.end_of_generation_ids().iter().copied().collect::<Vec<_>>(), [2, 263]);
    tokenizer.add_end_of_generation([259]).unwrap();
    assert!(tokenizer.end_of_generation_ids().contains(&259));
    assert!(matches!(tokenizer.add_end_of_generation([264]), Err(Error::Config { .. })));

    let config = json!({ "bos_token": { "content": "<s>" }, "eos_token": "<|end|>", "add_bos_token": false });
    let tokenizer = folder(&tokenizer_json(), Some(config));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(263), false));
    assert_eq!(tokenizer.encode_prompt("a").unwrap(), [262]);

    // The configuration's word on how a token is matched counts.
    check_ids(&tokenizer, Specials::Recognised, "<|end|> \na", &[263, 259, 259, 13, 260]);
    let config = json!({ "added_tokens_decoder": {
        "263": { "content": "<|end|>", "rstrip": true }, "2": { "content": "another", "rstrip": true } } });
    let tokenizer = folder(&tokenizer_json(), Some(config));
    check_ids(&tokenizer, Specials::Recognised, "<|end|> \na", &[263, 262]);
    check_ids(&tokenizer, Specials::Recognised, "</s> a", &[2, 259, 262]);
}

fn strings(texts: &[&str]) -> Value {
    Value::Strings(texts.iter().map(|text| text.to_string()).collect())
}

/// A complete byte-level vocabulary of four tokens, with `extra` on top.
fn byte_level_metadata(extra: &[(&str, Value)]) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    metadata.insert("tokenizer.ggml.tokens", strings(&["a", "b", "ab", "<|eot_id|>"]));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(vec![1, 1, 1, 3]));
    metadata.insert("tokenizer.ggml.merges", strings(&["a b"]));
    for (key, value) in extra {
        metadata.insert(key, value.clone());
    }
    metadata
}

/// The message of the error that `metadata` leads to.
fn complaint(metadata: &Metadata) -> String {
    let error = Tokenizer::from_gguf(metadata).unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    error.to_string()
}

#[test]
fn damaged_gguf() {
    let whole = Tokenizer::from_gguf(&byte_level_metadata(&[])).unwrap().unwrap();
    assert_eq!(whole.encode("abba\0<|eot_id|>", Specials::Recognised).unwrap(), [2, 1, 0, 3]);
    assert!(Tokenizer::from_gguf(&Metadata::default()).unwrap().is_none());
    // Some conversions call tokens such as `<|eot_id|>` normal.
    let untyped = byte_level_metadata(&[("tokenizer.ggml.token_type", Value::Integers(vec![1; 4]))]);
    let untyped = Tokenizer::from_gguf(&untyped).unwrap().unwrap();
    assert_eq!(untyped.encode("ab<|eot_id|>", Specials::Recognised).unwrap(), [2, 3]);
    assert!(untyped.end_of_generation_ids().contains(&3));
    // A normal token that merges lead to is meant as one: Qwen 2 has a `</s>` of HTML.
    let html = byte_level_metadata(&[
        ("tokenizer.ggml.tokens", strings(&["<", "/s>", "</s>", "<|eot_id|>"])),
        ("tokenizer.ggml.merges", strings(&["< /s>"])),
    ]);
    let html = Tokenizer::from_gguf(&html).unwrap().unwrap();
    assert_eq!(html.decode(&[2, 3]), "</s>");
    assert!(!html.end_of_generation_ids().contains(&2) && html.end_of_generation_ids().contains(&3));

    let text = |text: &str| Value::String(text.into());
    let cases: Vec<(&str, Value, &str)> = vec![
        ("tokenizer.ggml.model", text("rwkv"), "the tokenizer `rwkv` is not supported"),
        ("tokenizer.ggml.pre", text("klingon"), "the pre-tokenizer `klingon` is not supported"),
        ("tokenizer.ggml.tokens", strings(&[]), "tokens is missing or empty"),
        ("tokenizer.ggml.tokens", Value::Bool(true), "tokens is missing or empty"),
        ("tokenizer.ggml.merges", strings(&["a c"]), "entry 0 `a c`: `c` is not in the vocabulary"),
        ("tokenizer.ggml.merges", strings(&["b a"]), "`ba` is not in the vocabulary"),
        ("tokenizer.ggml.merges", strings(&["a b", "ab"]), "entry 1 `ab`: there is no space in it"),
        ("tokenizer.ggml.merges", strings(&[""]), "there is no space in it"),
        ("tokenizer.ggml.merges", Value::Bool(true), "merges is missing"),
        ("tokenizer.ggml.token_type", Value::Integers(vec![1]), "token_type has 1 entries for 4 tokens"),
        ("tokenizer.ggml.bos_token_id", Value::Unsigned(4), "bos_token_id is 4, but the vocabulary has 4 tokens"),
        ("tokenizer.ggml.eos_token_id", Value::Unsigned(u64::MAX), "eos_token_id is 18446744073709551615"),
        ("tokenizer.ggml.eot_token_id", Value::Unsigned(1 << 32), "eot_token_id is 4294967296"),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true), "there is no bos_token_id"),
        ("pocketlm.tokenizer.end_ids", Value::Integers(vec![4]), "special token 4 is outside the vocabulary of 4"),
        ("pocketlm.tokenizer.end_ids", Value::Integers(vec![-1]), "is outside the vocabulary of 4"),
    ];
    for (key, value, expected) in cases {
        let complaint = complaint(&byte_level_metadata(&[(key, value)]));
        assert!(complaint.contains(expected), "{complaint}");
    }
    let cases: Vec<(&str, Value, &str)> = vec![
        ("tokenizer.ggml.scores", Value::Floats(vec![0.0; 3]), "scores has 3 entries for 276 tokens"),
        ("tokenizer.ggml.scores", Value::Floats(vec![f32::NAN; 276]), "entry 0: not a number"),
        ("tokenizer.ggml.scores", Value::Bool(true), "scores is missing"),
        ("tokenizer.ggml.token_type", Value::Integers(vec![1; 276]), "neither all 256 byte tokens nor an unknown"),
    ];
    for (key, value, expected) in cases {
        let complaint = complaint(&tiny_metadata(&[(key, value)]));
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn damaged_folders() {
    let broken = |pointer: &str, value: serde_json::Value| {
        let mut file = tokenizer_json();
        *file.pointer_mut(pointer).unwrap() = value;
        Tokenizer::from_folder(file.to_string().as_bytes(), None).unwrap_err().to_string()
    };
    let cases = [
        ("/model/merges", json!([["a", "z"]]), "makes no token of the vocabulary"),
        ("/model/merges", json!(["ab"]), "makes no token of the vocabulary"),
        ("/model/vocab", json!({}), "makes no token of the vocabulary"),
        ("/model/vocab/a", json!(-1), "tokenizer.json"),
        ("/model/vocab/a", json!(4_000_000_000u32), "far beyond the vocabulary"),
        ("/model/continuing_subword_prefix", json!("##"), "not supported"),
        ("/decoder", json!({ "type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true }), "decoder"),
        ("/added_tokens/3/id", json!(300), "its place is Some(263)"),
        ("/version", json!("2.0"), "version"),
    ];
    for (pointer, value, expected) in cases {
        let complaint = broken(pointer, value);
        assert!(complaint.contains(expected), "{pointer}: {complaint}");
    }
    let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
    let deep = ["merges", "vocab", "x"]
        .map(|key| format!(r#"{{"model": {{"type": "BPE", "{key}": {open}{close}, "vocab": {{}}, "merges": []}}}}"#));
    let deep = deep.iter().map(String::as_bytes);
    for bytes in [&b""[..], b"{", b"[]", b"\xff", b"null"].into_iter().chain(deep) {
        assert!(matches!(Tokenizer::from_folder(bytes, None), Err(Error::Config { .. })));
    }
    let config = json!({ "bos_token": "<absent>" });
    let error = Tokenizer::from_folder(tokenizer_json().to_string().as_bytes(), Some(&config)).unwrap_err();
    assert!(error.to_string().contains("`<absent>`"), "{error}");
}
