//! SentencePiece against merges worked out by hand, with a vocabulary of a few pieces. Real ones are next door in
//! `vocabularies.rs`.

use crate::tokenizer::streamed;
use pocketlm::{
    format::{Metadata, Value},
    text::{Specials, Tokenizer},
};

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

pub(crate) fn check_ids(tokenizer: &Tokenizer, specials: Specials, text: &str, expected: &[u32]) {
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
