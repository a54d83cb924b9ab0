//! Tokenizers from Hugging Face folders: `tokenizer.json` and, for bos and its like, `tokenizer_config.json`.

use super::{
    pieces::{Piece, PieceKind, Pieces, SpacePrefix},
    tokenizer::{Ends, Merger, Parts, Tokenizer, looks_like_control},
};
use crate::error::{Error, Result};
use serde_json::Value;
use tokenizers::{AddedToken, AddedVocabulary, DecoderWrapper, Model};

/// How tokens are written in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// One visible character for each byte.
    ByteLevel,
    /// `▁` for a space, and `<0x0A>` for a byte.
    SentencePiece,
    /// As they are.
    Plain,
}

impl Tokenizer {
    /// The tokenizer in a folder's `tokenizer.json`. The folder's `tokenizer_config.json`, if there is one, names bos
    /// and eos; ids that end answers by `generation_config.json` are for [`Self::add_end_of_generation`].
    ///
    /// Errors: [`Error::Config`] for a file that is damaged, [`Error::Unsupported`] for a way of writing tokens that no
    /// language model here uses.
    pub fn from_folder(tokenizer_json: &[u8], tokenizer_config: Option<&Value>) -> Result<Self> {
        let wrong = |error: String| Error::config(format!("tokenizer.json: {error}"));
        let file: Value = serde_json::from_slice(tokenizer_json).map_err(|error| wrong(error.to_string()))?;
        check_model(&file)?;
        let tokenizer = tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(|error| wrong(error.to_string()))?;
        let added = added_vocabulary(&tokenizer, &file)?;
        let spelling = spelling(tokenizer.get_decoder())?;
        let pieces = pieces(&tokenizer, &added, spelling, space_prefix(&file))?;
        let ends = ends(&tokenizer, &added, tokenizer_config, first_token(&file))?;
        Tokenizer::new(Parts {
            added,
            normalizer: tokenizer.get_normalizer().cloned(),
            pre_tokenizer: tokenizer.get_pre_tokenizer().cloned(),
            model: Merger::Trained(Box::new(without_dropout(tokenizer.get_model().clone()))),
            pieces,
            ends,
        })
    }
}

/// Turns away what the tokenizers crate would panic on.
fn check_model(file: &Value) -> Result<()> {
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
    check_kinds(&file["normalizer"], "normalizers", NORMALIZERS)?;
    check_kinds(&file["pre_tokenizer"], "pretokenizers", PRE_TOKENIZERS)?;
    let model = &file["model"];
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty())
        && model["type"] != "WordPiece"
    {
        return Err(Error::Unsupported {
            what: "a BPE model with a continuing_subword_prefix".into(),
            supported: "byte-level BPE, SentencePiece BPE".into(),
        });
    }
    let Some(merges) = model["merges"].as_array() else { return Ok(()) };
    for merge in merges {
        let merged = match merge {
            Value::String(line) => line.split_once(' ').map(|(left, right)| [left, right].concat()),
            Value::Array(pair) => pair.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|pair| pair.concat()),
            _ => None,
        };
        if merged.is_none_or(|merged| model["vocab"].get(&merged).is_none()) {
            return Err(Error::config(format!("tokenizer.json: merge {merge} makes no token of the vocabulary")));
        }
    }
    Ok(())
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

/// Merges left out at random are for training; here the same text must give the same ids.
fn without_dropout(mut model: tokenizers::ModelWrapper) -> tokenizers::ModelWrapper {
    if let tokenizers::ModelWrapper::BPE(bpe) = &mut model {
        bpe.dropout = None;
    }
    model
}

/// The tokens matched as a whole. Those that mark structure are matched before the text is normalised: otherwise they
/// could come about by normalising what people type.
fn added_vocabulary(tokenizer: &tokenizers::Tokenizer, file: &Value) -> Result<AddedVocabulary> {
    let mut tokens: Vec<(u32, AddedToken)> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    tokens.sort_by_key(|(id, _)| *id);
    for (_, token) in &mut tokens {
        token.special |= looks_like_control(&token.content);
        token.normalized &= !token.special;
    }
    let mut added = AddedVocabulary::new();
    added
        .add_tokens(tokens.into_iter().map(|(_, token)| token), tokenizer.get_model(), tokenizer.get_normalizer())
        .map_err(|error| Error::config(format!("tokenizer.json: added_tokens: {error}")))?;
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let (content, id) = (token["content"].as_str().unwrap_or_default(), token["id"].as_u64());
        let found = added.get_vocab().get(content).map(|id| *id as u64);
        if !content.is_empty() && found != id {
            let what = format!("tokenizer.json: added token `{content}` has id {id:?}, but its place is {found:?}");
            return Err(Error::config(what));
        }
    }
    Ok(added)
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
fn space_prefix(file: &Value) -> SpacePrefix {
    let normalizers = parts(&file["normalizer"], "normalizers");
    if normalizers.iter().any(|part| part["type"] == "Prepend") {
        return SpacePrefix::EachFragment;
    }
    let pre_tokenizers = parts(&file["pre_tokenizer"], "pretokenizers");
    match pre_tokenizers.iter().find(|part| part["type"] == "Metaspace") {
        Some(metaspace) if metaspace["prepend_scheme"] == "first" => SpacePrefix::First,
        Some(metaspace) if metaspace["prepend_scheme"] == "never" => SpacePrefix::Never,
        Some(metaspace) if metaspace["add_prefix_space"] == false => SpacePrefix::Never,
        Some(_) => SpacePrefix::EachFragment,
        None => SpacePrefix::Never,
    }
}

/// The members of a sequence, or the one that stands for itself.
fn parts<'a>(value: &'a Value, members: &str) -> &'a [Value] {
    value[members].as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn pieces(
    tokenizer: &tokenizers::Tokenizer,
    added: &AddedVocabulary,
    spelling: Spelling,
    space_prefix: SpacePrefix,
) -> Result<Pieces> {
    let vocabulary = tokenizer.get_model().get_vocab();
    let largest = vocabulary.values().chain(added.get_vocab().values()).max();
    let Some(largest) = largest.map(|id| *id as usize) else {
        return Err(Error::config("tokenizer.json: the vocabulary is empty"));
    };
    // Gaps are allowed, but not ids that make a table of billions.
    if largest > 2 * (vocabulary.len() + added.len()) + 65_536 {
        return Err(Error::config(format!("tokenizer.json: token id {largest} is far beyond the vocabulary")));
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
    for (id, token) in added.get_added_tokens_decoder() {
        let was_special = tokenizer.get_added_vocabulary().is_special_token(&token.content);
        pieces[*id as usize] = Piece { bytes: token.content.as_bytes().into(), kind: PieceKind::of_added(was_special) };
    }
    Ok(Pieces { pieces, space_prefix })
}

/// The token that the post-processor puts in front of a text; read rather than run, since a damaged one panics.
fn first_token(file: &Value) -> Option<u32> {
    let templates = parts(&file["post_processor"], "processors");
    let template = templates.iter().find(|part| part["type"] == "TemplateProcessing")?;
    let name = template["single"][0]["SpecialToken"]["id"].as_str()?;
    u32::try_from(template["special_tokens"][name]["ids"][0].as_u64()?).ok()
}

fn ends(
    tokenizer: &tokenizers::Tokenizer,
    added: &AddedVocabulary,
    config: Option<&Value>,
    first: Option<u32>,
) -> Result<Ends> {
    let named = |key: &str| -> Result<Option<u32>> {
        let value = config.map_or(&Value::Null, |config| &config[key]);
        let Some(text) = value.as_str().or(value["content"].as_str()) else { return Ok(None) };
        let id = tokenizer.token_to_id(text);
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
