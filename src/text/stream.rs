//! Turns a model's tokens into text as they come. A token may be half a character, so text lags behind tokens.

use super::pieces::{Cursor, Pieces};
use crate::error::{Error, Result};
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
    /// Errors: [`Error::TokenOutOfRange`] for an id outside the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let n_vocab = self.pieces.pieces.len();
        if id as usize >= n_vocab {
            return Err(Error::TokenOutOfRange { id, n_vocab });
        }
        self.pieces.append(&mut self.cursor, id, false);
        Ok(self.cursor.take_complete())
    }

    /// What is left: U+FFFD if the answer stopped inside a character, nothing otherwise.
    pub fn finish(mut self) -> String {
        self.cursor.take_all()
    }
}
