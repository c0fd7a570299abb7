//! A message as JSON in the form of istiod's recordings (protobuf JSON with the
//! fields' proto names).
//!
//! envoy-types has no reflection, but the `Debug` form of a message holds all of
//! it: names of fields, variants and enum values. This reads that form.

use serde_json::{Map, Value};

use super::messages;

/// What a `Debug` form consists of.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    /// A number, as written.
    Number(String),
    Text(String),
    /// A bare word: `true`, `None`, an enum value, or a message without fields.
    Word(String),
    /// `Name { field: value, .. }`.
    Message(String, Vec<(String, Tree)>),
    /// `Name(value)`: `Some`, or a variant of a oneof.
    Wrapped(String, Box<Tree>),
    List(Vec<Tree>),
    /// `{ key: value, .. }`.
    Map(Vec<(Tree, Tree)>),
}

/// The JSON of the message with this `Debug` form; an explanation in its place
/// where it cannot be read.
pub(super) fn json(debug: &str) -> Value {
    let mut reader = Reader { rest: debug };
    match reader.tree() {
        Some(tree) if reader.rest.is_empty() => message(tree),
        _ => Value::String(format!("unreadable: {debug}")),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        self.rest = rest.trim_start();
        true
    }

    fn tree(&mut self) -> Option<Tree> {
        match self.rest.chars().next()? {
            '"' => self.text().map(Tree::Text),
            '[' => {
                self.take("[");
                self.until("]", Self::tree).map(Tree::List)
            }
            '{' => {
                self.take("{");
                let entry = |r: &mut Self| Some((r.tree()?, r.take(":").then(|| r.tree())??));
                self.until("}", entry).map(Tree::Map)
            }
            c if c.is_ascii_digit() || c == '-' => {
                let number = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                Some(Tree::Number(number))
            }
            _ => self.named(),
        }
    }

    fn named(&mut self) -> Option<Tree> {
        let name = self.word(|c| c.is_alphanumeric() || c == '_');
        if name.is_empty() {
            return None;
        }
        if self.take("{") {
            let field = |r: &mut Self| {
                r.take("r#");
                let name = r.word(|c| c.is_alphanumeric() || c == '_');
                Some((name, r.take(":").then(|| r.tree())??))
            };
            return Some(Tree::Message(name, self.until("}", field)?));
        }
        if self.take("(") {
            let inner = self.tree()?;
            return self.take(")").then(|| Tree::Wrapped(name, Box::new(inner)));
        }
        Some(Tree::Word(name))
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word.to_owned()
    }

    fn until<T>(
        &mut self,
        end: &str,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(item(self)?);
            self.take(",");
        }
        Some(items)
    }

    /// A text in quotes, with Rust's escapes.
    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        loop {
            match chars.next()? {
                (at, '"') => {
                    self.rest = self.rest.get(at + 1..)?.trim_start();
                    return Some(text);
                }
                (_, '\\') => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    other => text.push(other),
                },
                (_, plain) => text.push(plain),
            }
        }
    }
}

fn message(tree: Tree) -> Value {
    match tree {
        // A message without fields has no braces.
        Tree::Word(_) => Value::Object(Map::new()),
        other => value(other).unwrap_or_default(),
    }
}

/// The value, or nothing where protobuf JSON leaves it out.
fn value(tree: Tree) -> Option<Value> {
    match tree {
        Tree::Number(text) => text.parse().ok().map(Value::Number),
        Tree::Text(text) => Some(Value::String(text)),
        Tree::Word(word) => match word.as_str() {
            "None" => None,
            "true" | "false" => Some(Value::Bool(word == "true")),
            _ if messages::is_empty(&word) => Some(Value::Object(Map::new())),
            _ => Some(Value::String(messages::enum_value(&word))),
        },
        Tree::Wrapped(name, inner) if name == "Some" => value(*inner),
        Tree::Wrapped(name, inner) => {
            let inner = value(*inner).unwrap_or_default();
            Some(Value::Object(Map::from_iter([(snake(&name), inner)])))
        }
        Tree::List(items) => Some(items.into_iter().filter_map(value).collect()),
        Tree::Map(entries) => {
            let entries = entries.into_iter().filter_map(|(key, tree)| match key {
                Tree::Text(key) => Some((key, value(tree)?)),
                _ => None,
            });
            Some(Value::Object(entries.collect()))
        }
        Tree::Message(name, fields) => Some(known(&name, fields)),
    }
}

/// Messages that protobuf JSON writes in a way of their own, then all others.
fn known(name: &str, fields: Vec<(String, Tree)>) -> Value {
    let mut out = Map::new();
    for (field, tree) in fields {
        put(&mut out, &field, tree);
    }
    match name {
        "UInt32Value" | "UInt64Value" | "BoolValue" | "DoubleValue" | "StringValue" => {
            let zero = match name {
                "BoolValue" => Value::Bool(false),
                "StringValue" => Value::String(String::new()),
                _ => Value::from(0),
            };
            out.remove("value").unwrap_or(zero)
        }
        "Duration" => duration(&out),
        "Struct" => out
            .remove("fields")
            .unwrap_or_else(|| Value::Object(Map::new())),
        "ListValue" => out
            .remove("values")
            .unwrap_or_else(|| Value::Array(Vec::new())),
        // A value of a `Struct` has one of several kinds.
        "Value" => out
            .into_iter()
            .next()
            .map(|(_, kind)| kind)
            .unwrap_or_default(),
        "Any" => messages::any(&out),
        _ => Value::Object(out),
    }
}

/// Sets a field unless it has its default; the variant of a oneof takes the
/// place of the field, and counts with any value.
fn put(out: &mut Map<String, Value>, field: &str, tree: Tree) {
    if let Tree::Wrapped(some, inner) = &tree
        && some == "Some"
        && let Tree::Wrapped(variant, inner) = &**inner
    {
        let inner = match &**inner {
            Tree::Word(word) if messages::is_empty(word) => Some(Value::Object(Map::new())),
            other => value(other.clone()),
        };
        out.insert(snake(variant), inner.unwrap_or_default());
        return;
    }
    let is_set = matches!(&tree, Tree::Wrapped(..));
    let Some(value) = value(tree) else {
        return;
    };
    let is_default = match &value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || messages::is_default(field, text),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null => true,
    };
    if is_set || !is_default {
        out.insert(field.to_owned(), value);
    }
}

fn duration(fields: &Map<String, Value>) -> Value {
    let number = |name: &str| fields.get(name).and_then(Value::as_i64).unwrap_or_default();
    let (seconds, nanos) = (number("seconds"), number("nanos"));
    let text = match nanos {
        0 => format!("{seconds}s"),
        nanos if nanos % 1_000_000 == 0 => format!("{seconds}.{:03}s", nanos / 1_000_000),
        nanos => format!("{seconds}.{nanos:09}s"),
    };
    Value::String(text)
}

/// `UpperCamel` → `snake_case`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
