//! Which files of a repository are the model: one GGUF file, or what a Hugging Face folder needs.

use crate::{
    error::{Error, Result},
    format::WeightFormat,
};

/// Labels of GGUF files from the best choice to the last, each with the formats that its matrices are in. Four bits
/// come first, since they are what most devices hold; among them the k-quants err least.
const LABELS: [(&str, &[&str]); 17] = [
    ("Q4_K_M", &["q4_k", "q6_k"]),
    ("Q4_0", &["q4_0"]),
    ("Q4_K_S", &["q4_k"]),
    ("Q4_1", &["q4_1"]),
    ("Q4_K", &["q4_k", "q6_k"]),
    // Some publishers write `q4` for Q4_K_M.
    ("Q4", &["q4_k", "q6_k"]),
    ("Q5_K_M", &["q5_k", "q6_k"]),
    ("Q5_K_S", &["q5_k"]),
    ("Q5_0", &["q5_0"]),
    ("Q5_1", &["q5_1"]),
    ("Q6_K", &["q6_k"]),
    ("Q8_0", &["q8_0"]),
    ("F16", &["f16"]),
    ("FP16", &["f16"]),
    ("BF16", &["bf16"]),
    ("F32", &["f32"]),
    ("FP32", &["f32"]),
];
/// How many of [`LABELS`] are 4-bit ones.
const N_FOUR_BIT: usize = 6;

/// Small files of a model folder; the weights are chosen by their ending.
const FOLDER_FILES: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "quantize_config.json",
    super::INDEX,
];

/// The files to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Weights come last, so that a folder with weights is a whole folder.
    pub files: Vec<String>,
    /// Whether the model is the folder, and not one file of it.
    pub is_folder: bool,
    /// Why these, for people.
    pub why: String,
}

/// Chooses among the files of a repository: those that `pattern` matches, or the model.
///
/// Errors: [`Error::Hub`] when nothing fits, or when several files fit equally well.
pub fn choose(files: &[String], pattern: Option<&str>) -> Result<Choice> {
    if let Some(pattern) = pattern {
        return matching(files, pattern);
    }
    let ggufs: Vec<&String> = files.iter().filter(|file| is_model_gguf(file)).collect();
    let best = |n: usize| LABELS[..n].iter().find_map(|label| with_label(&ggufs, label));
    let has = |name: &str| files.iter().any(|file| file == name);
    let weights: Vec<String> = weights(files);
    if let Some(found) = best(N_FOUR_BIT) {
        return found;
    }
    if has("config.json") && !weights.is_empty() {
        let small = FOLDER_FILES.iter().filter(|name| has(name)).map(|name| name.to_string());
        let why = format!("a folder with {} file(s) of safetensors", weights.len());
        return Ok(Choice { files: small.chain(weights).collect(), is_folder: true, why });
    }
    match (best(LABELS.len()), ggufs.as_slice()) {
        (Some(found), _) => found,
        (None, [only]) => Ok(one(only, "the only GGUF file".into())),
        (None, []) => Err(Error::Hub {
            what: "the repository holds neither a whole GGUF file nor config.json with safetensors".into(),
            hint: format!("GGUF files in several parts are not read; it holds {}", listed(files.iter())),
        }),
        (None, several) => Err(ambiguous("no GGUF file has a label that this version reads", several)),
    }
}

fn matching(files: &[String], pattern: &str) -> Result<Choice> {
    let glob = glob::Pattern::new(pattern).map_err(|error| Error::Hub {
        what: format!("`{pattern}` is not a file's name or pattern: {error}"),
        hint: "`*` stands for any characters, `?` for one".into(),
    })?;
    // A name may hold brackets of its own, so an equal name counts before the pattern.
    let mut found: Vec<String> = files.iter().filter(|file| *file == pattern).cloned().collect();
    if found.is_empty() {
        found = files.iter().filter(|file| glob.matches(file)).cloned().collect();
    }
    if found.is_empty() {
        return Err(Error::Hub {
            what: format!("no file of the repository matches `{pattern}`"),
            hint: format!("it holds {}", listed(files.iter())),
        });
    }
    found.sort_by_key(|file| file.ends_with(".safetensors"));
    Ok(Choice { why: format!("matches `{pattern}`"), files: found, is_folder: false })
}

/// Shards under the usual names; other safetensors files only where there is none of those, since some publishers add
/// a second copy of the weights under another name.
fn weights(files: &[String]) -> Vec<String> {
    let is_weights = |file: &&String| file.ends_with(".safetensors") && !file.contains('/');
    let usual: Vec<String> = files.iter().filter(|f| is_weights(f) && f.starts_with("model")).cloned().collect();
    match usual.is_empty() {
        false => usual,
        true => files.iter().filter(is_weights).cloned().collect(),
    }
}

/// Whether a file is a whole language model: not a part of one, and no projector or importance matrix.
fn is_model_gguf(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    name.ends_with(".gguf") && !name.contains("-of-") && !name.starts_with("mmproj") && !name.contains("imatrix")
}

/// The one file with this label; `None` when there is none or its formats cannot be read.
fn with_label(ggufs: &[&String], (label, formats): &(&str, &[&str])) -> Option<Result<Choice>> {
    if formats.iter().any(|name| WeightFormat::from_name(name).is_none()) {
        return None;
    }
    let found: Vec<&String> = ggufs.iter().filter(|file| has_label(file, label)).copied().collect();
    match found.as_slice() {
        [] => None,
        [one_file] => {
            let order: Vec<&str> = LABELS.iter().map(|(label, _)| *label).collect();
            Some(Ok(one(one_file, format!("{label}: the first that is there of {}", order.join(", ")))))
        }
        several => Some(Err(ambiguous(&format!("{} GGUF files are {label}", several.len()), several))),
    }
}

/// Whether the label stands alone in the name: `Q4_0` is not in `x-Q4_0_4_4.gguf`.
fn has_label(file: &str, label: &str) -> bool {
    let name = file.to_ascii_uppercase();
    name.match_indices(label).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + label.len()..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric()) && after.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

fn one(file: &str, why: String) -> Choice {
    Choice { files: vec![file.into()], is_folder: false, why }
}

fn ambiguous(what: &str, files: &[&String]) -> Error {
    let hint = format!("choose with --file NAME (or hf:OWNER/REPO:NAME) among {}", listed(files.iter().copied()));
    Error::Hub { what: format!("the choice is yours: {what}"), hint }
}

/// Names for a message.
fn listed<'a>(files: impl Iterator<Item = &'a String>) -> String {
    const MOST: usize = 40;
    let all: Vec<&str> = files.map(String::as_str).collect();
    match all.len() {
        0 => "nothing".into(),
        n if n > MOST => format!("{} and {} more", all[..MOST].join(", "), n - MOST),
        _ => all.join(", "),
    }
}
