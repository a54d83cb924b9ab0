//! Tokenizers: the demo model's against llama.cpp's ids, and what holds for all kinds. Chat templates are next door in
//! `chat.rs`.

use crate::{
    sentencepiece::tiny,
    tokenizer_files::{folder, tokenizer_json},
};
use pocketlm::{
    format::{ByteSource, Gguf, Metadata, Value},
    text::{ChatTemplate, Message, Specials, Tokenizer},
};
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
pub(crate) fn streamed(tokenizer: &Tokenizer, prompt: &[u32], answer: &[u32]) -> (Vec<String>, String) {
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
pub(crate) fn check_streams(tokenizer: &Tokenizer, text: &str) {
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
