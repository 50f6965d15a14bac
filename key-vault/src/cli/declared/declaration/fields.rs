//! The fields of a part of a file, and what is said of those that are not as they should be.

use super::super::source::{Entry, Node};
use super::{Place, Problem};

/// Names of fields that are shown: anything else may be a key that stands in a wrong place.
const SHOWN_LENGTH_MAX: usize = 32;

/// Notes what is wrong, and goes on.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
}

impl Notes {
    pub(super) fn add(&mut self, place: &Place, text: impl Into<String>) {
        self.problems.push(Problem::new(place, text));
    }

    /// The fields of an entry, each of which must be one of `known` and there once.
    pub(super) fn fields<'a>(&mut self, place: &Place, entry: &'a Entry, known: &[&'static str]) -> Option<Fields<'a>> {
        let Node::Fields(found) = &entry.node else {
            self.add(place, format!("must have fields: {}", known.join(", ")));
            return None;
        };
        let mut fields = Fields { place: place.clone(), found: Vec::new() };
        for (name, value) in found {
            let at = Place { line: value.line, path: place.path.clone() };
            match known.iter().find(|known| *known == name) {
                None => self.add(&at, format!("has no field {}: there are {}", shown(name), known.join(", "))),
                Some(&name) if fields.found.iter().any(|(other, _)| *other == name) => {
                    self.add(&at, format!("has the field `{name}` twice"));
                }
                Some(&name) => fields.found.push((name, value)),
            }
        }
        Some(fields)
    }

    /// The entries of a list, with their places.
    pub(super) fn list<'a>(&mut self, field: Option<Field<'a>>) -> Vec<(Place, &'a Entry)> {
        let Some(Field { place, entry }) = field else { return Vec::new() };
        let list = match &entry.node {
            Node::List(list) => list.as_slice(),
            Node::Nothing => &[],
            _ => {
                self.add(&place, "must be a list");
                &[]
            }
        };
        let at = |(index, entry): (usize, &'a Entry)| {
            (Place { line: entry.line, path: format!("{}[{index}]", place.path) }, entry)
        };
        list.iter().enumerate().map(at).collect()
    }

    pub(super) fn text<'a>(&mut self, place: &Place, entry: &'a Entry) -> Option<&'a str> {
        if let Node::Text(text) = &entry.node {
            return Some(text);
        }
        self.add(place, "must be text: put it into quotes");
        None
    }

    pub(super) fn optional_text<'a>(&mut self, field: Option<Field<'a>>) -> Option<&'a str> {
        field.and_then(|Field { place, entry }| self.text(&place, entry))
    }

    pub(super) fn flag(&mut self, field: Option<Field<'_>>) -> bool {
        match field {
            None => false,
            Some(Field { entry: Entry { node: Node::Flag(flag), .. }, .. }) => *flag,
            Some(Field { place, .. }) => {
                self.add(&place, "must be true or false");
                false
            }
        }
    }

    pub(super) fn count(&mut self, field: Option<Field<'_>>) -> Option<i64> {
        match field? {
            Field { entry: Entry { node: Node::Number(number @ 1..), .. }, .. } => Some(*number),
            Field { place, .. } => {
                self.add(&place, "must be a whole number from 1 on");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, field: Option<Field<'_>>, words: &[(&str, T)]) -> Option<T> {
        let Field { place, entry } = field?;
        let found = match &entry.node {
            Node::Text(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.add(&place, format!("must be {}", words.join(" or ")));
        }
        found.map(|(_, value)| *value)
    }
}

/// A part of a file whose names of fields are right.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) place: Place,
    found: Vec<(&'static str, &'a Entry)>,
}

/// A field that is there.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) place: Place,
    pub(super) entry: &'a Entry,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let entry: &'a Entry = self.found.iter().find(|(found, _)| *found == name)?.1;
        let separator = if self.place.path.is_empty() { "" } else { "." };
        let place = Place { line: entry.line, path: format!("{}{separator}{name}", self.place.path) };
        Some(Field { place, entry })
    }
}

fn shown(name: &str) -> String {
    let is_word = name.len() <= SHOWN_LENGTH_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_word && !name.is_empty() { format!("`{name}`") } else { "of this name".to_owned() }
}
