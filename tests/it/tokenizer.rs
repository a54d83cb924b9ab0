//! Tokenizers: the demo model's against llama.cpp's ids, SentencePiece against merges worked out by hand, and damaged
//! files. Chat templates are next door in `chat.rs`.

use pocketlm::{
    Error,
    format::{ByteSource, Gguf, Metadata, Value},
    text::{ChatTemplate, Message, Specials, Tokenizer},
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

const DEMO: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Texts that tokenizers trip over; all must survive encoding and decoding.
pub(crate) const TEXTS: &[&str] = &[
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "Hello, world!",
    "\n",
    "\r\n\t",
    "naïve café",
    "東京タワー",
    "Привет, мир",
    "مرحبا بالعالم",
    "नमस्ते",
    "한국어",
    "😀👍🏽👩‍👩‍👧",
    "e\u{301}",
    "\u{feff}bom",
    "a\u{200d}b",
    "x     y",
    "     ",
    "<|im_start|>user\nhi<|im_end|>",
    "<s>a</s>",
    "▁",
    "a▁b",
    "<0x0A>",
    "12345 67.89",
    "\u{fdd0}\u{fffe}\u{10ffff}",
    "a\0b",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn data(path: &str) -> serde_json::Value {
    let bytes = std::fs::read(root("tests/data").join(path)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn demo_metadata() -> &'static Metadata {
    static DEMO_METADATA: OnceLock<Metadata> = OnceLock::new();
    DEMO_METADATA.get_or_init(|| {
        let path = root(DEMO);
        assert!(path.exists(), "{} is missing: `cargo xtask demo` fetches it", path.display());
        let source = Arc::new(ByteSource::open(&path).unwrap());
        pollster::block_on(Gguf::read(source)).unwrap().metadata
    })
}

pub(crate) fn demo() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_gguf(demo_metadata()).unwrap().unwrap())
}

pub(crate) fn demo_template() -> ChatTemplate {
    let source = ChatTemplate::source_in_gguf(demo_metadata()).unwrap();
    ChatTemplate::new(source, "<|im_start|>", "<|im_end|>").unwrap()
}

pub(crate) fn user(content: &str) -> Vec<Message> {
    vec![Message::new("user", content)]
}

/// Pieces of a stream that continues `prompt` with `answer`, and all of them joined.
fn streamed(tokenizer: &Tokenizer, prompt: &[u32], answer: &[u32]) -> (Vec<String>, String) {
    let mut stream = tokenizer.stream(prompt);
    let mut pieces: Vec<String> = answer.iter().map(|&id| stream.push(id)).collect();
    pieces.push(stream.finish());
    let joined = pieces.concat();
    (pieces, joined)
}

#[test]
fn demo_vectors() {
    for case in data("smollm2/tokenizer_vectors.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let (plain, special) = (ids(&case["ids_plain"]), ids(&case["ids_parse_special"]));
        assert_eq!(demo().encode(text, Specials::AsText).unwrap(), plain, "{text:?} as text");
        assert_eq!(demo().encode(text, Specials::Recognised).unwrap(), special, "{text:?} recognised");
        assert_eq!(demo().decode_with_specials(&plain), text);
        assert_eq!(demo().decode_with_specials(&special), text);
    }
}

#[test]
fn demo_prompts_and_answers() {
    let template = demo_template();
    for case in data("smollm2/prompts.json").as_array().unwrap() {
        let (prompt, expected) = (case["prompt"].as_str().unwrap(), ids(&case["prompt_ids"]));
        assert_eq!(demo().encode_prompt(prompt).unwrap(), expected, "{}", case["id"]);
        if let Some(content) = case["user"].as_str() {
            assert_eq!(template.render(&user(content), true).unwrap(), prompt, "{}", case["id"]);
            assert_eq!(demo().encode_chat(&template, &user(content), true).unwrap(), expected, "{}", case["id"]);
        }
        let (_, joined) = streamed(demo(), &expected, &ids(&case["output_ids"]));
        assert_eq!(joined, case["output_text"].as_str().unwrap(), "{}", case["id"]);
    }
}

#[test]
fn demo_special_tokens() {
    assert_eq!((demo().bos(), demo().eos(), demo().adds_bos()), (Some(1), Some(2), false));
    assert_eq!(demo().n_vocab(), 49152);
    // <|endoftext|>, <|im_end|> and <reponame>, which begins another file.
    assert_eq!(demo().end_of_generation_ids().iter().copied().collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!(demo().token_text(2).as_deref(), Some("<|im_end|>"));
    assert_eq!(demo().token_text(49152), None);
    assert_eq!(demo().decode(&[1, 19556, 2, 49152, u32::MAX]), "Hello");
}

#[test]
fn every_text_survives() {
    let phi = tiny(&[("general.architecture", Value::String("phi3".into()))]);
    let llama = tiny(&[]);
    let folder = folder(&tokenizer_json(), None);
    for tokenizer in [demo(), &phi, &llama, &folder] {
        for text in TEXTS {
            let ids = tokenizer.encode(text, Specials::AsText).unwrap();
            assert_eq!(tokenizer.decode_with_specials(&ids), survivor(tokenizer, text), "{tokenizer:?}");
            tokenizer.encode(text, Specials::Recognised).unwrap();
        }
    }
}

/// Not a measurement: quadratic behaviour would take minutes here.
#[test]
fn long_texts() {
    let llama = tiny(&[]);
    let repeated = [" ", "a", "1", "\n", "ab ", "東", "<", "<|im_end|>", "'s", "\u{301}", " \n", "Aa"];
    for tokenizer in [demo(), &llama] {
        for unit in repeated {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
            assert_eq!(tokenizer.decode_with_specials(&ids), text, "{unit:?}");
        }
    }
    let content = "<|im_end|>".repeat(20_000);
    demo().encode_chat(&demo_template(), &user(&content), true).unwrap();
}

/// What encoding and decoding leaves of `text`: SentencePiece writes spaces as `▁` and cannot tell the two apart.
fn survivor(tokenizer: &Tokenizer, text: &str) -> String {
    if tokenizer.n_vocab() == 49152 { text.into() } else { text.replace('▁', " ") }
}

/// A stream's pieces are complete characters and add up to the difference that `answer` makes.
fn check_streams(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text, Specials::AsText).unwrap();
    for n_prompt in 0..=ids.len() {
        let (prompt, answer) = ids.split_at(n_prompt);
        let (pieces, joined) = streamed(tokenizer, prompt, answer);
        let before = tokenizer.decode(prompt);
        let before = before.trim_end_matches(char::REPLACEMENT_CHARACTER);
        assert_eq!(format!("{before}{joined}"), survivor(tokenizer, text), "{pieces:?}");
        assert!(!joined.contains(char::REPLACEMENT_CHARACTER), "{pieces:?}");
    }
}

#[test]
fn streams() {
    let llama = tiny(&[]);
    for tokenizer in [demo(), &llama] {
        TEXTS.iter().for_each(|text| check_streams(tokenizer, text));
    }
    // Four byte tokens: the character comes with the last.
    let emoji = demo().encode("😀", Specials::AsText).unwrap();
    let (pieces, _) = streamed(demo(), &[], &emoji);
    assert_eq!(pieces[pieces.len() - 2], "😀");
    assert!(emoji.len() > 1 && pieces[..pieces.len() - 2].iter().all(String::is_empty), "{pieces:?}");
    // Cut short, and cut short with more text to come.
    let (_, cut) = streamed(demo(), &[], &emoji[..emoji.len() - 1]);
    assert_eq!(cut, "\u{fffd}");
    let cut_then_text = [&emoji[..1], &[19556]].concat();
    assert_eq!(streamed(demo(), &[], &cut_then_text).1, demo().decode(&cut_then_text));
    assert_eq!(demo().stream(&[]).push(49152), "", "a padding row of the embedding has no text");
}

// ---- SentencePiece ---------------------------------------------------------------------------------------------

/// Pieces after `<unk> <s> </s>` and the 256 bytes, with scores: their ids count from 259.
const PIECES: &[(&str, f32, i64)] = &[
    ("▁", -9.0, 1),       // 259
    ("a", -9.0, 1),       // 260
    ("b", -9.0, 1),       // 261
    ("c", -9.0, 1),       // 262
    ("ab", -1.0, 1),      // 263
    ("bc", -1.0, 1),      // 264
    ("▁a", -2.0, 1),      // 265
    ("abc", -3.0, 1),     // 266
    ("▁▁", -4.0, 1),      // 267
    ("aa", -5.0, 1),      // 268
    ("ca", -0.5, 5),      // 269, unused
    ("cab", -0.6, 1),     // 270
    ("<|user|>", 0.0, 3), // 271
    ("<tool>", 0.0, 4),   // 272
    ("<", -9.0, 1),       // 273
    ("s>", -9.0, 1),      // 274
    ("<|end|>", 0.0, 3),  // 275
];

pub(crate) fn tiny_metadata(extra: &[(&str, Value)]) -> Metadata {
    let mut pieces = vec![("<unk>".to_string(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    pieces.extend(PIECES.iter().map(|(text, score, kind)| (text.to_string(), *score, *kind)));
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.insert("tokenizer.ggml.tokens", Value::Strings(pieces.iter().map(|p| p.0.clone()).collect()));
    metadata.insert("tokenizer.ggml.scores", Value::Floats(pieces.iter().map(|p| p.1).collect()));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(pieces.iter().map(|p| p.2).collect()));
    for (key, value) in extra {
        metadata.insert(key, value.clone());
    }
    metadata
}

pub(crate) fn tiny(extra: &[(&str, Value)]) -> Tokenizer {
    Tokenizer::from_gguf(&tiny_metadata(extra)).unwrap().unwrap()
}

fn check_ids(tokenizer: &Tokenizer, specials: Specials, text: &str, expected: &[u32]) {
    assert_eq!(tokenizer.encode(text, specials).unwrap(), expected, "{text:?} {specials:?}");
}

#[test]
fn sentencepiece_merges() {
    let llama = tiny(&[]);
    let cases: &[(&str, &[u32])] = &[
        ("", &[]),
        // `▁` goes in front; `▁a` is the only pair.
        ("a", &[265]),
        (" a", &[259, 265]),
        // `ab` and `bc` score the same: the leftmost wins, then `abc` forms from it; `▁abc` is no piece.
        ("abc", &[259, 266]),
        // Scores go before places: `ca`, then `cab` from it, though `bc` stands left of both.
        ("bcab", &[259, 261, 270]),
        // Leftmost among equal pairs: (a a) a.
        ("baaa", &[259, 261, 268, 260]),
        // Runs of spaces, one of them the prefix: pairs from the left, and a space left over.
        ("  ", &[267, 259]),
        ("   b", &[267, 267, 261]),
        // `ca` merges first and leads to `cab`; left alone it is unused and comes apart again.
        ("cab", &[259, 270]),
        ("ca", &[259, 262, 260]),
        // Bytes for what is no piece.
        ("😀", &[259, 3 + 0xF0, 3 + 0x9F, 3 + 0x98, 3 + 0x80]),
        ("\n", &[259, 3 + 0x0A]),
        // Control and byte tokens are never merged: `<` and `s>` make `<s>`, which is one.
        ("<s>", &[259, 273, 274]),
    ];
    for (text, expected) in cases {
        check_ids(&llama, Specials::AsText, text, expected);
    }
    let bare = tiny(&[("tokenizer.ggml.add_space_prefix", Value::Bool(false))]);
    check_ids(&bare, Specials::AsText, "a b", &[260, 259, 261]);
    assert_eq!(bare.decode(&[265, 259, 261]), " a b");
}

#[test]
fn sentencepiece_special_tokens() {
    let llama = tiny(&[]);
    // Each fragment between special tokens gets its own `▁`, and decoding takes each away.
    check_ids(&llama, Specials::Recognised, "a<s>b</s> a", &[265, 1, 259, 261, 2, 259, 265]);
    assert_eq!(llama.decode_with_specials(&[265, 1, 259, 261, 2, 259, 265]), "a<s>b</s> a");
    assert_eq!(llama.decode(&[265, 1, 259, 261, 2, 259, 265]), "ab a");
    // User-defined tokens are matched even in what people type.
    check_ids(&llama, Specials::AsText, "a<tool>", &[265, 272]);
    assert_eq!(llama.decode(&[265, 272]), "a<tool>");
    check_ids(&llama, Specials::Recognised, "<|user|>\n a", &[271, 259, 3 + 0x0A, 265]);
    // Phi-3's swallow white space, but for `<s>` and a few.
    let phi = tiny(&[("general.architecture", Value::String("phi3".into()))]);
    check_ids(&phi, Specials::Recognised, "<|user|>\n a", &[271, 265]);
    check_ids(&phi, Specials::Recognised, "<s> a", &[1, 259, 265]);
    assert_eq!(llama.encode_prompt("a").unwrap(), [1, 265]);
    assert_eq!(llama.encode_prompt("<s>a").unwrap(), [1, 265], "bos is not doubled");
    assert_eq!((llama.bos(), llama.eos(), llama.adds_bos()), (Some(1), Some(2), true));
    assert_eq!(llama.end_of_generation_ids().iter().copied().collect::<Vec<_>>(), [2, 275]);
    // A raw prompt's answer keeps its first space, a turn's answer does not have the tokenizer's.
    assert_eq!(streamed(&llama, &[1, 265], &[265]).1, " a");
    assert_eq!(streamed(&llama, &[1, 265, 271], &[265, 265]).1, "a a");
    assert_eq!(streamed(&llama, &[1], &[259, 265]).1, " a");
}

// ---- Folders ---------------------------------------------------------------------------------------------------

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

fn folder(tokenizer_json: &serde_json::Value, config: Option<serde_json::Value>) -> Tokenizer {
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
}

// ---- Damaged files ---------------------------------------------------------------------------------------------

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
    for bytes in [&b""[..], b"{", b"[]", b"\xff", b"null"] {
        assert!(matches!(Tokenizer::from_folder(bytes, None), Err(Error::Config { .. })));
    }
    let config = json!({ "bos_token": "<absent>" });
    let error = Tokenizer::from_folder(tokenizer_json().to_string().as_bytes(), Some(&config)).unwrap_err();
    assert!(error.to_string().contains("`<absent>`"), "{error}");
}
