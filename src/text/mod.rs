//! Text to tokens and back: tokenizers from GGUF files and from Hugging Face folders, chat templates, and answers as
//! streams of text.

mod chat;
mod folder_tokenizer;
mod gguf_tokenizer;
mod pieces;
mod pre_tokenizer;
mod sentencepiece;
mod stream;
mod template;
mod tokenizer;

pub use stream::TextStream;
pub use template::{ChatTemplate, Date, Message};
pub use tokenizer::{Specials, Tokenizer};
