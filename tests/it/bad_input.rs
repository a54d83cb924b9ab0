//! Hostile and broken files, and devices that fail: one clear error, no panic, no hang.

use crate::{
    cli::{pocketlm, stderr, stdout},
    common::{path, session},
};
use pocketlm::{
    CacheFormat, Error, SessionOptions,
    format::{ByteSource, Gguf},
    model::ModelFile,
    random,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

fn tiny_gguf() -> Vec<u8> {
    std::fs::read(path("tests/data/golden-gguf/Q4_0.gguf")).expect("the file")
}

fn open(bytes: Vec<u8>) -> Result<ModelFile, Error> {
    pollster::block_on(async {
        let gguf = Gguf::read(Arc::new(ByteSource::memory("test.gguf", bytes))).await?;
        ModelFile::from_gguf(gguf).await
    })
}

/// A folder of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    /// A copy of a golden checkpoint.
    fn copy(name: &str, label: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pocketlm-{label}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for entry in std::fs::read_dir(path(&format!("tests/data/golden/{name}"))).expect("the checkpoint") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
        }
        Self(folder)
    }

    fn edit(&self, file: &str, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.0.join(file)).expect("a text");
        std::fs::write(self.0.join(file), edit(text)).expect("it is written");
    }

    fn open(&self) -> Result<ModelFile, Error> {
        pollster::block_on(ModelFile::open(&self.0))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn truncated_gguf() {
    let whole = tiny_gguf();
    assert!(open(whole.clone()).is_ok());
    let lengths = (0..400).chain((400..whole.len()).step_by(4093)).chain([whole.len() - 1]);
    for length in lengths {
        let error = open(whole[..length].to_vec()).expect_err("a truncated file");
        assert!(matches!(error, Error::Corrupt { .. }), "{length} bytes: {error}");
        assert!(error.hint().is_some());
    }
}

/// Random damage to the header: an error or a model, never a panic, and never memory out of proportion.
#[test]
fn damaged_gguf() {
    let whole = tiny_gguf();
    for seed in 0..4000 {
        let mut bytes = whole.clone();
        for k in 0..1 + seed % 3 {
            let at = random::bits(seed, 2 * k) as usize % 13_000;
            bytes[at] = match random::bits(seed, 2 * k + 1) % 4 {
                0 => 0xff,
                1 => 0,
                _ => random::bits(seed, 100 + k) as u8,
            };
        }
        if let Ok(file) = open(bytes) {
            let _ = file.weights.place(file.config.tied, None, 128 << 20);
        }
    }
}

#[test]
fn lengths_that_overflow() {
    let whole = tiny_gguf();
    for (at, what) in [(8, "tensors"), (16, "pairs"), (24, "key")] {
        for huge in [u64::MAX, u64::MAX / 2, 1 << 40] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            let error = open(bytes).expect_err(what);
            assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error}");
        }
    }
}

#[test]
fn other_formats_and_versions() {
    for (bytes, part) in [
        (b"GGUF\x01\0\0\0".to_vec(), "GGUF version 1"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (b"PK\x03\x04zip file".to_vec(), "does not begin with `GGUF`"),
        (Vec::new(), "the header needs 4 more bytes"),
    ] {
        let error = open(bytes).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn damaged_folders() {
    let folder = Folder::copy("phi3-4k", "damaged");
    assert!(folder.open().is_ok());
    for (edit, part) in [
        (("\"phi3\"", "\"mamba\""), "the architecture `mamba` is not supported"),
        (("\"num_attention_heads\": 2", "\"num_attention_heads\": 0"), "heads"),
        (("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"), "cannot share 3"),
        (("\"hidden_size\": 192", "\"hidden_size\": 200"), "has shape"),
        (("\"sliding_window\": 48", "\"sliding_window\": 0"), "a sliding window of 0"),
        (("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"), "`blk.2.attn_norm.weight` is missing"),
        (("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"), "tensor `blk.1."),
        (("\"vocab_size\": 256", "\"vocab_size\": -1"), "`vocab_size` is -1"),
    ] {
        let folder = Folder::copy("phi3-4k", "damaged-edit");
        folder.edit("config.json", |text| {
            assert!(text.contains(edit.0), "{}", edit.0);
            text.replace(edit.0, edit.1)
        });
        let error = folder.open().expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    folder.edit("config.json", |text| text[..text.len() / 2].to_string());
    assert!(matches!(folder.open(), Err(Error::Corrupt { .. })));
}

#[test]
fn damaged_safetensors() {
    let folder = Folder::copy("phi3-4k", "safetensors");
    let shard = folder.0.join("model.safetensors");
    let whole = std::fs::read(&shard).expect("the shard");
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&shard, &whole[..length]).expect("it is written");
        assert!(matches!(folder.open(), Err(Error::Corrupt { .. })), "{length} bytes");
    }
    let mut bytes = whole.clone();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&shard, &bytes).expect("it is written");
    assert!(matches!(folder.open(), Err(Error::Corrupt { .. })));
    std::fs::remove_file(&shard).expect("it was there");
    assert!(matches!(folder.open(), Err(Error::Io { .. })));

    let sharded = Folder::copy("llama2", "shards");
    sharded.edit("model.safetensors.index.json", |text| {
        text.replace("model-00001-of-00003.safetensors", "../../etc/model.safetensors")
    });
    assert!(matches!(sharded.open(), Err(Error::Corrupt { .. })), "a shard outside the folder");
}

/// What a person sees: the error, the hint, status 1, nothing on stdout.
#[test]
fn errors_on_the_command_line() {
    let folder = path("tests/data/golden/llama2");
    let folder = folder.to_str().expect("UTF-8");
    let missing = Path::new("no-such-model.gguf").to_str().expect("UTF-8");
    for (arguments, part) in [
        (vec!["run", missing, "-p", "x"], "cannot read no-such-model.gguf"),
        (vec!["run", folder, "-p", "x"], "the model has no tokenizer"),
        (vec!["logits", folder, "--ids", "5,256"], "token id 256 is outside the vocabulary of 256"),
        (vec!["logits", folder, "--ids", "5,6,7", "--ctx", "2"], "3 tokens do not fit a context of 2"),
        (vec!["logits", folder, "--ids", "5", "--ctx", "16000000"], "the device cannot hold"),
        (vec!["logits", folder, "--ids", "5", "--adapter", "Voodoo 2"], "no adapter matches `Voodoo 2`"),
        (vec!["run", folder, "-p", "x", "--temp", "-1"], "the temperature must be 0 or more"),
        (vec!["run", folder, "-p", "x", "--top-p", "0"], "top-p must be above 0"),
    ] {
        let output = pocketlm(&arguments);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_lost_device_is_an_error() {
    let mut session = session(&path("tests/data/golden/llama2"), None, CacheFormat::F16, false);
    pollster::block_on(session.feed(&[5, 6])).expect("it runs");
    session.engine().gpu.destroy();
    let result = pollster::block_on(async {
        session.feed(&[7]).await?;
        session.most_probable().await
    });
    assert!(matches!(result, Err(Error::Device { .. })), "{result:?}");
    let engine = session.engine().clone();
    let again = pollster::block_on(pocketlm::Session::new(engine, &SessionOptions::default()));
    assert!(matches!(again, Err(Error::Device { .. })));
}

#[test]
fn a_refused_prompt_changes_nothing() {
    let mut session = session(&path("tests/data/golden/llama2"), None, CacheFormat::F16, false);
    pollster::block_on(session.feed(&[5, 6])).expect("it runs");
    assert!(matches!(pollster::block_on(session.feed(&[7, 999])), Err(Error::TokenOutOfRange { id: 999, .. })));
    let too_many = vec![5; session.context()];
    assert!(matches!(pollster::block_on(session.feed(&too_many)), Err(Error::ContextFull { .. })));
    assert_eq!(session.tokens(), [5, 6]);
}

/// A value in `config.json` that a fresh eye found to be trusted too early: refused before anything is made from it.
#[test]
fn sizes_are_checked_before_they_are_used() {
    for (from, to, part) in [
        ("\"hidden_size\": 192", "\"head_dim\": 10000000000000, \"hidden_size\": 192", "rotated numbers per head"),
        ("\"hidden_size\": 192", "\"partial_rotary_factor\": 1e12, \"hidden_size\": 192", "rotated numbers per head"),
        ("\"intermediate_size\": 256", "\"intermediate_size\": 4000000", "feed-forward size: 4000000"),
    ] {
        let folder = Folder::copy("phi3-4k", "sizes");
        folder.edit("config.json", |text| text.replace(from, to));
        let error = folder.open().expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
    let folder = Folder::copy("phi3-4k", "window");
    folder.edit("config.json", |text| text.replace("\"sliding_window\": 48", "\"sliding_window\": 4294967297"));
    assert_eq!(folder.open().expect("a window that hides nothing").config.sliding_window, None);
}

/// Logits of ids need no tokenizer, so a bad one does not stop them; asking for text names what is wrong with it.
#[test]
fn a_bad_tokenizer_stops_only_text() {
    let folder = Folder::copy("llama2", "tokenizer");
    for (tokenizer, part) in [
        ("{", "tokenizer.json"),
        (
            r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"FixedLength","length":0}}"#,
            "FixedLength",
        ),
        (
            r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////wAAAAA="}}"#,
            "Precompiled",
        ),
    ] {
        std::fs::write(folder.0.join("tokenizer.json"), tokenizer).expect("it is written");
        let model = folder.0.to_str().expect("UTF-8");
        let output = pocketlm(&["logits", model, "--ids", "5,6"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let output = pocketlm(&["run", model, "-p", "x", "--raw"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

/// Before an adapter is looked for, and so before weights are read.
#[test]
fn what_text_lacks_is_said_first() {
    let folder = Folder::copy("llama2", "no-template");
    let model = folder.0.to_str().expect("UTF-8");
    let commands: [(&[&str], &str); 5] = [
        (&["run", model, "-p", "x", "--raw"], "no tokenizer"),
        (&["run", model, "-p", "x"], "no tokenizer"),
        (&["chat", model], "no tokenizer"),
        (&["logits", model, "-p", "x"], "no tokenizer"),
        (&["perplexity", model, file!()], "no tokenizer"),
    ];
    let check = |command: &[&str], expected: &str| {
        let output = pocketlm(&[command, &["--adapter", "none of this name"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{command:?}: {}", stderr(&output));
    };
    for (command, expected) in commands {
        check(command, expected);
    }
    let tokenizer = r#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]}}"#;
    std::fs::write(folder.0.join("tokenizer.json"), tokenizer).expect("it is written");
    check(&["run", model, "-p", "x"], "no chat template");
    check(&["chat", model], "no chat template");
    check(&["run", model, "-p", "x", "--raw"], "none of this name");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error() {
    let folder = path("tests/data/golden/llama2");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pocketlm"))
        .args(["logits", folder.to_str().expect("UTF-8"), "--ids", "5"])
        .stdout(full)
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
}

/// More cache than the machine has memory: an error, before the system ends the program.
#[test]
fn a_context_larger_than_memory() {
    let model = crate::common::smollm2();
    let output = pocketlm(&["logits", model.to_str().expect("UTF-8"), "--ids", "5", "--ctx", "340000"]);
    let told = stderr(&output);
    // A real GPU may hold it, or say itself that it cannot.
    if told.contains("the device cannot hold") {
        assert_eq!(output.status.code(), Some(1));
        let longest = told.split("hint: --ctx ").nth(1).and_then(|rest| rest.split(' ').next());
        let longest: u32 = longest.and_then(|n| n.parse().ok()).expect("the longest context that fits");
        assert!((10_000..340_000).contains(&longest), "{told}");
    }
}
