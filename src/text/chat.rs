//! Conversations to tokens: the template's control tokens are recognised, those that people type are not.

use super::{
    template::{ChatTemplate, Message},
    tokenizer::Tokenizer,
};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Characters that texts have no use for: noncharacters, then the private planes.
const MARKS: [std::ops::RangeInclusive<char>; 3] =
    ['\u{FDD0}'..='\u{FDEF}', '\u{F0000}'..='\u{FFFFD}', '\u{100000}'..='\u{10FFFD}'];

impl Tokenizer {
    /// Token ids of a conversation, as `template` writes it.
    ///
    /// Texts of control tokens within a message stay text. Bos is put in front if the file says so and the template
    /// did not.
    ///
    /// Errors: [`Error::Text`] when the template fails or refuses the messages.
    pub fn encode_chat(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let mark = unused_character(self, template, messages)?;
        let quoting = Quoting::new(self.control_texts(), mark);
        let quoted = |message: &Message| Message::new(quoting.quote(&message.role), quoting.quote(&message.content));
        let messages: Vec<Message> = messages.iter().map(quoted).collect();
        let text = template.render(&messages, add_generation_prompt)?;
        Ok(self.with_bos(self.encode_marked(&text, mark)?))
    }
}

/// Breaks up control tokens' texts by a mark after their first character. The mark is no white space, so a template's
/// trimming works as it would on the text itself; the tokenizer takes it out once control tokens are found.
struct Quoting<'a> {
    mark: char,
    by_first: HashMap<char, Vec<&'a str>>,
}

impl<'a> Quoting<'a> {
    fn new(control_texts: &'a [String], mark: char) -> Self {
        let mut by_first: HashMap<char, Vec<&str>> = HashMap::new();
        for text in control_texts {
            if let Some(first) = text.chars().next() {
                by_first.entry(first).or_default().push(text);
            }
        }
        Self { mark, by_first }
    }

    fn quote(&self, text: &str) -> String {
        let mut quoted = String::with_capacity(text.len());
        for (index, c) in text.char_indices() {
            quoted.push(c);
            let rest = &text[index..];
            // The end of a text may also be the beginning of a token that what follows completes.
            let begins = |token: &&str| rest.starts_with(token) || token.starts_with(rest);
            if self.by_first.get(&c).is_some_and(|tokens| tokens.iter().any(begins)) {
                quoted.push(self.mark);
            }
        }
        quoted
    }
}

fn unused_character(tokenizer: &Tokenizer, template: &ChatTemplate, messages: &[Message]) -> Result<char> {
    let texts = || {
        let messages = messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()]);
        messages.chain(tokenizer.control_texts().iter().map(String::as_str)).chain([template.source()])
    };
    let used: std::collections::HashSet<char> =
        texts().flat_map(str::chars).filter(|c| MARKS.iter().any(|range| range.contains(c))).collect();
    MARKS.into_iter().flatten().find(|c| !used.contains(c)).ok_or_else(|| Error::Text {
        what: "the messages use every private character there is".into(),
        hint: "send ordinary text",
    })
}
