//! Chat templates: the Jinja text in a model's files that turns a conversation into one prompt.
//!
//! Templates are programs from strangers. They see nothing but the messages, run on limited fuel, and their output is
//! bounded. What minijinja cannot bound is a string that a template doubles in a loop, or a list that it repeats a
//! billion times: fuel counts instructions, not bytes.

use crate::{
    error::{Error, Result},
    format::{Folder, Metadata},
};
use minijinja::{Environment, ErrorKind, State, Value, context, value::Kwargs};
use serde::{Deserialize, Serialize};
use std::{fmt, io};

/// Instructions a rendering may take; a conversation of a thousand messages takes a few hundred thousand.
const FUEL: u64 = 5_000_000;
/// Deep enough for macros; `minijinja` would need a larger stack for many more.
const MAX_RECURSION: usize = 50;
/// What a template may write beyond [`MAX_GROWTH`] times the messages.
const MAX_OVERHEAD_BYTES: usize = 1 << 20;
const MAX_GROWTH: usize = 16;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    pub content: String,
}

/// A day, for templates that tell the model today's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    pub year: u16,
    /// From 1.
    pub month: u8,
    /// From 1.
    pub day: u8,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

/// What a template's `raise_exception` said.
#[derive(Debug)]
struct Refusal(String);

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

impl ChatTemplate {
    /// Compiles `source`; the two texts are what the template calls `bos_token` and `eos_token`.
    ///
    /// Errors: [`Error::Text`] when it is no valid Jinja.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        let compiled = without_generation_blocks(source);
        environment.add_template_owned("chat_template", compiled).map_err(|error| Error::Text {
            what: format!("the chat template is not valid: {}", describe(&error)),
            hint: "give the prompt as raw text instead, or take a newer version of the model's files",
        })?;
        Ok(Self { environment, source: source.into(), bos_token: bos_token.into(), eos_token: eos_token.into() })
    }

    /// The template's text in a GGUF file.
    pub fn source_in_gguf(metadata: &Metadata) -> Option<&str> {
        metadata.string("tokenizer.chat_template")
    }

    /// The template's text in a `tokenizer_config.json`: its only one, or the one called "default".
    pub fn source_in_config(tokenizer_config: &serde_json::Value) -> Option<&str> {
        match &tokenizer_config["chat_template"] {
            serde_json::Value::Array(named) => {
                named.iter().find(|template| template["name"] == "default")?["template"].as_str()
            }
            template => template.as_str(),
        }
    }

    /// The template's text in a model's folder: newer ones have a file for it beside `tokenizer_config.json`.
    pub fn source_in_folder(folder: &Folder) -> Option<String> {
        let in_config = || folder.tokenizer_config.as_ref().and_then(Self::source_in_config);
        folder.chat_template.clone().or_else(|| in_config().map(str::to_string))
    }

    /// Tells the template what day it is; without, templates use a date of their own or none.
    pub fn with_date(mut self, date: Date) -> Self {
        self.environment.add_function("strftime_now", move |format: &str| strftime(date, format));
        self
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the assistant begins to speak.
    ///
    /// Errors: [`Error::Text`] when the template fails, refuses the messages, or takes too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let n_bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut out = Bounded { bytes: Vec::new(), limit: MAX_OVERHEAD_BYTES + MAX_GROWTH * n_bytes };
        let context = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
            tools => Value::from(()),
            documents => Value::from(()),
        };
        let template = self.environment.get_template("chat_template");
        let rendered = template.and_then(|template| template.render_captured_to(context, &mut out).map(|_| ()));
        rendered.map_err(|error| failure(&error, messages))?;
        String::from_utf8(out.bytes).map_err(|_| unreadable("it wrote no UTF-8".into()))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

fn failure(error: &minijinja::Error, messages: &[Message]) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(Refusal(message)) = current.downcast_ref() {
            let about_system = message.to_lowercase().contains("system");
            let hint = if about_system || messages.first().is_some_and(|message| message.role == "system") {
                "if the model knows no system message, put its text at the start of the first user message"
            } else {
                "most templates want user and assistant to take turns, beginning with user"
            };
            return Error::Text { what: format!("the chat template refuses these messages: {message}"), hint };
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => unreadable("it takes too many steps".into()),
        ErrorKind::WriteFailure => unreadable("it writes far more than the messages hold".into()),
        _ => unreadable(describe(error)),
    }
}

fn unreadable(what: String) -> Error {
    Error::Text {
        what: format!("the chat template failed: {what}"),
        hint: "give the prompt as raw text instead, or take a newer version of the model's files",
    }
}

fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    let refusal = Refusal(message.into());
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, refusal.to_string()).with_source(refusal))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// `{% generation %}` marks what the assistant said, for training; it writes nothing and Jinja proper lacks it.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let inside = rest[start + 2..].trim_start_matches(['-', '+']).trim_start();
        let n_before = rest.len() - inside.len();
        out.push_str(&rest[..n_before]);
        rest = inside;
        for (tag, instead) in [("generation", "if true"), ("endgeneration", "endif")] {
            let after =
                rest.strip_prefix(tag).filter(|after| after.trim_start().trim_start_matches('-').starts_with("%}"));
            if let Some(after) = after {
                out.push_str(instead);
                rest = after;
                break;
            }
        }
    }
    out + rest
}

/// `tojson` as transformers defines it: Python's separators, nothing escaped for HTML.
fn to_json(_: &State, value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "cannot write the value as JSON").with_source(error)
    };
    let mut bytes = Vec::new();
    match indent {
        Some(n) => {
            let spaces = vec![b' '; n.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter)).map_err(failed)?
        }
    }
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// JSON with a space after commas and colons.
struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Python's `strftime` for the parts of a date that templates ask for.
fn strftime(date: Date, format: &str) -> Result<String, minijinja::Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = MONTHS[usize::from(date.month).clamp(1, 12) - 1];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out += &format!("{:04}", date.year),
            Some('y') => out += &format!("{:02}", date.year % 100),
            Some('m') => out += &format!("{:02}", date.month),
            Some('d') => out += &format!("{:02}", date.day),
            Some('B') => out += month,
            Some('b') => out += &month[..3],
            Some('%') => out.push('%'),
            other => {
                let what = format!("strftime_now cannot write %{}", other.unwrap_or(' '));
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}

/// A buffer that takes no more than its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
