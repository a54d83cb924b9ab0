//! Tokenizers of folders written as GGUF metadata and read back: the same ids, the same text, the same ends; and what
//! GGUF has no words for.

use crate::{
    tokenizer::{TEXTS, demo, demo_metadata},
    tokenizer_files::{added, tokenizer_json},
};
use pocketlm::{
    Error,
    format::{Folder, Metadata},
    text::{ChatTemplate, Specials, Tokenizer, gguf_metadata},
};
use serde_json::json;

pub(crate) fn folder(tokenizer: &serde_json::Value, tokenizer_config: serde_json::Value) -> Folder {
    Folder {
        path: "model".into(),
        config: json!({}),
        generation_config: None,
        tokenizer_config: Some(tokenizer_config),
        tokenizer: Some(tokenizer.to_string().into_bytes()),
        chat_template: None,
        tensors: Vec::new(),
    }
}

pub(crate) fn metadata(folder: &Folder, n_vocab: usize) -> Metadata {
    let mut metadata = Metadata::default();
    for (key, value) in gguf_metadata(folder, n_vocab).unwrap() {
        metadata.insert(&key, value);
    }
    metadata
}

/// Both encode and decode `texts` alike, and end alike.
pub(crate) fn check_same(ours: &Tokenizer, theirs: &Tokenizer, texts: &[&str]) {
    for specials in [Specials::Recognised, Specials::AsText] {
        for text in texts {
            let ids = ours.encode(text, specials).unwrap();
            assert_eq!(theirs.encode(text, specials).unwrap(), ids, "{text:?} {specials:?}");
            assert_eq!(theirs.decode(&ids), ours.decode(&ids), "{text:?}");
            assert_eq!(theirs.decode_with_specials(&ids), ours.decode_with_specials(&ids), "{text:?}");
        }
    }
    assert_eq!((theirs.bos(), theirs.eos(), theirs.adds_bos()), (ours.bos(), ours.eos(), ours.adds_bos()));
    assert_eq!(theirs.end_of_generation_ids(), ours.end_of_generation_ids());
}

/// The demo model's tokenizer as its publisher's folder has it.
fn demo_json() -> serde_json::Value {
    let merges = json!(demo_metadata().strings("tokenizer.ggml.merges").unwrap());
    let tokens = demo_metadata().strings("tokenizer.ggml.tokens").unwrap();
    let types = demo_metadata().integers("tokenizer.ggml.token_type").unwrap();
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let control = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| **kind == 3);
    let control: Vec<_> = control.map(|(id, (token, _))| added(id as u32, token, true, false)).collect();
    byte_level_json(json!(control), json!(vocab), merges)
}

fn small_byte_level() -> serde_json::Value {
    byte_level_json(json!([added(3, "<tool>", false, false)]), json!({ "a": 0, "b": 1, "ab": 2 }), json!(["a b"]))
}

fn byte_level_json(
    added_tokens: serde_json::Value,
    vocab: serde_json::Value,
    merges: serde_json::Value,
) -> serde_json::Value {
    json!({
        "version": "1.0", "added_tokens": added_tokens, "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Digits", "individual_digits": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true }] },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": 0.5, "unk_token": null, "vocab": vocab,
            "merges": merges }
    })
}

#[test]
fn byte_level() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let config = json!({ "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" }, "unk_token": "<|endoftext|>",
                         "pad_token": "<|im_end|>", "chat_template": template });
    let mut folder = folder(&demo_json(), config);
    folder.generation_config = Some(json!({ "eos_token_id": [2, 7, 8, 9] }));
    let from_folder = Tokenizer::in_folder(&folder).unwrap().unwrap();
    let metadata = metadata(&folder, 49_160);
    let from_gguf = Tokenizer::from_gguf(&metadata).unwrap().unwrap();
    check_same(&from_folder, &from_gguf, TEXTS);
    for text in TEXTS {
        let ids = demo().encode(text, Specials::Recognised).unwrap();
        assert_eq!(from_folder.encode(text, Specials::Recognised).unwrap(), ids, "{text:?}");
    }
    assert_eq!(metadata.string("tokenizer.ggml.pre"), Some("smollm"));
    assert_eq!(metadata.strings("tokenizer.ggml.merges"), demo_metadata().strings("tokenizer.ggml.merges"));
    assert_eq!(ChatTemplate::source_in_gguf(&metadata), Some(template));
    // Rows of the embedding that no token has.
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap()[49_159], "[PAD49159]");
    assert_eq!(metadata.integers("tokenizer.ggml.token_type").unwrap()[49_151..], [1, 5, 5, 5, 5, 5, 5, 5, 5]);
    let ids = ["bos", "eos", "unknown", "padding", "eot", "eom"];
    let ids = ids.map(|name| metadata.unsigned(&format!("tokenizer.ggml.{name}_token_id")));
    assert_eq!(ids, [1, 2, 0, 2, 7, 8].map(Some));
    assert_eq!(metadata.integers("pocketlm.tokenizer.end_ids"), Some(&[9][..]));
}

#[test]
fn sentencepiece() {
    let mut file = tokenizer_json();
    // As Phi-3's: `</s>` is not called special, and takes the white space after it.
    file["added_tokens"][1]["normalized"] = json!(false);
    file["added_tokens"][2] = added(2, "</s>", false, false);
    file["added_tokens"][2]["rstrip"] = json!(true);
    file["added_tokens"][3]["lstrip"] = json!(true);
    let mut folder = folder(&file, json!({ "eos_token": "</s>" }));
    let metaspace =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
    let normalizers = file["normalizer"].clone();
    let replace = normalizers["normalizers"][1].clone();
    let cases = [
        (normalizers, json!(null)),
        (replace, json!(null)),
        (json!(null), metaspace("first")),
        (json!(null), metaspace("always")),
        (json!(null), metaspace("never")),
    ];
    let spaced = [" <s> a", "a</s> \n a", "a <|end|> a", "  a", "<s>a", "a</s>b<|end|>  "];
    for (normalizer, pre_tokenizer) in cases {
        file["normalizer"] = normalizer;
        file["pre_tokenizer"] = pre_tokenizer;
        folder.tokenizer = Some(file.to_string().into_bytes());
        let from_folder = Tokenizer::in_folder(&folder).unwrap().unwrap();
        let metadata = metadata(&folder, 264);
        let from_gguf = Tokenizer::from_gguf(&metadata).unwrap().unwrap();
        check_same(&from_folder, &from_gguf, TEXTS);
        check_same(&from_folder, &from_gguf, &spaced);
        let types = metadata.integers("tokenizer.ggml.token_type").unwrap();
        assert_eq!((&types[..4], &types[259..]), (&[2, 3, 4, 6][..], &[1, 1, 1, 1, 4][..]));
    }
    assert_eq!(metadata(&folder, 264).floats("tokenizer.ggml.scores").unwrap()[259..], [-1.0, -1.0, -1.0, 0.0, 0.0]);
}

#[test]
fn without_bos() {
    let mut file = tokenizer_json();
    file["post_processor"] = json!(null);
    let metadata = metadata(&folder(&file, json!({})), 264);
    assert_eq!(metadata.unsigned("tokenizer.ggml.bos_token_id"), None);
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap().unwrap();
    assert_eq!(tokenizer.encode_prompt("a").unwrap(), [262]);
}

#[test]
fn composed_texts() {
    let mut file = demo_json();
    file["normalizer"] = json!({ "type": "NFC" });
    let folder = folder(&file, json!({}));
    let from_folder = Tokenizer::in_folder(&folder).unwrap().unwrap();
    let from_gguf = Tokenizer::from_gguf(&metadata(&folder, 49_152)).unwrap().unwrap();
    check_same(&from_folder, &from_gguf, TEXTS);
    let text = "e\u{301}";
    assert_eq!(from_gguf.encode(text, Specials::AsText).unwrap(), demo().encode("é", Specials::AsText).unwrap());
}

#[test]
fn no_tokenizer() {
    let mut folder = folder(&json!({}), json!({}));
    folder.tokenizer = None;
    let metadata = metadata(&folder, 10);
    assert_eq!(metadata.string("tokenizer.ggml.model"), Some("no_vocab"));
    assert!(Tokenizer::from_gguf(&metadata).unwrap().is_none());
}

#[test]
fn what_gguf_has_no_words_for() {
    let complaint = |mut file: serde_json::Value, pointer: &str, value: serde_json::Value| {
        *file.pointer_mut(pointer).unwrap() = value;
        let error = gguf_metadata(&folder(&file, json!({})), 264).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. } | Error::Config { .. }), "{error:?}");
        error.to_string()
    };
    let split = json!({ "type": "Split", "pattern": { "Regex": "a+" }, "behavior": "Isolated", "invert": false });
    let no_split = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first" });
    let bytes = small_byte_level();
    let mut normalized = tokenizer_json();
    normalized["added_tokens"][3] = added(263, "<tool>", false, true);
    let cases = [
        (bytes.clone(), "/pre_tokenizer/pretokenizers/0", split, "a+"),
        (bytes.clone(), "/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true), "add_prefix_space"),
        (bytes.clone(), "/normalizer", json!({ "type": "Lowercase" }), "Lowercase"),
        (bytes.clone(), "/model/vocab/b", json!(300), "token 300 `b` has no row in the model's 264 embeddings"),
        (bytes.clone(), "/model/vocab/b", json!(0), "another token both have id 0"),
        (bytes.clone(), "/model/unk_token", json!("a"), "unknown token in place of some bytes"),
        (bytes, "/added_tokens/0/single_word", json!(true), "single word"),
        (tokenizer_json(), "/model/merges", json!([]), "does not merge `▁` and `a`, though `▁a` is a token"),
        (tokenizer_json(), "/model/byte_fallback", json!(false), "without byte_fallback"),
        (tokenizer_json(), "/pre_tokenizer", no_split, "Metaspace"),
        (tokenizer_json(), "/added_tokens/3/content", json!("a".repeat(2000)), "a token of 2000 bytes"),
        (normalized, "/version", json!("1.0"), "`<tool>`"),
    ];
    for (file, pointer, value, expected) in cases {
        let complaint = complaint(file, pointer, value);
        assert!(complaint.contains(expected), "{pointer}: {complaint}");
    }
}
