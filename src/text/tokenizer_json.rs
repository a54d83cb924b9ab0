//! `tokenizer.json` as it is written: its parts, with the vocabulary read once and straight into what will be used.
//!
//! The tokenizers crate would read the file through two trees of JSON values, which for 128,000 tokens take more
//! memory than the model's context.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokenizers::{
    AddedToken, ModelWrapper,
    models::bpe::{BPE, Vocab},
};

/// The file's parts.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerJson<'a> {
    version: Option<String>,
    #[serde(default)]
    pub added_tokens: Vec<Added>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    #[serde(default)]
    pub decoder: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// A token matched as a whole.
#[derive(Debug, Deserialize)]
pub(super) struct Added {
    pub id: u32,
    #[serde(flatten)]
    pub token: AddedToken,
}

/// How the model merges: everything but its vocabulary.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Merging {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
}

/// A BPE model's vocabulary.
#[derive(Deserialize)]
pub(super) struct Vocabulary {
    pub vocab: Vocab,
    merges: Vec<Merge>,
}

/// Files write merges as pairs or, the older way, as lines with a space between the two.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl<'a> TokenizerJson<'a> {
    /// Reads the file. How its added tokens are matched is for `tokenizer_config` to say, where it says so.
    ///
    /// Errors: [`Error::Config`] for what is not such a file, [`Error::Unsupported`] for parts that no language model
    /// here uses and that the tokenizers crate would panic on.
    pub fn read(bytes: &'a [u8], tokenizer_config: Option<&Value>) -> Result<Self> {
        let mut file: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        for Added { id, token } in &mut file.added_tokens {
            let said = tokenizer_config.map_or(&Value::Null, |config| &config["added_tokens_decoder"][id.to_string()]);
            if said["content"] == token.content {
                let flag = |key: &str, otherwise: bool| said[key].as_bool().unwrap_or(otherwise);
                token.single_word = flag("single_word", token.single_word);
                token.lstrip = flag("lstrip", token.lstrip);
                token.rstrip = flag("rstrip", token.rstrip);
                token.normalized = flag("normalized", token.normalized);
                token.special = flag("special", token.special);
            }
        }
        if file.version.as_deref().is_some_and(|version| version != "1.0") {
            return Err(wrong(format!("unknown version {:?}", file.version.unwrap_or_default())));
        }
        file.check()?;
        Ok(file)
    }

    /// How the model merges; `None` for models that are not BPE.
    pub fn merging(&self) -> Result<Option<Merging>> {
        let merging: Merging = serde_json::from_str(self.model.get()).map_err(wrong)?;
        if merging.continuing_subword_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty())
            && merging.kind.as_deref() != Some("WordPiece")
        {
            return Err(Error::Unsupported {
                what: "a BPE model with a continuing_subword_prefix".into(),
                supported: "byte-level BPE, SentencePiece BPE".into(),
            });
        }
        let is_bpe = merging.kind.as_deref().is_none_or(|kind| kind == "BPE");
        Ok(is_bpe.then_some(merging))
    }

    /// The vocabulary of a BPE model and its merges, each of which makes a token of the vocabulary.
    pub fn vocabulary(&self) -> Result<(Vocab, Vec<(String, String)>)> {
        let Vocabulary { vocab, merges } = serde_json::from_str(self.model.get()).map_err(wrong)?;
        let mut pairs = Vec::with_capacity(merges.len());
        let mut merged = String::new();
        for merge in merges {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left, right),
                Merge::Line(line) if line.starts_with("#version") => continue,
                Merge::Line(line) => {
                    line.split_once(' ').map(|(left, right)| (left.into(), right.into())).unwrap_or_default()
                }
            };
            merged.clear();
            merged.extend([left.as_str(), right.as_str()]);
            // The tokenizers crate panics on some of these.
            if merged.is_empty() || !vocab.contains_key(&merged) {
                return Err(wrong(format!("merge `{left} {right}` makes no token of the vocabulary")));
            }
            pairs.push((left, right));
        }
        Ok((vocab, pairs))
    }

    /// The model as the tokenizers crate runs it.
    pub fn model(&self) -> Result<ModelWrapper> {
        let Some(merging) = self.merging()? else {
            return serde_json::from_str(self.model.get()).map_err(wrong);
        };
        let (vocab, merges) = self.vocabulary()?;
        // Merges left out at random, "dropout", are for training: here the same text must give the same ids.
        let mut builder = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .fuse_unk(merging.fuse_unk.unwrap_or(false))
            .byte_fallback(merging.byte_fallback.unwrap_or(false))
            .ignore_merges(merging.ignore_merges.unwrap_or(false));
        if let Some(unk_token) = merging.unk_token {
            builder = builder.unk_token(unk_token);
        }
        if let Some(suffix) = merging.end_of_word_suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        Ok(ModelWrapper::BPE(builder.build().map_err(wrong)?))
    }

    fn check(&self) -> Result<()> {
        const NORMALIZERS: &[&str] = &[
            "Sequence",
            "Prepend",
            "Replace",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Lowercase",
            "Strip",
            "StripAccents",
            "ByteLevel",
        ];
        const PRE_TOKENIZERS: &[&str] =
            &["Sequence", "ByteLevel", "Split", "Metaspace", "Digits", "Whitespace", "WhitespaceSplit", "Punctuation"];
        check_kinds(&self.normalizer, "normalizers", NORMALIZERS)?;
        check_kinds(&self.pre_tokenizer, "pretokenizers", PRE_TOKENIZERS)
    }
}

/// Only kinds that Llama's and Phi's relatives use: others panic, or allocate what the file says, on bad contents.
fn check_kinds(part: &Value, inner: &str, known: &[&str]) -> Result<()> {
    if part.is_null() {
        return Ok(());
    }
    let kind = part["type"].as_str().unwrap_or("(none)");
    if !known.contains(&kind) {
        return Err(Error::Unsupported {
            what: format!("`{kind}` among the {inner} of tokenizer.json"),
            supported: known.join(", "),
        });
    }
    // serde_json bounds how deep a file may nest.
    part[inner].as_array().into_iter().flatten().try_for_each(|part| check_kinds(part, inner, known))
}

/// The members of a sequence, or the one that stands for itself.
pub(super) fn parts<'a>(value: &'a Value, members: &str) -> &'a [Value] {
    value[members].as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// A complaint about the file.
pub(super) fn wrong(error: impl std::fmt::Display) -> Error {
    Error::config(format!("tokenizer.json: {error}"))
}
