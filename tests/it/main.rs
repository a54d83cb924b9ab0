//! The one integration test binary: a module for each thing under test.

mod bad_input;
mod chat;
mod cli;
mod common;
mod experts;
mod formats;
mod golden;
mod hub_server;
mod kernels;
mod packed;
mod plan;
mod pull;
mod quantize;
mod sampling;
mod saved;
mod sentencepiece;
mod session;
mod shaders;
mod shapes;
mod smollm2;
mod tidy;
mod to_gguf;
mod tokenizer;
mod tokenizer_files;
mod vocabularies;
