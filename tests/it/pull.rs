//! Models from the hub, which here is a small server in this process: whole downloads, cut ones, and lies.

use crate::{
    cli::{stderr, stdout},
    common::path,
    hub_server::{COMMIT, Fault, Server, pocketlm, with_hub},
};
use pocketlm::{
    Error,
    hub::{Name, choose},
    random,
};
use std::{
    path::PathBuf,
    process::{Command, Output},
};

fn noise(seed: u64, n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| random::bits(seed, i) as u8).collect()
}

fn golden_gguf(format: &str) -> Vec<u8> {
    std::fs::read(path(&format!("tests/data/golden-gguf/{format}.gguf"))).expect("the file")
}

/// The path that a successful pull prints.
fn pulled(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", stderr(output));
    PathBuf::from(stdout(output).trim_end())
}

fn failed(output: &Output, parts: &[&str]) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(stdout(output), "");
    for part in parts.iter().chain(&["hint: "]) {
        assert!(told.contains(part), "`{part}` in {told}");
    }
    assert!(!told.contains("panicked") && !told.contains("hf_secret"), "{told}");
}

#[test]
fn a_folder_comes_whole_and_only_once() {
    let folder = path("tests/data/golden/llama2");
    let files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .expect("the checkpoint")
        .flatten()
        .map(|entry| (entry.file_name().into_string().expect("UTF-8"), std::fs::read(entry.path()).expect("a file")))
        .collect();
    let mut all: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    all.push(("README.md", b"# hello".to_vec()));
    all.push(("consolidated.safetensors", noise(1, 1000)));
    let server = Server::new("folder", &all);
    let output = server.pull(&[]);
    let model = pulled(&output);
    assert!(stderr(&output).contains("tiny/model at 0123456789ab: config.json"), "{}", stderr(&output));
    for (name, bytes) in &files {
        // The reference results are no part of a model.
        let wanted = name != "golden.json";
        assert_eq!(std::fs::read(model.join(name)).ok(), wanted.then(|| bytes.clone()), "{name}");
    }
    assert!(!model.join("README.md").exists() && !model.join("consolidated.safetensors").exists());
    // The layout that other tools look for.
    assert_eq!(model, server.repo().join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(server.repo().join("refs/main")).expect("a ref"), COMMIT);
    assert!(server.blobs().iter().all(|name| matches!(name.len(), 40 | 64)), "{:?}", server.blobs());

    let requests = server.requests();
    assert!(requests.iter().filter(|r| r.line.contains("/resolve/")).all(|r| r.has_token), "{requests:?}");
    assert!(requests.iter().filter(|r| r.line.contains("/storage/")).all(|r| !r.has_token), "{requests:?}");
    assert!(requests.iter().any(|r| r.line.contains("/storage/")));

    assert_eq!(pulled(&server.pull(&[])), model);
    let lines: Vec<String> = server.requests().into_iter().map(|r| r.line).collect();
    assert_eq!(lines, ["GET /api/models/tiny/model/revision/main"], "a second pull only asks what there is");

    // What runs from the cache asks nobody, and computes what the folder itself does.
    let nobody = "http://127.0.0.1:1";
    let run = |model: &str| pocketlm(&["logits", model, "--ids", "5,6,7"], nobody, &server.cache);
    let (from_cache, direct) = (run("hf:tiny/model"), run(folder.to_str().expect("UTF-8")));
    assert!(from_cache.status.success(), "{}", stderr(&from_cache));
    assert_eq!(stdout(&from_cache), stdout(&direct));

    // A shard that is gone makes the cached folder no model any more.
    let shard = model.join("model-00002-of-00003.safetensors");
    std::fs::remove_file(std::fs::canonicalize(&shard).expect("a link")).expect("a blob");
    failed(&run("hf:tiny/model"), &["cannot reach 127.0.0.1:1"]);
    pulled(&server.pull(&[]));
    assert!(run("hf:tiny/model").status.success());
}

#[test]
fn a_model_that_is_named_is_fetched_and_runs() {
    let server = Server::new("run", &[("Q4_0.gguf", golden_gguf("Q4_0")), ("Q8_0.gguf", golden_gguf("Q8_0"))]);
    for (name, file) in [("hf:tiny/model", "Q4_0"), ("hf:tiny/model:Q8_0.gguf", "Q8_0"), ("hf:tiny/model:*8*", "Q8_0")]
    {
        let direct = path(&format!("tests/data/golden-gguf/{file}.gguf"));
        let direct = server.pocketlm(&["logits", direct.to_str().expect("UTF-8"), "--ids", "5,6,7"]);
        let output = server.pocketlm(&["logits", name, "--ids", "5,6,7"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), stdout(&direct), "{name}");
    }
    assert_eq!(server.blobs().len(), 2);
    // A repository that was renamed answers under its new name.
    let renamed = pulled(&server.pocketlm(&["pull", "old/name:Q4_0.gguf"]));
    assert!(std::fs::read(renamed).expect("a file") == golden_gguf("Q4_0"));
    let output = server.pocketlm(&["inspect", "hf:tiny/model:*"]);
    failed(&output, &["`hf:tiny/model:*` stands for 2 files"]);
}

/// Each way in which a download can break off, and that the next one goes on and ends with the right bytes.
#[test]
fn cut_downloads_go_on() {
    let bytes = noise(2, 700_000);
    let server = Server::new("cut", &[("a model.gguf", bytes.clone())]);
    let blob = || server.blobs().iter().any(|name| name.len() == 64);
    for (cut, ranges) in [
        (vec![Some(Fault::Cut(300_000))], vec![None, Some(300_000)]),
        (vec![Some(Fault::CutUnannounced(300_000))], vec![None, Some(300_000)]),
        (vec![Some(Fault::Cut(1)), Some(Fault::Cut(0)), Some(Fault::Cut(9))], vec![None, Some(1), Some(1), Some(10)]),
        (vec![Some(Fault::Cut(300_000)), Some(Fault::NoRange)], vec![None, Some(300_000)]),
    ] {
        let _ = std::fs::remove_dir_all(server.repo());
        server.requests();
        server.faults(&cut);
        let model = pulled(&server.pull(&[]));
        assert!(std::fs::read(&model).expect("a file") == bytes, "{cut:?}: other bytes arrived");
        let asked = server.requests().into_iter().filter(|r| r.line.starts_with("GET /storage"));
        assert_eq!(asked.map(|r| r.range).collect::<Vec<_>>(), ranges, "{cut:?}");
    }
    // Broken off for good: the half file is no model, neither by its name nor for a run from the cache.
    let _ = std::fs::remove_dir_all(server.repo());
    server.faults(&[Some(Fault::Cut(300_000)), Some(Fault::Status(503, ""))]);
    failed(&server.pull(&[]), &["fails to give a model.gguf of tiny/model (HTTP status 503)"]);
    assert!(!blob(), "{:?}", server.blobs());
    assert!(server.blobs()[0].ends_with(".incomplete"), "{:?}", server.blobs());
    assert!(!server.repo().join("snapshots").exists() && !server.repo().join("refs").exists());
    failed(&pocketlm(&["inspect", "hf:tiny/model"], "http://127.0.0.1:1", &server.cache), &["cannot reach"]);
    server.requests();
    server.faults(&[]);
    assert!(std::fs::read(pulled(&server.pull(&[]))).expect("a file") == bytes);
    assert!(server.requests().iter().any(|r| r.range == Some(300_000)), "it went on");
    // Nothing arrives any more, again and again: told as what it is, and what is there stays.
    let _ = std::fs::remove_dir_all(server.repo());
    server.faults(&vec![Some(Fault::Cut(100)); 1].into_iter().chain(vec![Some(Fault::Cut(0)); 9]).collect::<Vec<_>>());
    failed(&server.pull(&[]), &["cannot reach", "100 of 700000 bytes of a model.gguf are kept"]);
}

/// A disk that fills keeps what is there for the next try.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let bytes = noise(7, 700_000);
    let server = Server::new("full", &[("x.gguf", bytes.clone())]);
    let program = env!("CARGO_BIN_EXE_pocketlm");
    // Files may have 200 KiB here; the signal that this sends is ignored, and the write fails as on a full disk.
    let limited = format!("trap '' XFSZ; ulimit -f 400; exec '{program}' pull tiny/model");
    let output = with_hub(Command::new("sh").args(["-c", &limited]), &server.address, &server.cache);
    failed(&output, &["cannot write", ".incomplete", "the next try goes on"]);
    server.requests();
    assert!(std::fs::read(pulled(&server.pull(&[]))).expect("a file") == bytes);
    assert!(server.requests().iter().any(|r| r.range.is_some_and(|from| from > 100_000)), "it went on");
}

/// Where the hub's own tools look, and with the token of their login.
#[cfg(unix)]
#[test]
fn the_environment_is_honoured() {
    let server = Server::new("environment", &[("x.gguf", noise(8, 100))]);
    let pull = |settings: &[(&str, PathBuf)]| {
        let mut command = Command::new("env");
        // Set behind `with_hub`, which sets some of them itself.
        command.args(["-u", "HF_HOME", "-u", "HF_TOKEN"]);
        command.args(settings.iter().map(|(name, value)| format!("{name}={}", value.display())));
        command.args([env!("CARGO_BIN_EXE_pocketlm"), "pull", "tiny/model"]);
        server.requests();
        let model = pulled(&with_hub(&mut command, &server.address, &server.cache));
        (model, server.requests().iter().all(|request| request.has_token || request.line.contains("/storage/")))
    };
    let at = |folder: &str| server.cache.join(folder);
    std::fs::create_dir_all(at("home/.cache/huggingface")).expect("a folder");
    std::fs::create_dir_all(at("login")).expect("a folder");
    std::fs::write(at("login/token"), "hf_secret\n").expect("it is written");
    for (settings, folder, has_token) in [
        (vec![("HF_HOME", at("login"))], "login/hub", true),
        (vec![("HF_HOME", at("login")), ("HF_HUB_CACHE", at("elsewhere"))], "elsewhere", true),
        (vec![("XDG_CACHE_HOME", at("caches")), ("HOME", at("home"))], "caches/huggingface/hub", false),
        (vec![("XDG_CACHE_HOME", PathBuf::new()), ("HOME", at("home"))], "home/.cache/huggingface/hub", false),
    ] {
        let (model, had_token) = pull(&settings);
        assert!(model.starts_with(at(folder)), "{} is not below {folder}", model.display());
        assert_eq!(had_token, has_token, "{folder}");
    }
}

#[test]
fn offline_asks_nobody() {
    let server = Server::new("offline", &[("x.gguf", golden_gguf("Q4_0"))]);
    let offline = |model: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketlm"));
        with_hub(command.args(["inspect", model]).env("HF_HUB_OFFLINE", "1"), &server.address, &server.cache)
    };
    failed(&offline("hf:tiny/model"), &["tiny/model is not in the cache, and HF_HUB_OFFLINE"]);
    pulled(&server.pull(&[]));
    server.requests();
    assert!(offline("hf:tiny/model").status.success());
    assert_eq!(server.requests().len(), 0);
}

/// What an earlier try left may be anything; only the announced bytes become a blob.
#[test]
fn damaged_downloads_are_removed() {
    let (bytes, small) = (noise(3, 50_000), b"[1]".to_vec());
    let server = Server::new("damage", &[("x.gguf", bytes.clone()), ("config.json", small)]);
    for (file, part) in [("x.gguf", "x.gguf arrived damaged: checksum"), ("config.json", "config.json arrived damaged")]
    {
        server.faults(&[Some(Fault::Damage)]);
        failed(&server.pull(&["--file", file]), &[part, "has been removed"]);
        assert_eq!(server.blobs(), [""; 0]);
    }
    for (faults, part) in [
        (vec![Some(Fault::TooMany)], "more than the announced 50000 bytes"),
        (vec![Some(Fault::Cut(400)), Some(Fault::WrongRange)], "the range `bytes 401-49999/50000`"),
        (vec![Some(Fault::Cut(400)), Some(Fault::Damage)], "checksum"),
    ] {
        server.faults(&faults);
        failed(&server.pull(&[]), &[part]);
        assert_eq!(server.blobs(), [""; 0], "{part}");
    }
    server.faults(&[]);
    let model = pulled(&server.pull(&[]));
    let blob = std::fs::canonicalize(&model).expect("a link");
    for left in [noise(4, 20_000), noise(4, 60_000), noise(4, 50_000)] {
        let incomplete = PathBuf::from(format!("{}.incomplete", blob.display()));
        std::fs::rename(&blob, &incomplete).expect("it was there");
        std::fs::write(&incomplete, &left).expect("it is written");
        if left.len() <= bytes.len() {
            failed(&server.pull(&[]), &["checksum"]);
        }
        assert!(std::fs::read(pulled(&server.pull(&[]))).expect("a file") == bytes, "{} bytes were left", left.len());
    }
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::new("refusal", &[("x.gguf", noise(5, 100))]);
    for (refusal, parts) in [
        (
            (401, "x-error-message: Access to it is restricted\r\n"),
            ["refuses tiny/model (HTTP status 401): Access", "HF_TOKEN"],
        ),
        ((403, ""), ["refuses tiny/model", "accept terms"]),
        ((404, ""), ["does not have tiny/model", "compare the name"]),
        ((500, ""), ["fails to give tiny/model", "try again later"]),
    ] {
        server.edit(|script| script.refusal = Some(refusal));
        failed(&server.pull(&[]), &parts);
    }
    server.edit(|script| script.refusal = None);
    server.faults(&[Some(Fault::Status(403, ""))]);
    failed(&server.pull(&[]), &["refuses x.gguf of tiny/model"]);
    failed(&server.pull(&["--file", "y.gguf"]), &["no file of the repository matches `y.gguf`", "it holds x.gguf"]);
    let nobody = pocketlm(&["pull", "tiny/model"], "http://127.0.0.1:1", &server.cache);
    failed(&nobody, &["cannot reach 127.0.0.1:1", "on another machine, copy what it prints"]);
    for name in ["tiny", "tiny/../model", "/etc/passwd", "a/b/c", "a/b:", "a/b@../x", "a/b@", "../b", "a/.."] {
        failed(&server.pocketlm(&["pull", name]), &["names no repository"]);
    }
    failed(&pocketlm(&["pull", "tiny/model"], "ftp://x", &server.cache), &["which is no address"]);
}

/// Names, checksums and sizes that a hostile server might send.
#[test]
fn hostile_answers_stay_in_the_cache() {
    let server = Server::new("hostile", &[("x.gguf", noise(6, 1000))]);
    let listing =
        |sha: &str, file: &str| serde_json::json!({ "sha": sha, "siblings": [{ "rfilename": file }] }).to_string();
    for file in [
        "../x.gguf",
        "/tmp/x.gguf",
        "a/../../x.gguf",
        "a//x.gguf",
        "./x.gguf",
        "..\\x.gguf",
        "C:x.gguf",
        "a\n.gguf",
        "",
    ] {
        server.edit(|script| script.listing = Some(listing(COMMIT, file)));
        failed(&server.pull(&[]), &["lists a file that leaves its folder"]);
    }
    for sha in ["../../x", "", "a/b", "."] {
        server.edit(|script| script.listing = Some(listing(sha, "x.gguf")));
        failed(&server.pull(&[]), &["is at a commit that is none"]);
    }
    for text in ["", "[]", "{}", "<html>", "{\"sha\": 3}"] {
        server.edit(|script| script.listing = Some(text.into()));
        failed(&server.pull(&[]), &["something else than a list of files"]);
    }
    server.edit(|script| script.listing = None);
    let sum = "0".repeat(64);
    for (about, part) in [
        ("x-linked-etag: \"../../../x\"\r\nx-linked-size: 1000\r\n".to_string(), "neither checksum nor size"),
        ("x-linked-size: 1000\r\n".into(), "neither checksum nor size"),
        (format!("x-linked-etag: {sum}\r\nx-linked-size: -1\r\n"), "neither checksum nor size"),
        (format!("x-linked-etag: {sum}\r\nx-linked-size: 1000\r\n"), "arrived damaged: checksum"),
        (format!("x-linked-etag: {sum}\r\nx-linked-size: 999\r\n"), "more than the announced 999 bytes"),
        (format!("x-linked-etag: {sum}\r\nx-linked-size: 0\r\n"), "arrived damaged: checksum"),
        // Never as long as announced: the server has no byte 1000.
        (format!("x-linked-etag: {sum}\r\nx-linked-size: {}\r\n", u64::MAX), "HTTP status 416"),
    ] {
        server.edit(|script| script.about = Some(about.clone()));
        failed(&server.pull(&[]), &[part]);
        let whole = server.blobs().iter().any(|name| !name.ends_with(".incomplete"));
        assert!(!whole && !server.repo().join("snapshots").exists(), "{about}: {:?}", server.blobs());
    }
    // Nothing was written beside the cache's own folders.
    let mut entries: Vec<_> = std::fs::read_dir(server.cache.join("hub")).expect("a cache").flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    let names: Vec<_> = entries.iter().map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(names, [".locks", "models--tiny--model"]);
}

/// The rule by which files are chosen.
#[test]
fn the_model_of_a_repository_is_chosen() {
    let folder = "config.json, model.safetensors, tokenizer.json, README.md";
    for (files, pattern, want) in [
        ("a-Q8_0.gguf, a-Q4_0.gguf, a-f16.gguf", None, "a-Q4_0.gguf"),
        ("a-Q4_0.gguf, a-Q4_K_M.gguf, a-Q4_K_S.gguf, a-Q6_K.gguf", None, "a-Q4_K_M.gguf"),
        ("a-q4.gguf, a-fp16.gguf", None, "a-q4.gguf"),
        ("a-Q4_0_4_4.gguf, a-Q8_0.gguf", None, "a-Q8_0.gguf"),
        ("a.q4_1.gguf, mmproj-a-q4_0.gguf, a.Q4_0.imatrix.gguf", None, "a.q4_1.gguf"),
        ("x/a-Q4_0-00001-of-00002.gguf, x/a-Q4_0-00002-of-00002.gguf, a-BF16.gguf", None, "a-BF16.gguf"),
        ("whatever.gguf, config.json", None, "whatever.gguf"),
        ("a-Q4_0-00001-of-00002.gguf, a-Q4_0-00002-of-00002.gguf", None, "error: neither a whole GGUF file nor"),
        (&format!("{folder}, a-Q4_0.gguf"), None, "a-Q4_0.gguf"),
        (&format!("{folder}, a-f32.gguf"), None, "config.json tokenizer.json model.safetensors"),
        (folder, Some("*.json"), "config.json tokenizer.json"),
        (folder, Some("README.md"), "README.md"),
        ("a[1].gguf, a1.gguf", Some("a[1].gguf"), "a[1].gguf"),
        ("config.json, gptq_model-4bit-128g.safetensors", None, "config.json gptq_model-4bit-128g.safetensors"),
        ("a-Q4_0.gguf, b-Q4_0.gguf", None, "error: 2 GGUF files are Q4_0"),
        ("a-IQ2_XS.gguf, b-IQ2_XXS.gguf", None, "error: no GGUF file has a label"),
        ("README.md", None, "error: neither a whole GGUF file nor"),
        ("a.gguf", Some("["), "error: is not a file's name or pattern"),
    ] {
        let files: Vec<String> = files.split(", ").map(str::to_string).collect();
        match (choose(&files, pattern), want.strip_prefix("error: ")) {
            (Ok(choice), None) => assert_eq!(choice.files.join(" "), want),
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{files:?}: {found:?} instead of {want}"),
        }
    }
}

#[test]
fn names_are_read() {
    let name = |text: &str| Name::parse(text).map(|n| (n.repo, n.revision, n.file.unwrap_or_default()));
    let parts = |repo: &str, revision: &str, file: &str| (repo.to_string(), revision.to_string(), file.to_string());
    assert_eq!(name("a/b").expect("a name"), parts("a/b", "main", ""));
    assert_eq!(name("hf:a-1/b.c_d:x/y-*.gguf").expect("a name"), parts("a-1/b.c_d", "main", "x/y-*.gguf"));
    assert_eq!(name("hf:a/b@refs/pr/1:x").expect("a name"), parts("a/b", "refs/pr/1", "x"));
    assert!(matches!(name("a b/c"), Err(Error::Hub { .. })));
}
