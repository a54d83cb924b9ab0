//! Tokenizers from GGUF metadata, by the rules of llama.cpp's `llama-vocab.cpp`, which wrote most such files.

use super::{
    pieces::{Piece, PieceKind, Pieces, SpacePrefix},
    pre_tokenizer::PreTokenizer,
    sentencepiece::{Fallback, Scored, SentencePiece},
    tokenizer::{END_TEXTS, Ends, Merger, Parts, Tokenizer, looks_like_control},
};
use crate::{
    error::{Error, Result},
    format::Metadata,
};
use std::collections::{HashMap, HashSet};
use tokenizers::{
    AddedToken, AddedVocabulary, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper,
    models::bpe::{BPE, Vocab},
    normalizers::unicode,
    pre_tokenizers::metaspace::{Metaspace, PrependScheme},
};

/// Keys of our own, for what a `tokenizer.json` says and the keys of llama.cpp leave out. Ids of tokens that swallow
/// the white space before them, or after them.
pub(super) const LSTRIP: &str = "pocketlm.tokenizer.lstrip";
pub(super) const RSTRIP: &str = "pocketlm.tokenizer.rstrip";
/// Ids of further tokens that end an answer.
pub(super) const END_IDS: &str = "pocketlm.tokenizer.end_ids";
/// Whether texts are composed by Unicode's NFC first.
pub(super) const NFC: &str = "pocketlm.tokenizer.nfc";
/// Which fragments get a space in front, unless they begin with one: the `first` or `always`.
pub(super) const METASPACE: &str = "pocketlm.tokenizer.metaspace";

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The vocabulary as the file has it.
struct Vocabulary<'a> {
    tokens: &'a [String],
    types: Vec<TokenType>,
    ids: HashMap<&'a str, u32>,
}

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata; `None` when it holds none.
    ///
    /// Errors: [`Error::Unsupported`] for an unknown kind of tokenizer or pre-tokenizer, [`Error::Config`] for
    /// metadata that contradicts itself.
    pub fn from_gguf(metadata: &Metadata) -> Result<Option<Self>> {
        let model = metadata.string("tokenizer.ggml.model").unwrap_or("none");
        match model {
            "none" | "no_vocab" => Ok(None),
            "gpt2" => byte_level(metadata).map(Some),
            "llama" => sentencepiece(metadata).map(Some),
            _ => Err(Error::Unsupported {
                what: format!("the tokenizer `{model}`"),
                supported: "gpt2 (byte-level BPE), llama (SentencePiece BPE)".into(),
            }),
        }
    }
}

fn byte_level(metadata: &Metadata) -> Result<Tokenizer> {
    let vocabulary = Vocabulary::read(metadata)?;
    let name = metadata.string("tokenizer.ggml.pre").unwrap_or_else(|| {
        tracing::warn!("the file names no pre-tokenizer; using `default`, which may not be the model's");
        "default"
    });
    let pre_tokenizer = PreTokenizer::named(name)?;
    let merges = vocabulary.merges(metadata)?;
    let model = vocabulary.bpe(merges, pre_tokenizer.ignore_merges)?;
    let added = vocabulary.added(&model, metadata, |_| false)?;
    let pieces = vocabulary.pieces(|token, _| Pieces::byte_level(token), SpacePrefix::Never);
    let normalizer = metadata.bool(NFC).unwrap_or(false).then_some(NormalizerWrapper::NFC(unicode::NFC));
    let ends = vocabulary.ends(metadata, (None, None), pre_tokenizer.add_bos)?;
    let pre_tokenizer = Some(pre_tokenizer.build());
    let model = Merger::Trained(Box::new(ModelWrapper::BPE(model)));
    Tokenizer::new(Parts { added, normalizer, pre_tokenizer, model, pieces, ends })
}

fn sentencepiece(metadata: &Metadata) -> Result<Tokenizer> {
    let vocabulary = Vocabulary::read(metadata)?;
    let scores = vocabulary.scores(metadata)?;
    let mut scored = HashMap::new();
    for (&token, &id) in &vocabulary.ids {
        let kind = vocabulary.types[id as usize];
        // Control tokens, bytes and the unknown token are never found by merging, however they are spelt.
        if matches!(kind, TokenType::Normal | TokenType::UserDefined | TokenType::Unused) {
            let unused = kind == TokenType::Unused;
            scored.insert(token.into(), Scored { id, score: scores[id as usize], unused });
        }
    }
    let fallback = vocabulary.fallback(metadata)?;
    let (space_prefix, pre_tokenizer) = match metadata.string(METASPACE) {
        Some("first") => (SpacePrefix::First, Some(Metaspace::new('▁', PrependScheme::First, false))),
        Some("always") => (SpacePrefix::EachFragment, Some(Metaspace::new('▁', PrependScheme::Always, false))),
        _ if metadata.bool("tokenizer.ggml.add_space_prefix") == Some(false) => (SpacePrefix::Never, None),
        _ => (SpacePrefix::EachFragment, None),
    };
    let prefixes = space_prefix == SpacePrefix::EachFragment && pre_tokenizer.is_none();
    let model = Merger::SentencePiece(SentencePiece::new(scored, fallback, prefixes));

    // `AddedVocabulary` asks a model for the ids of its tokens; this one serves for nothing else.
    let ids = vocabulary.bpe(Vec::new(), false)?;
    let phi3 = is_phi3(metadata);
    let added =
        vocabulary.added(&ids, metadata, |token| phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&token))?;
    let bytes_of = |token: &str, kind| match Pieces::byte_token(token) {
        Some(byte) if kind == TokenType::Byte => [byte].into(),
        _ => Pieces::sentencepiece(token),
    };
    let pieces = vocabulary.pieces(bytes_of, space_prefix);
    let n_vocab = vocabulary.tokens.len() as u32;
    let default_ends = (Some(1).filter(|&id| id < n_vocab), Some(2).filter(|&id| id < n_vocab));
    let ends = vocabulary.ends(metadata, default_ends, true)?;
    let pre_tokenizer = pre_tokenizer.map(PreTokenizerWrapper::Metaspace);
    Tokenizer::new(Parts { added, normalizer: None, pre_tokenizer, model, pieces, ends })
}

/// Whether control tokens swallow the white space after them, which GGUF has no key for.
fn is_phi3(metadata: &Metadata) -> bool {
    let architecture = metadata.string("general.architecture").unwrap_or_default();
    let name = metadata.string("general.name").unwrap_or_default().to_lowercase();
    ["phi3", "phimoe"].contains(&architecture) || name.contains("phi-3") || name.contains("phi3")
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self> {
        let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap_or_default();
        if tokens.is_empty() {
            return Err(Error::config("tokenizer.ggml.tokens is missing or empty"));
        }
        let mut types = vec![TokenType::Normal; tokens.len()];
        if let Some(numbers) = metadata.integers("tokenizer.ggml.token_type") {
            check_length("token_type", numbers.len(), tokens.len())?;
            for (kind, number) in types.iter_mut().zip(numbers) {
                *kind = TokenType::from_number(*number);
            }
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
            // Of two tokens of one text the second can never be encoded.
            ids.entry(token.as_str()).or_insert(id as u32);
        }
        // Conversions that forget the type of these are common enough for llama.cpp to correct them. One that merges
        // lead to is text: Qwen 2 has `</s>` as a piece of HTML.
        let lines = metadata.strings("tokenizer.ggml.merges").unwrap_or_default();
        let is_merged = |text: &str| {
            lines.iter().filter_map(|line| line.split_once(' ')).any(|(left, right)| {
                left.len() + right.len() == text.len() && text.starts_with(left) && text.ends_with(right)
            })
        };
        for (text, id) in END_TEXTS.iter().filter_map(|text| ids.get_key_value(text)) {
            if !is_merged(text) {
                types[*id as usize] = TokenType::Control;
            }
        }
        Ok(Self { tokens, types, ids })
    }

    fn merges(&self, metadata: &Metadata) -> Result<Vec<(String, String)>> {
        let Some(lines) = metadata.strings("tokenizer.ggml.merges") else {
            return Err(Error::config("tokenizer.ggml.merges is missing"));
        };
        let mut merges = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            let wrong = |what: String| Error::config(format!("tokenizer.ggml.merges, entry {index} `{line}`: {what}"));
            // A token may itself begin with a space.
            let n_first = line.chars().next().map_or(0, char::len_utf8);
            let space = line[n_first..].find(' ').ok_or_else(|| wrong("there is no space in it".into()))?;
            let (left, right) = (&line[..n_first + space], &line[n_first + space + 1..]);
            let merged = [left, right].concat();
            for part in [left, right, &merged] {
                if !self.ids.contains_key(part) {
                    return Err(wrong(format!("`{part}` is not in the vocabulary")));
                }
            }
            // What people type must not become a control token by merging.
            if self.types[self.ids[merged.as_str()] as usize] != TokenType::Control {
                merges.push((left.into(), right.into()));
            }
        }
        Ok(merges)
    }

    fn bpe(&self, merges: Vec<(String, String)>, ignore_merges: bool) -> Result<BPE> {
        let ids = self.ids.iter().map(|(token, id)| (token.to_string(), *id));
        BPE::builder()
            .vocab_and_merges(ids.collect::<Vocab>(), merges)
            .ignore_merges(ignore_merges)
            .build()
            .map_err(|error| Error::config(format!("tokenizer.ggml.merges: {error}")))
    }

    fn scores(&self, metadata: &Metadata) -> Result<Vec<f32>> {
        let scores: Vec<f32> = match metadata.floats("tokenizer.ggml.scores") {
            Some(scores) => scores.to_vec(),
            None => match metadata.integers("tokenizer.ggml.scores") {
                Some(scores) => scores.iter().map(|&score| score as f32).collect(),
                None => return Err(Error::config("tokenizer.ggml.scores is missing")),
            },
        };
        check_length("scores", scores.len(), self.tokens.len())?;
        match scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(Error::config(format!("tokenizer.ggml.scores, entry {id}: not a number"))),
            None => Ok(scores),
        }
    }

    fn fallback(&self, metadata: &Metadata) -> Result<Fallback> {
        let mut bytes = [None; 256];
        for (&token, &id) in &self.ids {
            if let Some(byte) = Pieces::byte_token(token).filter(|_| self.types[id as usize] == TokenType::Byte) {
                bytes[byte as usize] = Some(id);
            }
        }
        let bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        if let Some(bytes) = bytes.and_then(|bytes| <Box<[u32; 256]>>::try_from(bytes).ok()) {
            return Ok(Fallback::Bytes(bytes));
        }
        let by_type = self.types.iter().position(|kind| *kind == TokenType::Unknown).map(|id| id as u32);
        match self.id(metadata, "unknown_token_id")?.or(by_type) {
            Some(unknown) => Ok(Fallback::Unknown(unknown)),
            None => Err(Error::config("the vocabulary has neither all 256 byte tokens nor an unknown token")),
        }
    }

    /// The tokens matched as a whole; `rstrip` says which swallow the white space after them unless the file does.
    fn added(&self, model: &BPE, metadata: &Metadata, rstrip: impl Fn(&str) -> bool) -> Result<AddedVocabulary> {
        let listed = |key| metadata.integers(key).map(|ids| ids.iter().copied().collect::<HashSet<i64>>());
        let (before, after) = (listed(LSTRIP), listed(RSTRIP));
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let kind = self.types[id];
            if self.ids.get(token.as_str()) == Some(&(id as u32)) && kind.is_added() {
                let control = kind != TokenType::UserDefined || looks_like_control(token);
                let is_in = |ids: &Option<HashSet<i64>>| ids.as_ref().map(|ids| ids.contains(&(id as i64)));
                let (before, after) = (is_in(&before), is_in(&after).unwrap_or_else(|| rstrip(token)));
                let token = AddedToken::from(token.as_str(), control).normalized(false);
                added.push(token.lstrip(before == Some(true)).rstrip(after));
            }
        }
        let mut vocabulary = AddedVocabulary::new();
        vocabulary
            .add_tokens(added, model, None::<&NormalizerWrapper>)
            .map_err(|error| Error::config(format!("tokenizer.ggml.tokens: {error}")))?;
        Ok(vocabulary)
    }

    fn pieces(&self, bytes_of: impl Fn(&str, TokenType) -> Box<[u8]>, space_prefix: SpacePrefix) -> Pieces {
        let piece = |(token, &kind): (&String, &TokenType)| match kind {
            TokenType::Control | TokenType::Unknown | TokenType::UserDefined => {
                let kind = PieceKind::of_added(kind != TokenType::UserDefined);
                Piece { bytes: token.as_bytes().into(), kind }
            }
            // Rows of the embedding that no text leads to.
            TokenType::Unused => Piece::default(),
            TokenType::Normal | TokenType::Byte => Piece { bytes: bytes_of(token, kind), kind: PieceKind::Text },
        };
        Pieces { pieces: self.tokens.iter().zip(&self.types).map(piece).collect(), space_prefix }
    }

    fn ends(&self, metadata: &Metadata, default: (Option<u32>, Option<u32>), add_bos: bool) -> Result<Ends> {
        let bos = self.id(metadata, "bos_token_id")?.or(default.0);
        let eos = self.id(metadata, "eos_token_id")?.or(default.1);
        let says = metadata.bool("tokenizer.ggml.add_bos_token");
        if says == Some(true) && bos.is_none() {
            return Err(Error::config("tokenizer.ggml.add_bos_token is true, but there is no bos_token_id"));
        }
        let mut ends = Ends { bos, eos, add_bos: says.unwrap_or(add_bos), ..Ends::default() };
        let is_control = |id: &u32| self.types[*id as usize] == TokenType::Control;
        ends.add_by_text(|text| self.ids.get(text).copied().filter(is_control));
        for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            ends.end_of_generation.extend(self.id(metadata, key)?);
        }
        let more = metadata.integers(END_IDS).unwrap_or_default();
        // An id beyond `u32` is as wrong as any other outside the vocabulary, which is checked later.
        ends.end_of_generation.extend(more.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)));
        Ok(ends)
    }

    /// The token id under `tokenizer.ggml.{key}`.
    fn id(&self, metadata: &Metadata, key: &str) -> Result<Option<u32>> {
        let Some(id) = metadata.unsigned(&format!("tokenizer.ggml.{key}")) else { return Ok(None) };
        let n_vocab = self.tokens.len();
        if id >= n_vocab as u64 {
            let what = format!("tokenizer.ggml.{key} is {id}, but the vocabulary has {n_vocab} tokens");
            return Err(Error::config(what));
        }
        Ok(Some(id as u32))
    }
}

impl TokenType {
    fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    fn is_added(self) -> bool {
        matches!(self, Self::Control | Self::UserDefined | Self::Unknown)
    }
}

fn check_length(key: &str, n: usize, n_tokens: usize) -> Result<()> {
    if n < n_tokens {
        return Err(Error::config(format!("tokenizer.ggml.{key} has {n} entries for {n_tokens} tokens")));
    }
    Ok(())
}
