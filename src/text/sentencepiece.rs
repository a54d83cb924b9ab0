//! SentencePiece's BPE: characters are merged pairwise, always the pair whose piece has the highest score and, among
//! equal scores, the leftmost.
//!
//! The tokenizers crate ranks merges instead of scoring pieces. No two merges can share a rank there, so it cannot
//! break ties by position; that, and pieces marked unused, is why the merging is our own.

use crate::error::{Error, Result};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

/// A SentencePiece model of type BPE.
#[derive(Debug)]
pub(super) struct SentencePiece {
    scored: HashMap<Box<str>, Scored>,
    fallback: Fallback,
    /// Whether each fragment of text begins with a space that is not in the text.
    add_space_prefix: bool,
    /// See [`has_words`].
    has_words: bool,
}

/// A piece that merging may produce.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored {
    pub id: u32,
    pub score: f32,
    /// Merged on the way to longer pieces, but taken apart again if it remains.
    pub unused: bool,
}

/// What becomes of characters that are no piece.
#[derive(Debug)]
pub(super) enum Fallback {
    /// One token for each byte.
    Bytes(Box<[u32; 256]>),
    /// One token for each run of them.
    Unknown(u32),
}

impl SentencePiece {
    pub fn new(scored: HashMap<Box<str>, Scored>, fallback: Fallback, add_space_prefix: bool) -> Self {
        let has_words = has_words(scored.keys().map(|piece| &**piece));
        Self { scored, fallback, add_space_prefix, has_words }
    }

    /// Token ids of a fragment: text without tokens that are matched as a whole.
    ///
    /// Errors: [`Error::Invalid`] for text of 2 GiB and more.
    pub fn tokenize(&self, fragment: &str) -> Result<Vec<u32>> {
        let mut text = fragment.replace(' ', "▁");
        if self.add_space_prefix {
            text.insert(0, '▁');
        }
        if text.len() > i32::MAX as usize {
            return Err(Error::Invalid { what: "texts above 2 GiB cannot be encoded".into() });
        }
        let mut ids = Vec::new();
        if !self.has_words {
            self.merge(&text, &mut ids);
            return Ok(ids);
        }
        // Most words of a text have been there before.
        let mut known: HashMap<&str, std::ops::Range<usize>> = HashMap::new();
        for word in words(&text) {
            match (known.get(word), &self.fallback) {
                (Some(range), Fallback::Bytes(_)) => ids.extend_from_within(range.clone()),
                _ => {
                    let start = ids.len();
                    self.merge(word, &mut ids);
                    known.insert(word, start..ids.len());
                }
            }
        }
        Ok(ids)
    }

    fn merge(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merging = Merging::new(self, text);
        merging.run();
        for symbol in merging.symbols.iter().filter(|symbol| symbol.start < symbol.end) {
            self.push_ids(text, *symbol, &merging.unused_splits, ids);
        }
    }

    fn push_ids(&self, text: &str, symbol: Symbol, unused_splits: &HashMap<(u32, u32), u32>, ids: &mut Vec<u32>) {
        let (start, end) = (symbol.start, symbol.end);
        let split = unused_splits.get(&(start, end));
        if let Some(&middle) = split {
            self.push_ids(text, Symbol { end: middle, ..symbol }, unused_splits, ids);
            self.push_ids(text, Symbol { start: middle, ..symbol }, unused_splits, ids);
            return;
        }
        let piece = &text[start as usize..end as usize];
        match (self.scored.get(piece), &self.fallback) {
            (Some(scored), _) if !scored.unused => ids.push(scored.id),
            (_, Fallback::Bytes(bytes)) => ids.extend(piece.bytes().map(|byte| bytes[byte as usize])),
            (_, Fallback::Unknown(unknown)) if ids.last() == Some(unknown) => {}
            (_, Fallback::Unknown(unknown)) => ids.push(*unknown),
        }
    }
}

/// Whether none of `pieces` goes on after a space that follows something else, so that words can be merged one by one.
pub(super) fn has_words<'a>(mut pieces: impl Iterator<Item = &'a str>) -> bool {
    pieces.all(|piece| words(piece).nth(1).is_none())
}

/// The parts of `text` that begin with spaces, or at its start: `▁▁a`, `▁b`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let n_spaces = rest.len() - rest.trim_start_matches('▁').len();
        let end = rest[n_spaces..].find('▁').map_or(rest.len(), |n| n_spaces + n);
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// A stretch of the text, `start..end` in bytes; empty once it is merged into the one before.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
}

/// No symbol before the first or after the last.
const NONE: u32 = u32::MAX;

/// Two neighbours that together are a piece.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    /// The end of the pair in the text when it was found: a pair whose symbols have grown since is void.
    start: u32,
    end: u32,
    middle: u32,
    unused: bool,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

/// The state of merging one text.
struct Merging<'a> {
    model: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
    /// Where the unused pieces that were merged can be taken apart again.
    unused_splits: HashMap<(u32, u32), u32>,
}

impl<'a> Merging<'a> {
    fn new(model: &'a SentencePiece, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let index = symbols.len() as u32;
            let (start, end) = (start as u32, (start + c.len_utf8()) as u32);
            symbols.push(Symbol { start, end, previous: index.wrapping_sub(1), next: index + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        Self { model, text, symbols, pairs: BinaryHeap::new(), unused_splits: HashMap::new() }
    }

    fn run(&mut self) {
        for right in 1..self.symbols.len() as u32 {
            self.find_pair(right - 1, right);
        }
        while let Some(pair) = self.pairs.pop() {
            let (left, right) = (self.symbols[pair.left as usize], self.symbols[pair.right as usize]);
            let intact = (left.start, left.end, right.start, right.end);
            if intact != (pair.start, pair.middle, pair.middle, pair.end) {
                continue;
            }
            if pair.unused {
                self.unused_splits.insert((pair.start, pair.end), pair.middle);
            }
            self.symbols[pair.left as usize] = Symbol { end: right.end, next: right.next, ..left };
            self.symbols[pair.right as usize].start = right.end;
            if right.next != NONE {
                self.symbols[right.next as usize].previous = pair.left;
            }
            self.find_pair(left.previous, pair.left);
            self.find_pair(pair.left, right.next);
        }
    }

    fn find_pair(&mut self, left: u32, right: u32) {
        if left == NONE || right == NONE {
            return;
        }
        let (start, middle) = (self.symbols[left as usize].start, self.symbols[left as usize].end);
        let end = self.symbols[right as usize].end;
        if let Some(&Scored { score, unused, .. }) = self.model.scored.get(&self.text[start as usize..end as usize]) {
            self.pairs.push(Pair { score, left, right, start, end, middle, unused });
        }
    }
}
