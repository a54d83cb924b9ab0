//! Session files: what is restored goes on as if nothing had happened, and what is damaged or another model's is refused.

use crate::{
    cli::{stderr, stdout},
    common::{engine, feed, logits, max_difference, path, smollm2},
};
use pocketlm::{CacheFormat, Engine, Error, Session, SessionOptions, WeightFormat, session::SavedSession};
use serde_json::{Value, json};
use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

fn tiny(name: &str) -> Arc<Engine> {
    engine(&path(&format!("tests/data/golden/{name}")), Some(WeightFormat::F32))
}

fn open(engine: &Arc<Engine>, cache: CacheFormat, context: usize, batch: usize) -> Session {
    let options = SessionOptions { cache, batch, context: Some(context), ..SessionOptions::default() };
    pollster::block_on(Session::new(engine.clone(), &options)).expect("a session opens")
}

fn prompt(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + i * i * 17 % 250).collect()
}

fn save(session: &Session, file: &Path, note: &Value) {
    pollster::block_on(session.save(file, note)).expect("it is saved");
}

fn restore(session: &mut Session, file: &Path) -> Result<usize, Error> {
    pollster::block_on(async { session.restore(&SavedSession::open(file).await?).await })
}

#[test]
fn a_restored_session_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("session");
    for (name, cache, batch) in [
        ("llama2", CacheFormat::F16, 512),
        ("llama3-gqa-tied", CacheFormat::Q4_0, 512),
        // Batches of 16 and a window of 48: a ring of 63 rows.
        ("phi3-4k", CacheFormat::F32, 16),
        ("phi3-4k", CacheFormat::Q8_0, 16),
    ] {
        let engine = tiny(name);
        let mut before = open(&engine, cache, 200, batch);
        let ids = prompt(150);
        feed(&mut before, &ids);
        save(&before, &file, &json!({ "messages": ["ü"] }));
        let next = feed(&mut before, &[7, 8]);
        let saved = pollster::block_on(SavedSession::open(&file)).expect("it opens");
        assert_eq!((saved.cache(), saved.n_tokens(), saved.note()), (cache, 150, &json!({ "messages": ["ü"] })));
        let mut after = open(&engine, cache, 200, batch);
        // What was there before is gone.
        feed(&mut after, &[5, 6, 7]);
        assert_eq!(restore(&mut after, &file).expect("it is restored"), 150, "{name}, {cache:?}");
        assert_eq!(after.tokens(), ids);
        assert_eq!(feed(&mut after, &[7, 8]), next, "{name}, {cache:?}");
        // A ring of another length holds the same positions in other rows.
        let mut other = open(&engine, cache, 300, 24);
        assert_eq!(restore(&mut other, &file).expect("it is restored"), 150, "{name}, {cache:?}");
        assert_eq!(feed(&mut other, &[7, 8]), next, "{name}, {cache:?}");
    }
}

/// Without its cache, as after a device's failure, a session is computed anew.
#[test]
fn a_lost_device_leaves_the_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("session");
    let engine = tiny("llama2");
    let mut session = open(&engine, CacheFormat::F16, 200, 512);
    feed(&mut session, &prompt(40));
    engine.gpu.destroy();
    save(&session, &file, &Value::Null);
    let engine = tiny("llama2");
    let mut after = open(&engine, CacheFormat::F16, 200, 512);
    assert_eq!(restore(&mut after, &file).expect("it is restored"), 0);
    assert_eq!(after.tokens(), prompt(40));
    let next = feed(&mut after, &[9]);
    let ids = [&prompt(40)[..], &[9]].concat();
    assert!(max_difference(&next, &logits(&mut after, &ids)) < 1e-5);
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("session");
    let engine = tiny("llama2");
    let mut session = open(&engine, CacheFormat::F16, 200, 512);
    feed(&mut session, &prompt(50));
    save(&session, &file, &Value::Null);
    let told = |result: Result<usize, Error>| result.expect_err("refused").to_string();
    let mut other = open(&tiny("phi3-4k"), CacheFormat::F16, 200, 512);
    assert!(told(restore(&mut other, &file)).contains("of another model (llama with 2 layers"));
    let mut other = open(&engine_in(WeightFormat::F16), CacheFormat::F16, 200, 512);
    assert!(told(restore(&mut other, &file)).contains("of another model"), "other weights, other keys");
    let mut other = open(&engine, CacheFormat::Q8_0, 200, 512);
    assert!(told(restore(&mut other, &file)).contains("held in f16, the session's in q8_0"));
    let mut other = open(&engine, CacheFormat::F16, 49, 512);
    assert_eq!(told(restore(&mut other, &file)), "50 tokens do not fit a context of 49");
    assert!(matches!(restore(&mut other, &path("Cargo.toml")), Err(Error::SavedSession { .. })));
    assert!(matches!(restore(&mut other, &folder.path().join("absent")), Err(Error::Io { .. })));
    // A failed write leaves what was there, and nothing else.
    let before = std::fs::read(&file).expect("the file");
    let failed = pollster::block_on(session.save(&folder.path().join("no/such/folder"), &Value::Null));
    assert!(matches!(failed, Err(Error::Write { .. })), "{failed:?}");
    assert_eq!(std::fs::read(&file).expect("the file"), before);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

fn engine_in(weights: WeightFormat) -> Arc<Engine> {
    engine(&path("tests/data/golden/llama2"), Some(weights))
}

/// Cut short anywhere, or with any byte changed, a file is refused, and the session is as good as new.
#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, damaged) = (folder.path().join("session"), folder.path().join("damaged"));
    let engine = tiny("llama2");
    let mut session = open(&engine, CacheFormat::Q8_0, 60, 512);
    let want = feed(&mut session, &prompt(20));
    save(&session, &file, &json!("note"));
    let bytes = std::fs::read(&file).expect("the file");
    let mut check = |bytes: &[u8], what: String| {
        std::fs::write(&damaged, bytes).expect("it is written");
        let result = restore(&mut session, &damaged);
        assert!(matches!(result, Err(Error::SavedSession { .. })), "{what}: {result:?}");
    };
    let positions = (0..bytes.len()).step_by(211).chain(0..40).chain(bytes.len() - 9..bytes.len());
    for at in positions {
        check(&bytes[..at], format!("cut at {at}"));
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        check(&changed, format!("byte {at}"));
    }
    check(&[&bytes[..], b"more"].concat(), "longer".into());
    let header = 16..bytes.windows(5).position(|w| w == b"note\"").expect("the note") + 6;
    let text = String::from_utf8(bytes[header.clone()].to_vec()).expect("JSON");
    for (from, to) in [
        ("\"n_tokens\":20", "\"n_tokens\":18446744073709551615"),
        ("\"n_tokens\":20", "\"n_tokens\":16777216"),
        ("\"end\":20", "\"end\":21"),
        ("\"start\":0", "\"start\":20"),
        ("\"part_kv_heads\":3", "\"part_kv_heads\":0"),
        ("\"first_angle_row\":0", "\"first_angle_row\":4096"),
        ("q8_0", "q9_9"),
    ] {
        let json = text.replace(from, to);
        assert_ne!(json, text, "{from}");
        let length = (json.len() as u64).to_le_bytes();
        check(&[&bytes[..8], &length, json.as_bytes(), &bytes[header.end..]].concat(), to.into());
    }
    assert_eq!(restore(&mut session, &file).expect("the whole file is good"), 20);
    session.truncate(0);
    assert_eq!(feed(&mut session, &prompt(20)), want);
}

fn chat(arguments: &[&str], lines: &str) -> Output {
    let model = smollm2();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pocketlm"))
        .args([&["chat", model.to_str().expect("UTF-8"), "--ctx", "100"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("stdin").write_all(lines.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_chat_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, export) = (folder.path().join("s"), folder.path().join("messages.json"));
    let session = ["--session", file.to_str().expect("UTF-8")];
    let first = chat(&[&session[..], &["--kv", "q8_0"]].concat(), "Say only: yes.\n");
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(!stdout(&first).is_empty() && file.exists());
    // The file's cache is taken as it is, and what was said is not processed again.
    let lines = format!("/export {}\n/nonsense\nAgain.\n/quit\n", export.display());
    let second = chat(&session, &lines);
    let told = stderr(&second);
    assert!(second.status.success() && told.contains("2 messages; "), "{told}");
    assert!(told.contains(" reused)"), "{told}");
    assert!(told.contains("unknown command /nonsense"), "{told}");
    let messages: Value = serde_json::from_slice(&std::fs::read(&export).expect("the file")).expect("JSON");
    assert_eq!(messages[0], json!({ "role": "user", "content": "Say only: yes." }));
    assert_eq!(messages[1]["role"], "assistant");
    // Another --kv than the file's is refused, and the file stays as it is.
    let before = std::fs::read(&file).expect("the file");
    let third = chat(&[&session[..], &["--kv", "f32"]].concat(), "x\n");
    assert_eq!(third.status.code(), Some(1));
    assert!(stderr(&third).contains("its cache is held in q8_0, the session's in f32"), "{}", stderr(&third));
    assert_eq!(std::fs::read(&file).expect("the file"), before);
}
