//! Turns a model's tokens into text as they come. A token may be half a character, so text lags behind tokens.

use super::pieces::{Cursor, Pieces};
use std::sync::Arc;

/// Decodes an answer token by token; see [`super::Tokenizer::stream`].
///
/// The pieces joined are what decoding prompt and answer together adds to the decoded prompt.
#[derive(Debug, Clone)]
pub struct TextStream {
    pieces: Arc<Pieces>,
    cursor: Cursor,
}

impl TextStream {
    pub(super) fn new(pieces: Arc<Pieces>, prompt: &[u32]) -> Self {
        let mut cursor = pieces.cursor();
        for &id in prompt {
            pieces.append(&mut cursor, id, false);
            cursor.take_complete();
        }
        Self { pieces, cursor }
    }

    /// Adds a token and returns the text that became complete, often one word and sometimes nothing. Control tokens
    /// have no text.
    ///
    /// Nor has an id beyond the tokenizer: embeddings are often padded with rows that stand for nothing.
    pub fn push(&mut self, id: u32) -> String {
        self.pieces.append(&mut self.cursor, id, false);
        self.cursor.take_complete()
    }

    /// What is left: U+FFFD if the answer stopped inside a character, nothing otherwise.
    pub fn finish(mut self) -> String {
        self.cursor.take_all()
    }
}
