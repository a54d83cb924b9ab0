//! Checksums of what is downloaded: a quick one for each block that is kept, SHA-256 for the whole file.

use sha2::{Digest, Sha256 as State};
use wasm_bindgen::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// XXH3 of a block, 16 hexadecimal digits.
#[wasm_bindgen(js_name = blockHash)]
pub fn block_hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// SHA-256 of bytes that come piece by piece.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Sha256(State);

#[wasm_bindgen]
impl Sha256 {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
