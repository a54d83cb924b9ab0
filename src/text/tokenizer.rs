//! The tokenizer: encoding with or without recognising control tokens, decoding, and what a model's file says of its
//! special tokens.

use super::{
    pieces::{PieceKind, Pieces},
    sentencepiece::{SentencePiece, words},
    stream::TextStream,
};
use crate::error::{Error, Result};
use std::{collections::BTreeSet, sync::Arc};
use tokenizers::{
    AddedVocabulary, Model as _, ModelWrapper, Normalizer, NormalizerWrapper, OffsetType, PreTokenizer as _,
    PreTokenizerWrapper, Token,
};

/// Text to token ids and back, as the model was trained with.
pub struct Tokenizer {
    /// Tokens matched as a whole before anything is merged.
    added: AddedVocabulary,
    /// The same, but control tokens are not matched.
    added_as_text: AddedVocabulary,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: Merger,
    pieces: Arc<Pieces>,
    /// Texts of the control tokens.
    control_texts: Vec<String>,
    ends: Ends,
}

/// What becomes of the texts of control tokens, such as `<|im_end|>`, in a text to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// They become the tokens: right for prompts written by a program.
    Recognised,
    /// They stay text: right for what people type.
    AsText,
}

/// What makes tokens out of a fragment of text.
pub(super) enum Merger {
    /// A model of the tokenizers crate.
    Trained(Box<ModelWrapper>),
    /// One that writes spaces as `▁` and whose words can be merged one by one, which is much faster.
    TrainedWords(Box<ModelWrapper>),
    SentencePiece(SentencePiece),
}

/// The parts a [`Tokenizer`] is built from.
pub(super) struct Parts {
    pub added: AddedVocabulary,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub model: Merger,
    pub pieces: Pieces,
    pub ends: Ends,
}

/// The tokens texts and answers begin and end with.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub add_bos: bool,
    pub end_of_generation: BTreeSet<u32>,
}

/// Texts of tokens that end an answer, in the vocabularies known to have them.
pub(super) const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Padding and the next file of a repository: nothing that belongs to the answer follows.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<fim-repo>",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
];

impl Tokenizer {
    /// Errors: [`Error::Config`] when bos, eos or an end of generation is outside the vocabulary.
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let Parts { added, normalizer, pre_tokenizer, model, pieces, ends } = parts;
        let mut added_as_text = added.clone();
        added_as_text.set_encode_special_tokens(true);
        let control_texts = added.get_added_tokens_decoder().values();
        let control_texts = control_texts.filter(|token| token.special).map(|token| token.content.clone()).collect();
        let mut tokenizer = Self {
            added,
            added_as_text,
            normalizer,
            pre_tokenizer,
            model,
            pieces: Arc::new(pieces),
            control_texts,
            ends: Ends { end_of_generation: BTreeSet::new(), ..ends },
        };
        for id in ends.bos.iter().chain(&ends.eos) {
            tokenizer.check(*id)?;
        }
        tokenizer.add_end_of_generation(ends.end_of_generation.iter().chain(&ends.eos).copied())?;
        Ok(tokenizer)
    }

    /// Token ids of `text`, without bos.
    ///
    /// Characters that the vocabulary cannot express are left out, which only incomplete vocabularies make happen.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let added = match specials {
            Specials::Recognised => &self.added,
            Specials::AsText => &self.added_as_text,
        };
        self.encode_with(text, added, self.normalizer.as_ref())
    }

    /// Token ids of a whole prompt: control tokens are recognised, and bos is put in front if the file says so and the
    /// text does not begin with it. There is no eos at the end, since an answer is to follow.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.with_bos(self.encode(text, Specials::Recognised)?))
    }

    /// The text of `ids` without control tokens. Ids outside the vocabulary have no text, and bytes that are no
    /// characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, false)
    }

    /// The text of `ids` with the control tokens' texts.
    pub fn decode_with_specials(&self, ids: &[u32]) -> String {
        self.decode_with(ids, true)
    }

    /// A decoder for the answer that follows `prompt`.
    pub fn stream(&self, prompt: &[u32]) -> TextStream {
        TextStream::new(self.pieces.clone(), prompt)
    }

    /// How many ids there are; a model's matrices may have more rows than that.
    pub fn n_vocab(&self) -> usize {
        self.pieces.pieces.len()
    }

    /// The text of one token as it is matched or shown; `None` outside the vocabulary. Bytes that are no characters
    /// become U+FFFD.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.pieces.pieces.get(id as usize).map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned())
    }

    /// The token that texts begin with.
    pub fn bos(&self) -> Option<u32> {
        self.ends.bos
    }

    /// The token that the file calls end of sequence; see [`Self::end_of_generation_ids`] for all that end an answer.
    pub fn eos(&self) -> Option<u32> {
        self.ends.eos
    }

    /// Whether prompts begin with bos.
    pub fn adds_bos(&self) -> bool {
        self.ends.add_bos
    }

    /// Every token that ends an answer.
    pub fn end_of_generation_ids(&self) -> &BTreeSet<u32> {
        &self.ends.end_of_generation
    }

    /// Adds tokens that end an answer, such as those of a `generation_config.json`.
    ///
    /// Errors: [`Error::Config`] for an id outside the vocabulary.
    pub fn add_end_of_generation(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<()> {
        for id in ids {
            self.check(id)?;
            self.ends.end_of_generation.insert(id);
        }
        Ok(())
    }

    /// Token ids of `text` with everything recognised, as if each `mark` were not there but for keeping the tokens
    /// around it from being recognised.
    pub(super) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<u32>> {
        self.encode_with(text, &self.added, Some(&Unmark { mark, then: self.normalizer.as_ref() }))
    }

    /// The id of a token matched as a whole, or else of the vocabulary.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        let added = self.added.get_vocab().get(text).copied();
        added.or_else(|| match &self.model {
            Merger::Trained(model) | Merger::TrainedWords(model) => model.token_to_id(text),
            Merger::SentencePiece(_) => None,
        })
    }

    pub(super) fn control_texts(&self) -> &[String] {
        &self.control_texts
    }

    pub(super) fn with_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        match self.ends.bos {
            Some(bos) if self.ends.add_bos && ids.first() != Some(&bos) => ids.insert(0, bos),
            _ => {}
        }
        ids
    }

    fn encode_with<N: Normalizer>(
        &self,
        text: &str,
        added: &AddedVocabulary,
        normalizer: Option<&N>,
    ) -> Result<Vec<u32>> {
        let failed = |error: tokenizers::Error| Error::Text {
            what: format!("the tokenizer cannot encode the text: {error}"),
            hint: "the tokenizer's files may be incomplete; compare them with the publisher's",
        };
        let mut fragments = added.extract_and_normalize(normalizer, text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut fragments).map_err(failed)?;
        }
        let tokenize = |fragment: &str| match &self.model {
            Merger::Trained(model) => model.tokenize(fragment),
            Merger::TrainedWords(model) => {
                let mut tokens = Vec::new();
                words(fragment).try_for_each(|word| model.tokenize(word).map(|more| tokens.extend(more)))?;
                Ok(tokens)
            }
            Merger::SentencePiece(model) => {
                let ids = model.tokenize(fragment)?;
                Ok(ids.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect())
            }
        };
        fragments.tokenize(|fragment| tokenize(fragment.get())).map_err(failed)?;
        let encoding = fragments.into_encoding(None, 0, OffsetType::None).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn decode_with(&self, ids: &[u32], shown: bool) -> String {
        let mut cursor = self.pieces.cursor();
        for &id in ids {
            self.pieces.append(&mut cursor, id, shown);
        }
        cursor.take_all()
    }

    fn check(&self, id: u32) -> Result<()> {
        let n_vocab = self.n_vocab();
        if id as usize >= n_vocab {
            return Err(Error::config(format!("special token {id} is outside the vocabulary of {n_vocab}")));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("n_vocab", &self.n_vocab()).field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Ends {
    /// Adds the tokens whose texts are known to end answers.
    pub fn add_by_text(&mut self, id_of: impl Fn(&str) -> Option<u32>) {
        self.end_of_generation.extend(END_TEXTS.iter().filter_map(|text| id_of(text)));
        // In these two families `<|end|>` ends a message within an answer, and another token ends the answer.
        let has = |text| id_of(text).is_some();
        let ends_messages = (has("<|return|>") && has("<|call|>")) || (has("<|calls|>") && has("<|flush|>"));
        if let Some(end) = id_of("<|end|>").filter(|end| ends_messages && Some(*end) != self.eos) {
            self.end_of_generation.remove(&end);
        }
    }
}

/// Whether a token that a file merely calls "added" marks structure: what people type must not become it.
pub(super) fn looks_like_control(text: &str) -> bool {
    let between = |start, end| text.starts_with(start) && text.ends_with(end) && text.chars().count() > 4;
    between("<|", "|>") || between("<｜", "｜>")
}

impl PieceKind {
    pub fn of_added(control: bool) -> Self {
        if control { PieceKind::Control } else { PieceKind::UserDefined }
    }
}

/// A normaliser that takes marks out before the file's own runs.
struct Unmark<'a> {
    mark: char,
    then: Option<&'a NormalizerWrapper>,
}

impl Normalizer for Unmark<'_> {
    fn normalize(&self, text: &mut tokenizers::NormalizedString) -> tokenizers::Result<()> {
        if text.get().contains(self.mark) {
            text.filter(|c| c != self.mark);
        }
        self.then.map_or(Ok(()), |normalizer| normalizer.normalize(text))
    }
}
