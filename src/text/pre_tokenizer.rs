//! Pre-tokenizers of byte-level BPE vocabularies: which pieces of a text are merged on their own, by the names that
//! GGUF's `tokenizer.ggml.pre` gives them.
//!
//! A GGUF file holds only the name; the patterns are those of the `tokenizer.json` files the names stand for.

use super::tokenizer_json::parts;
use crate::error::{Error, Result};
use serde_json::Value;
use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    /// Applied one after the other: each splits what the ones before it left, and keeps what it matched.
    patterns: &'static [&'static str],
    /// Whether a piece that is a token as a whole is taken without merging.
    pub ignore_merges: bool,
    /// Whether the text begins with bos unless the file says otherwise.
    pub add_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer called `name`; [`Error::Unsupported`] when there is none.
    pub fn named(name: &str) -> Result<Self> {
        ALL.iter().find(|p| p.names.contains(&name)).copied().ok_or_else(|| Error::Unsupported {
            what: format!("the pre-tokenizer `{name}`"),
            supported: ALL.iter().flat_map(|p| p.names).copied().collect::<Vec<_>>().join(", "),
        })
    }

    /// The name of the pre-tokenizer in a `tokenizer.json`, as its `pre_tokenizer` has it; `None` when there is none.
    pub fn name_of(file: &Value, ignore_merges: bool) -> Option<&'static str> {
        let patterns = patterns_of(file)?;
        let found = ALL.iter().find(|p| p.patterns == patterns && p.ignore_merges == ignore_merges)?;
        found.names.first().copied()
    }

    /// The pre-tokenizer as the tokenizers crate runs it.
    pub fn build(&self) -> PreTokenizerWrapper {
        let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false));
        PreTokenizerWrapper::Sequence(Sequence::new(
            self.patterns.iter().map(|p| splits_by(p)).chain([bytes]).collect(),
        ))
    }
}

fn splits_by(pattern: &str) -> PreTokenizerWrapper {
    let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false);
    PreTokenizerWrapper::Split(split.expect("the patterns of this file are valid"))
}

/// The patterns that a byte-level `pre_tokenizer` splits by, in the spelling of this file; `None` for anything else.
fn patterns_of(file: &Value) -> Option<Vec<&str>> {
    let (last, splits) = parts(file, "pretokenizers").split_last()?;
    let mut patterns = Vec::new();
    for split in splits {
        let pattern = &split["pattern"]["Regex"];
        patterns.push(match split["type"].as_str()? {
            "Split" if split["behavior"] == "Isolated" && split["invert"] != true => pattern.as_str()?,
            // To remove what does not match is to keep what does, if the pattern leaves nothing out.
            "Split" if split["behavior"] == "Removed" && split["invert"] == true && splits.len() == 1 => {
                pattern.as_str().filter(|pattern| pattern.ends_with(r"|\s+(?!\S)|\s+"))?
            }
            "Digits" if split["individual_digits"] == true => r"\p{N}",
            "Digits" => r"\p{N}+",
            _ => return None,
        });
    }
    if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
        return None;
    }
    if last["use_regex"] != false {
        patterns.push(GPT2);
    }
    let ours = |pattern| SAME.iter().find(|(other, _)| *other == pattern).map_or(pattern, |(_, ours)| *ours);
    Some(patterns.into_iter().map(ours).collect())
}

/// Other spellings of patterns below, with what they match the same as.
const SAME: &[(&str, &str)] = &[
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", GPT2),
    (
        concat!(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}",
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
        LLAMA3,
    ),
];

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The letters with case of DeepSeek's own list, which is older than today's Unicode.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}",
    r"\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}",
    r"\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}",
    r"\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}",
    r"\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}",
    r"\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}",
    r"\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}",
    r"\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}",
    r"\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}",
    r"\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}",
    r"\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}",
    r"\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}",
    r"\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+"
);

const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
);

const SEED: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}",
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Bloom's words: anything but white space and the punctuation of several scripts, as written in its file.
const BLOOM: &str = " ?[^(\\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+";

const CJK_AND_KANA: &str = r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const CJK_AND_HANGUL: &str = r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";

const fn plain(names: &'static [&'static str], patterns: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: false, add_bos: false }
}

const ALL: &[PreTokenizer] = &[
    // "default" is what llama.cpp runs for files that name none.
    plain(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    plain(
        &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    plain(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[r"\p{N}", GPT2],
    ),
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA3]),
    plain(&["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"], &[QWEN2]),
    plain(&["qwen35"], &[QWEN35]),
    PreTokenizer { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    plain(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[GPT4O]),
    plain(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+",
            r"\s+$",
            CJK_AND_HANGUL,
            r"\p{N}+",
        ],
    ),
    plain(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK_AND_HANGUL, r"\p{N}"]),
    plain(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &[r"\p{N}{1,3}", CJK_AND_KANA, DEEPSEEK3]),
    plain(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    plain(&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    plain(&["viking"], &[BLOOM, r"\p{N}"]),
    plain(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    plain(&["seed-coder"], &[SEED]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizer as _};

    #[test]
    fn names_are_found() {
        let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": use_regex });
        let split = |pattern: &str, behavior: &str, invert: bool| {
            let split =
                json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": behavior, "invert": invert });
            json!({ "type": "Sequence", "pretokenizers": [split, bytes(false)] })
        };
        let digits = json!({ "type": "Digits", "individual_digits": true });
        let cases = [
            (bytes(true), false, Some("gpt-2")),
            (bytes(false), false, None),
            (json!({ "type": "Sequence", "pretokenizers": [digits, bytes(true)] }), false, Some("smollm")),
            (split(GPT2, "Isolated", false), false, Some("gpt-2")),
            (split(SAME[0].0, "Isolated", false), false, Some("gpt-2")),
            (split(LLAMA3, "Isolated", false), true, Some("llama-bpe")),
            (split(LLAMA3, "Isolated", false), false, Some("dbrx")),
            (split(SAME[1].0, "Removed", true), false, Some("dbrx")),
            (split(LLAMA3, "Removed", false), false, None),
            (split(BLOOM, "Removed", true), false, None),
            (split(QWEN2, "Isolated", false), false, Some("qwen2")),
            (split(GPT4O, "Isolated", false), false, Some("gpt-4o")),
            (split("a+", "Isolated", false), false, None),
            (json!({ "type": "Whitespace" }), false, None),
            (json!(null), false, None),
        ];
        for (file, ignore_merges, expected) in cases {
            assert_eq!(PreTokenizer::name_of(&file, ignore_merges), expected, "{file}");
        }
    }

    #[test]
    fn the_same_in_other_words() {
        let text =
            "I'm HERE'S 'ſ  a1234567\u{b2}½ \n\n \n x\r\n\r\n!?\n\t ...\u{a0}\u{3000}東京, e\u{301} \u{200d}🙂   ";
        let splits = |pattern: &str| {
            let mut split = tokenizers::PreTokenizedString::from(text);
            splits_by(pattern).pre_tokenize(&mut split).expect("it splits");
            let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
            splits.into_iter().map(|(_, offsets, _)| offsets).collect::<Vec<_>>()
        };
        for (other, ours) in SAME {
            assert_eq!(splits(other), splits(ours), "{other}");
        }
    }

    #[test]
    fn every_pattern_compiles_and_every_name_is_unique() {
        let mut names = std::collections::HashSet::new();
        for pre_tokenizer in ALL {
            pre_tokenizer.build();
            for name in pre_tokenizer.names {
                assert!(names.insert(name), "`{name}` is listed twice");
            }
        }
    }
}
