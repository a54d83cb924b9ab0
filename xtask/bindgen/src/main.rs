//! `bindgen WASM FOLDER`: what wasm-bindgen's own program does for a web page, at the version that Cargo.lock has.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: bindgen WASM FOLDER");
    let (wasm, folder) = (next()?, next()?);
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        // Without the path, `init()` would not know where the module is.
        .omit_default_module_path(false)
        .out_name("pocketlm")
        .generate(folder)
}
