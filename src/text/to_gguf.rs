//! A folder's tokenizer as GGUF metadata: the keys that llama.cpp reads, and a few of our own for what those leave out.
//!
//! The result is tried on the vocabulary's own texts before it is handed out: a file that encodes otherwise than its
//! folder would be a model that reads garbage.

use super::{
    folder_tokenizer::end_ids,
    gguf_tokenizer::{END_IDS, LSTRIP, METASPACE, NFC, RSTRIP, TokenType},
    pieces::Pieces,
    pre_tokenizer::PreTokenizer,
    template::ChatTemplate,
    tokenizer::{END_TEXTS, Specials, Tokenizer, looks_like_control},
    tokenizer_json::{Merging, TokenizerJson, parts},
};
use crate::{
    error::{Error, Result},
    format::{Folder, Metadata, Value},
};
use std::collections::{HashMap, HashSet};

/// Metadata that [`Tokenizer::from_gguf`] makes the folder's tokenizer from, its chat template with it.
///
/// There are `n_vocab` tokens, as many as the model has embeddings; those without a text are marked unused. Lists of
/// integers are GGUF's `i32`, ids `u32`.
///
/// Errors: those of [`Tokenizer::in_folder`]; [`Error::Unsupported`] for a tokenizer that GGUF has no words for, and
/// [`Error::Config`] for one with more tokens than the model.
pub fn gguf_metadata(folder: &Folder, n_vocab: usize) -> Result<Vec<(String, Value)>> {
    let (Some(json), Some(tokenizer)) = (&folder.tokenizer, Tokenizer::in_folder(folder)?) else {
        return Ok(vec![("tokenizer.ggml.model".into(), Value::String("no_vocab".into()))]);
    };
    let file = TokenizerJson::read(json, folder.tokenizer_config.as_ref())?;
    let merging = file.merging()?.ok_or_else(|| unsupported("a tokenizer.json whose model is not BPE"))?;
    let is_byte_level = parts(&file.decoder, "decoders").iter().any(|decoder| decoder["type"] == "ByteLevel");
    let mut metadata = Metadata::default();
    let (vocab, merges) = file.vocabulary()?;
    let table = Table::new(&file, &vocab, &merging, n_vocab)?;
    if is_byte_level {
        byte_level(&mut metadata, &file, &merging, &table)?;
        let lines = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
        metadata.insert("tokenizer.ggml.merges", Value::Strings(lines));
    } else {
        sentencepiece(&mut metadata, &file, &merging)?;
        metadata.insert("tokenizer.ggml.scores", Value::Floats(scores(&table, &merges)?));
    }
    table.write(&mut metadata);
    write_ends(&mut metadata, folder, &tokenizer, &merging);
    write_stripping(&mut metadata, &file, folder)?;
    if let Some(template) = ChatTemplate::source_in_folder(folder) {
        metadata.insert("tokenizer.chat_template", Value::String(template));
    }
    check(&tokenizer, &metadata)?;
    Ok(metadata.into_pairs())
}

/// Every id's text and type.
struct Table {
    texts: Vec<String>,
    types: Vec<TokenType>,
}

impl Table {
    fn new<'a>(
        file: &TokenizerJson,
        vocab: impl IntoIterator<Item = (&'a String, &'a u32)>,
        merging: &Merging,
        n_vocab: usize,
    ) -> Result<Self> {
        let mut texts: Vec<Option<String>> = vec![None; n_vocab];
        let mut types = vec![TokenType::Unused; n_vocab];
        let byte_fallback = merging.byte_fallback == Some(true);
        let normal = vocab.into_iter().map(|(text, id)| match Pieces::byte_token(text) {
            Some(_) if byte_fallback => (text, *id, TokenType::Byte),
            _ => (text, *id, TokenType::Normal),
        });
        let added = file.added_tokens.iter().map(|added| {
            let unknown = merging.unk_token.as_ref() == Some(&added.token.content);
            let kind = match (added.token.special, unknown) {
                (true, true) => TokenType::Unknown,
                (true, false) => TokenType::Control,
                (false, _) => TokenType::UserDefined,
            };
            (&added.token.content, added.id, kind)
        });
        for (text, id, kind) in normal.chain(added) {
            let Some(place) = texts.get_mut(id as usize) else {
                let what =
                    format!("tokenizer.json: token {id} `{text}` has no row in the model's {n_vocab} embeddings");
                return Err(Error::config(what));
            };
            if place.as_ref().is_some_and(|other| other != text) {
                return Err(Error::config(format!("tokenizer.json: `{text}` and another token both have id {id}")));
            }
            *place = Some(text.clone());
            types[id as usize] = kind;
        }
        let text = |(id, text): (usize, Option<String>)| text.unwrap_or_else(|| format!("[PAD{id}]"));
        Ok(Self { texts: texts.into_iter().enumerate().map(text).collect(), types })
    }

    fn write(self, metadata: &mut Metadata) {
        let types = self.types.iter().map(|kind| *kind as i64).collect();
        metadata.insert("tokenizer.ggml.tokens", Value::Strings(self.texts));
        metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    }
}

fn byte_level(metadata: &mut Metadata, file: &TokenizerJson, merging: &Merging, table: &Table) -> Result<()> {
    let name = PreTokenizer::name_of(&file.pre_tokenizer, merging.ignore_merges == Some(true));
    let name = name.ok_or_else(|| unsupported(format!("the pre_tokenizer {}", file.pre_tokenizer)))?;
    if merging.end_of_word_suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(unsupported("a BPE model with an end_of_word_suffix"));
    }
    let bytes: HashSet<u8> = table.texts.iter().filter_map(|text| single_byte(text)).collect();
    if bytes.len() < 256 && merging.unk_token.is_some() {
        return Err(unsupported("a byte-level vocabulary with an unknown token in place of some bytes"));
    }
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(name.into()));
    // What these vocabularies normalise, if anything, is how characters are composed; llama.cpp does not.
    match parts(&file.normalizer, "normalizers") {
        [normalizer] if normalizer["type"] == "NFC" => metadata.insert(NFC, Value::Bool(true)),
        [serde_json::Value::Null] | [] => {}
        _ => return Err(unsupported(format!("the normalizer {}", file.normalizer))),
    }
    Ok(())
}

fn single_byte(text: &str) -> Option<u8> {
    let bytes = (text.chars().count() == 1).then(|| Pieces::byte_level(text))?;
    (bytes.len() == 1).then(|| bytes[0])
}

fn sentencepiece(metadata: &mut Metadata, file: &TokenizerJson, merging: &Merging) -> Result<()> {
    if merging.byte_fallback != Some(true) {
        return Err(unsupported("a SentencePiece vocabulary without byte_fallback"));
    }
    let replaces = |part: &serde_json::Value| {
        part["type"] == "Replace" && part["pattern"]["String"] == " " && part["content"] == "▁"
    };
    let prepends = |part: &serde_json::Value| part["type"] == "Prepend" && part["prepend"] == "▁";
    let (prefixed, scheme) = match (parts(&file.normalizer, "normalizers"), &file.pre_tokenizer) {
        ([first, then], serde_json::Value::Null) if prepends(first) && replaces(then) => (true, None),
        ([only], serde_json::Value::Null) if replaces(only) => (false, None),
        ([serde_json::Value::Null] | [], metaspace) if metaspace["type"] == "Metaspace" => metaspace_scheme(metaspace)?,
        _ => {
            let what = format!("the normalizer {} with the pre_tokenizer {}", file.normalizer, file.pre_tokenizer);
            return Err(unsupported(what));
        }
    };
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String("default".into()));
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(prefixed));
    if let Some(scheme) = scheme {
        metadata.insert(METASPACE, Value::String(scheme.into()));
    }
    Ok(())
}

/// Whether a Metaspace puts a space in front, and when it does, which fragments get it.
fn metaspace_scheme(metaspace: &serde_json::Value) -> Result<(bool, Option<&'static str>)> {
    // Without `split` it splits.
    if metaspace["split"] != false || metaspace["replacement"] != "▁" {
        return Err(unsupported(format!("the pre_tokenizer {metaspace}")));
    }
    Ok(match metaspace["prepend_scheme"].as_str() {
        Some("never") => (false, None),
        _ if metaspace["add_prefix_space"] == false => (false, None),
        Some("first") => (true, Some("first")),
        _ => (true, Some("always")),
    })
}

/// Minus the rank of the first merge that makes the piece.
///
/// By scores any two neighbours merge that make a piece, by merges only those listed. The two agree where every way to
/// put a piece together is listed, as it is in files made from SentencePiece models.
fn scores(table: &Table, merges: &[(String, String)]) -> Result<Vec<f32>> {
    let listed: HashSet<(&str, &str)> = merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let whole: HashSet<&str> =
        table.texts.iter().filter(|text| text.chars().nth(1).is_none()).map(String::as_str).collect();
    let arises = |part: &str| whole.contains(part) || ranks.contains_key(part);
    let mut scores = Vec::with_capacity(table.texts.len());
    for (text, kind) in table.texts.iter().zip(&table.types) {
        // Splitting takes quadratic time in a piece's length; those of real vocabularies are below 100 bytes.
        if text.len() > 1024 {
            return Err(unsupported(format!("a token of {} bytes", text.len())));
        }
        if *kind == TokenType::Normal {
            for (middle, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(middle);
                if arises(left) && arises(right) && !listed.contains(&(left, right)) {
                    return Err(unsupported(format!(
                        "a BPE model that does not merge `{left}` and `{right}`, though `{text}` is a token,"
                    )));
                }
            }
        }
        scores.push(match (kind, ranks.get(text)) {
            (_, Some(rank)) => -(*rank as f32),
            // Characters: nothing merges into them, so their scores are never compared.
            (TokenType::Normal, None) => -(merges.len() as f32),
            _ => 0.0,
        });
    }
    Ok(scores)
}

fn write_ends(metadata: &mut Metadata, folder: &Folder, tokenizer: &Tokenizer, merging: &Merging) {
    let config = folder.tokenizer_config.as_ref();
    let of_config = |key: &str| {
        let value = &config?[key];
        tokenizer.id_of(value.as_str().or(value["content"].as_str())?)
    };
    let eos = tokenizer.eos().or_else(|| end_ids(folder).first().copied());
    let pad = folder.config["pad_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let pad = of_config("pad_token").or(pad.filter(|id| tokenizer.token_text(*id).is_some()));
    let unknown = merging.unk_token.as_ref().and_then(|text| tokenizer.id_of(text)).or(of_config("unk_token"));
    // What readers know by its text need not be said again.
    let by_text: HashSet<u32> = END_TEXTS.iter().filter_map(|text| tokenizer.id_of(text)).collect();
    let mut ends = tokenizer.end_of_generation_ids().iter().copied();
    let mut ends = ends.by_ref().filter(|id| !by_text.contains(id) && Some(*id) != eos);
    let (eot, eom) = (ends.next(), ends.next());
    let ids =
        [("bos", tokenizer.bos()), ("eos", eos), ("unknown", unknown), ("padding", pad), ("eot", eot), ("eom", eom)];
    for (name, id) in ids {
        if let Some(id) = id {
            metadata.insert(&format!("tokenizer.ggml.{name}_token_id"), Value::Unsigned(id.into()));
        }
    }
    let more: Vec<i64> = ends.map(i64::from).collect();
    if !more.is_empty() {
        metadata.insert(END_IDS, Value::Integers(more));
    }
    let adds_bos = tokenizer.adds_bos() && tokenizer.bos().is_some();
    let adds_eos = config.is_some_and(|config| config["add_eos_token"] == true);
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(adds_bos));
    metadata.insert("tokenizer.ggml.add_eos_token", Value::Bool(adds_eos));
}

/// Which added tokens swallow the white space around them, and that none has other habits.
fn write_stripping(metadata: &mut Metadata, file: &TokenizerJson, folder: &Folder) -> Result<()> {
    let changed = |text: &str| match parts(&file.normalizer, "normalizers") {
        [only] if only["type"] == "Replace" => text.contains(' '),
        normalizers => normalizers.iter().any(|normalizer| normalizer["type"] == "Prepend"),
    };
    for added in &file.added_tokens {
        let (token, text) = (&added.token, added.token.content.as_str());
        let normalized = token.normalized && !added.is_control() && !looks_like_control(text);
        if token.single_word || normalized && changed(text) {
            return Err(unsupported(format!(
                "the added token `{text}`, which is matched as a single word or normalized,"
            )));
        }
    }
    let ids = |strips: fn(&tokenizers::AddedToken) -> bool| -> Vec<i64> {
        file.added_tokens.iter().filter(|added| strips(&added.token)).map(|added| added.id.into()).collect()
    };
    let (before, after) = (ids(|token| token.lstrip), ids(|token| token.rstrip));
    if !before.is_empty() {
        metadata.insert(LSTRIP, Value::Integers(before));
    }
    // Without the list, readers have a rule of their own for Phi-3.
    if !after.is_empty() || folder.config["model_type"].as_str().is_some_and(|name| name.starts_with("phi")) {
        metadata.insert(RSTRIP, Value::Integers(after));
    }
    Ok(())
}

/// Scripts, white space, digits, punctuation and emoji, among the texts of control tokens.
const SAMPLE: &str = concat!(
    "The quick brown fox can't jump over 12 345.67 lazy dogs;  it's 10% of  \n\n\n\tvoid main() { return x->y[0]; }\r\n",
    "    indented\n        twice ==== ---- ....   Ünïcödé naïve cafe\u{301} ﬁ Ｆｕｌｌ ĳ ẞ Å Ω Привет, мир! Γειά σου ",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก 你好，世界。 こんにちは世界 カタカナ 안녕하세요 Xin chào Việt Nam ქართული ",
    "🙂👍🏽👩\u{200d}👩\u{200d}👧🇩🇪 ∑∫√≈ ①½² \u{a0}\u{3000}\u{200b}\0\u{1}\u{7f} '' \"\" `` ▁ ▁▁ <s></s><unk><|x|> [INST] <0x0A> "
);

/// Encodes the vocabulary's own texts both ways.
fn check(tokenizer: &Tokenizer, metadata: &Metadata) -> Result<()> {
    let converted = Tokenizer::from_gguf(metadata)?.ok_or_else(|| unsupported("a tokenizer without a model"))?;
    let differs = |text: &str, specials: Specials| -> Result<()> {
        let (ours, theirs) = (tokenizer.encode(text, specials)?, converted.encode(text, specials)?);
        if ours == theirs && tokenizer.decode_with_specials(&ours) == converted.decode_with_specials(&ours) {
            return Ok(());
        }
        let n_same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
        let from = n_same.saturating_sub(1).min(ours.len());
        let near = tokenizer.decode_with_specials(&ours[from..ours.len().min(from + 4)]);
        Err(unsupported(format!("a tokenizer that GGUF has no words for (see `{near}`)")))
    };
    let texts: Vec<String> = (0..tokenizer.n_vocab() as u32).filter_map(|id| tokenizer.token_text(id)).collect();
    let around: Vec<String> = tokenizer.control_texts().iter().map(|text| format!("a {text} \n{text}b ")).collect();
    [SAMPLE, &around.concat()].iter().try_for_each(|text| differs(text, Specials::Recognised))?;
    differs(SAMPLE, Specials::AsText)?;
    texts.chunks(64).try_for_each(|texts| differs(&texts.concat(), Specials::AsText))?;
    // What no prompt begins with may differ: readers have a bos of their own for files that name none.
    let first = |tokenizer: &Tokenizer| tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let missing = tokenizer.end_of_generation_ids().difference(converted.end_of_generation_ids()).next();
    match missing {
        Some(id) => Err(unsupported(format!("token {id} as the end of an answer"))),
        None if first(tokenizer) != first(&converted) => Err(unsupported("the beginning of this tokenizer's texts")),
        None => Ok(()),
    }
}

fn unsupported(what: impl Into<String>) -> Error {
    let supported = "in GGUF: byte-level BPE with a known pre-tokenizer, SentencePiece BPE with bytes".into();
    Error::Unsupported { what: what.into(), supported }
}
