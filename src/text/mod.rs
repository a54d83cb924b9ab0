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
mod to_gguf;
mod tokenizer;
mod tokenizer_json;

pub use folder_tokenizer::end_ids;
pub use stream::TextStream;
pub use template::{ChatTemplate, Date, Message};
pub use to_gguf::gguf_metadata;
pub use tokenizer::{Specials, Tokenizer};
