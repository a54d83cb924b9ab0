//! Tokenizers from Hugging Face folders: `tokenizer.json` and, for bos and its like, `tokenizer_config.json`.

use super::{
    pieces::{Piece, PieceKind, Pieces, SpacePrefix},
    sentencepiece::has_words,
    tokenizer::{END_TEXTS, Ends, Merger, Parts, Tokenizer, looks_like_control},
    tokenizer_json::{Added, TokenizerJson, parts, wrong},
};
use crate::{
    error::{Error, Result},
    format::Folder,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;
use tokenizers::{
    AddedToken, AddedVocabulary, DecoderWrapper, Model as _, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper,
};

/// How tokens are written in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One visible character for each byte.
    ByteLevel,
    /// `▁` for a space, and `<0x0A>` for a byte.
    SentencePiece,
    /// As they are.
    Plain,
}

impl Tokenizer {
    /// The tokenizer of a model's folder, with every token that ends answers; `None` when there is none.
    ///
    /// Errors: as [`Self::from_folder`].
    pub fn in_folder(folder: &Folder) -> Result<Option<Self>> {
        let Some(json) = &folder.tokenizer else { return Ok(None) };
        let mut tokenizer = Self::from_folder(json, folder.tokenizer_config.as_ref())?;
        tokenizer.add_end_of_generation(end_ids(folder))?;
        Ok(Some(tokenizer))
    }

    /// The tokenizer in a folder's `tokenizer.json`. The folder's `tokenizer_config.json`, if there is one, names bos
    /// and eos; ids that end answers by `generation_config.json` are for [`Self::add_end_of_generation`].
    ///
    /// Errors: [`Error::Config`] for a file that is damaged, [`Error::Unsupported`] for a way of writing tokens that no
    /// language model here uses.
    pub fn from_folder(tokenizer_json: &[u8], tokenizer_config: Option<&Value>) -> Result<Self> {
        let file = TokenizerJson::read(tokenizer_json, tokenizer_config)?;
        let normalizer: Option<NormalizerWrapper> = part(&file.normalizer)?;
        let pre_tokenizer: Option<PreTokenizerWrapper> = part(&file.pre_tokenizer)?;
        let model = file.model()?;
        let added = added_vocabulary(&file.added_tokens, &model, normalizer.as_ref())?;
        let spelling = spelling(part(&file.decoder)?.as_ref())?;
        let pieces = pieces(&file, &model, &added, spelling)?;
        let ends = ends(&model, &added, tokenizer_config, first_token(&file.post_processor))?;
        let model = merger(model, spelling);
        Tokenizer::new(Parts { added, normalizer, pre_tokenizer, model, pieces, ends })
    }
}

/// What a folder's `config.json` and `generation_config.json` call end of sequence, one id or several.
pub fn end_ids(folder: &Folder) -> Vec<u32> {
    let configs = [Some(&folder.config), folder.generation_config.as_ref()];
    let values = configs.into_iter().flatten().filter_map(|config| config.get("eos_token_id"));
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    values.flat_map(|v| v.as_array().map_or_else(|| vec![v.clone()], Clone::clone)).filter_map(|v| one(&v)).collect()
}

fn part<T: DeserializeOwned>(value: &Value) -> Result<Option<T>> {
    serde_json::from_value(value.clone()).map_err(wrong)
}

fn merger(model: ModelWrapper, spelling: Spelling) -> Merger {
    // Without a token for the space, runs of unknown characters may cross it.
    let spaced = spelling == Spelling::SentencePiece && model.token_to_id("▁").is_some();
    if spaced && has_words(model.get_vocab().keys().map(String::as_str)) {
        return Merger::TrainedWords(Box::new(model));
    }
    Merger::Trained(Box::new(model))
}

/// The tokens matched as a whole. Those that mark structure are matched before the text is normalised: otherwise they
/// could come about by normalising what people type.
fn added_vocabulary(
    tokens: &[Added],
    model: &ModelWrapper,
    normalizer: Option<&NormalizerWrapper>,
) -> Result<AddedVocabulary> {
    let mut tokens: Vec<&Added> = tokens.iter().collect();
    tokens.sort_by_key(|added| added.id);
    let as_matched = |added: &&Added| {
        let special = added.is_control() || looks_like_control(&added.token.content);
        AddedToken { special, normalized: added.token.normalized && !special, ..added.token.clone() }
    };
    let mut vocabulary = AddedVocabulary::new();
    vocabulary
        .add_tokens(tokens.iter().map(as_matched), model, normalizer)
        .map_err(|error| wrong(format!("added_tokens: {error}")))?;
    for Added { id, token } in tokens {
        let (content, found) = (&token.content, vocabulary.get_vocab().get(&token.content));
        if !content.is_empty() && found != Some(id) {
            return Err(wrong(format!("added token `{content}` has id {id}, but its place is {found:?}")));
        }
    }
    Ok(vocabulary)
}

impl Added {
    /// Whether the token stands for structure and is not shown. Phi-3's `</s>` does, though its file does not say so.
    pub fn is_control(&self) -> bool {
        self.token.special || END_TEXTS.contains(&self.token.content.as_str())
    }
}

fn spelling(decoder: Option<&DecoderWrapper>) -> Result<Spelling> {
    fn of(decoder: &DecoderWrapper) -> Option<Spelling> {
        Some(match decoder {
            DecoderWrapper::ByteLevel(_) => Spelling::ByteLevel,
            DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => Spelling::SentencePiece,
            DecoderWrapper::Replace(_) | DecoderWrapper::Strip(_) | DecoderWrapper::Fuse(_) => Spelling::Plain,
            DecoderWrapper::Sequence(sequence) => {
                let spellings = sequence.get_decoders().iter().map(of).collect::<Option<Vec<_>>>()?;
                let is_plain = |spelling: &Spelling| *spelling == Spelling::Plain;
                spellings.into_iter().find(|spelling| !is_plain(spelling)).unwrap_or(Spelling::Plain)
            }
            _ => return None,
        })
    }
    decoder.map_or(Some(Spelling::Plain), of).ok_or_else(|| Error::Unsupported {
        what: "the decoder of this tokenizer.json".into(),
        supported: "ByteLevel, Metaspace, and sequences of Replace, ByteFallback, Fuse and Strip".into(),
    })
}

/// Llama's older files prepend `▁` to each fragment by a normaliser, the newer ones by Metaspace.
fn space_prefix(file: &TokenizerJson) -> SpacePrefix {
    let normalizers = parts(&file.normalizer, "normalizers");
    if normalizers.iter().any(|part| part["type"] == "Prepend") {
        return SpacePrefix::EachFragment;
    }
    let pre_tokenizers = parts(&file.pre_tokenizer, "pretokenizers");
    match pre_tokenizers.iter().find(|part| part["type"] == "Metaspace") {
        Some(metaspace) if metaspace["prepend_scheme"] == "first" => SpacePrefix::First,
        Some(metaspace) if metaspace["prepend_scheme"] == "never" => SpacePrefix::Never,
        Some(metaspace) if metaspace["add_prefix_space"] == false => SpacePrefix::Never,
        Some(_) => SpacePrefix::EachFragment,
        None => SpacePrefix::Never,
    }
}

fn pieces(file: &TokenizerJson, model: &ModelWrapper, added: &AddedVocabulary, spelling: Spelling) -> Result<Pieces> {
    let vocabulary = model.get_vocab();
    let largest = vocabulary.values().chain(added.get_vocab().values()).max();
    let largest = largest.map(|id| *id as usize).ok_or_else(|| wrong("the vocabulary is empty"))?;
    // Gaps are allowed, but not ids that make a table of billions.
    if largest > 2 * (vocabulary.len() + added.len()) + 65_536 {
        return Err(wrong(format!("token id {largest} is far beyond the vocabulary")));
    }
    let mut pieces = vec![Piece::default(); largest + 1];
    for (token, id) in vocabulary {
        let bytes = match spelling {
            Spelling::ByteLevel => Pieces::byte_level(&token),
            Spelling::SentencePiece => match Pieces::byte_token(&token) {
                Some(byte) => [byte].into(),
                None => Pieces::sentencepiece(&token),
            },
            Spelling::Plain => token.into_bytes().into(),
        };
        pieces[id as usize] = Piece { bytes, kind: PieceKind::Text };
    }
    let control: HashSet<u32> = file.added_tokens.iter().filter(|a| a.is_control()).map(|added| added.id).collect();
    for (id, token) in added.get_added_tokens_decoder() {
        let kind = PieceKind::of_added(control.contains(id));
        pieces[*id as usize] = Piece { bytes: token.content.as_bytes().into(), kind };
    }
    Ok(Pieces { pieces, space_prefix: space_prefix(file) })
}

/// The token that the post-processor puts in front of a text; read rather than run, since a damaged one panics.
fn first_token(post_processor: &Value) -> Option<u32> {
    let templates = parts(post_processor, "processors");
    let template = templates.iter().find(|part| part["type"] == "TemplateProcessing")?;
    let name = template["single"][0]["SpecialToken"]["id"].as_str()?;
    u32::try_from(template["special_tokens"][name]["ids"][0].as_u64()?).ok()
}

fn ends(model: &ModelWrapper, added: &AddedVocabulary, config: Option<&Value>, first: Option<u32>) -> Result<Ends> {
    let named = |key: &str| -> Result<Option<u32>> {
        let value = config.map_or(&Value::Null, |config| &config[key]);
        let Some(text) = value.as_str().or(value["content"].as_str()) else { return Ok(None) };
        let id = added.token_to_id(text, model);
        id.map(Some).ok_or_else(|| {
            Error::config(format!("tokenizer_config.json: {key} is `{text}`, which tokenizer.json does not have"))
        })
    };
    let eos = named("eos_token")?;
    let bos = named("bos_token")?.or(first);
    let says = config.and_then(|config| config["add_bos_token"].as_bool());
    let add_bos = says.unwrap_or(bos.is_some() && first == bos);
    let mut ends = Ends { bos, eos, add_bos, ..Ends::default() };
    ends.add_by_text(|text| added.get_vocab().get(text).copied());
    Ok(ends)
}
