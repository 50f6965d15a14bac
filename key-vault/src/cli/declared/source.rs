//! A declaring file as a tree in which every value knows its line.
//!
//! Odd on purpose: no text of a file is ever shown, and no error of a library is. Somebody who
//! puts a key where only a reference to one belongs must not find it in the log of a pipeline.

use std::{fmt, fs, io::Read as _, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

/// Some thousand keys with all their profiles. A longer file is a wrong one.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What separates the profiles in a cell of a list.
const CELL_SEPARATORS: [char; 2] = [';', ' '];

/// A value, and the line that it is on.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: u64,
    pub(super) node: Node,
}

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    Nothing,
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Entry>),
    /// In the order of the file, those that are there twice included.
    Fields(Vec<(String, Entry)>),
    /// Nothing that a declaration has.
    Other,
}

/// Why a file is no tree.
#[derive(Debug, PartialEq)]
pub(super) struct Unreadable {
    pub(super) line: u64,
    pub(super) problem: &'static str,
}

/// Reads a file: a list of keys if its name ends with `.csv`, otherwise YAML, of which JSON is a part.
pub(super) fn read(path: &Path) -> anyhow::Result<Result<Entry, Unreadable>> {
    let name = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Ok(Err(Unreadable { line: 1, problem: "the file is longer than 8 MiB" }));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(Err(Unreadable { line: 1, problem: "the file is not text in UTF-8" }));
    };
    let is_list = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    Ok(if is_list { csv(&text) } else { yaml(&text) })
}

/// YAML or JSON.
pub(super) fn yaml(text: &str) -> Result<Entry, Unreadable> {
    let options = serde_saphyr::options! {
        // Reported with the other problems.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Unreadable {
        line: error.location().map_or(1, |location| location.line()),
        problem: "this is not YAML or JSON: look at the indentation, the quotes and the brackets, also of the line before",
    })
}

/// A list of keys, one a row, with the names of the columns in the first.
pub(super) fn csv(text: &str) -> Result<Entry, Unreadable> {
    let unreadable = |error: &csv::Error| Unreadable {
        line: error.position().map_or(1, csv::Position::line),
        problem: "this is not a row of CSV with as many cells as the first row has",
    };
    let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let columns = rows.headers().map_err(|error| unreadable(&error))?.clone();
    let mut list = Vec::new();
    for row in rows.records() {
        let row = row.map_err(|error| unreadable(&error))?;
        let line = row.position().map_or(1, csv::Position::line);
        list.push(Entry { line, node: Node::Fields(cells(&columns, &row, line)) });
    }
    Ok(Entry { line: 1, node: Node::List(list) })
}

/// A row as the fields of a key. An empty cell says nothing.
fn cells(columns: &csv::StringRecord, row: &csv::StringRecord, line: u64) -> Vec<(String, Entry)> {
    let entry = |node| Entry { line, node };
    let filled = columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
    filled
        .map(|(column, cell)| {
            let text = || Node::Text(cell.to_owned());
            let material =
                |kind: &str| ("material".to_owned(), entry(Node::Fields(vec![(kind.to_owned(), entry(text()))])));
            match column {
                "file" | "env" => material(column),
                "profiles" => {
                    let profiles = cell.split(CELL_SEPARATORS).filter(|profile| !profile.is_empty());
                    let profiles = profiles.map(|profile| entry(Node::Text(profile.to_owned())));
                    (column.to_owned(), entry(Node::List(profiles.collect())))
                }
                "default" => (column.to_owned(), entry(cell.parse().map_or_else(|_| text(), Node::Flag))),
                "version" => (column.to_owned(), entry(cell.parse().map_or_else(|_| text(), Node::Number))),
                _ => (column.to_owned(), entry(text())),
            }
        })
        .collect()
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), node: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(i64::try_from(number).map_or(Node::Other, Node::Number))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = seq.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<Node>()? {
            // A name that is no text is no field's, and is refused like any other such name.
            let name = if let Node::Text(name) = name { name } else { String::new() };
            fields.push((name, map.next_value()?));
        }
        Ok(Node::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_value_knows_its_line_in_yaml_and_in_json() {
        for text in [
            "keys:\n- name: a\n  profiles: [x,\n    y]\n",
            "{\"keys\":\n[{\"name\": \"a\",\n\"profiles\": [\"x\",\n\"y\"]}]}",
        ] {
            let root = yaml(text).unwrap();
            let Node::Fields(fields) = root.node else { panic!("{root:?}") };
            let Node::List(keys) = &fields[0].1.node else { panic!("{fields:?}") };
            let Node::Fields(key) = &keys[0].node else { panic!("{keys:?}") };
            let Node::List(profiles) = &key[1].1.node else { panic!("{key:?}") };
            assert_eq!((keys[0].line, key[0].1.line, key[1].1.line), (2, 2, 3), "{text}");
            assert_eq!(profiles.iter().map(|profile| profile.line).collect::<Vec<_>>(), [3, 4], "{text}");
        }
    }

    #[test]
    fn what_is_no_tree_is_said_with_its_line_and_without_its_text() {
        let error = yaml("keys:\n- name: \"sk-canary\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert_eq!(csv("name,provider\na,openai\nb,openai,sk-canary\n").unwrap_err().line, 3);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            writeln!(text, "a{level}: &a{level} [{}]", vec![before; 10].join(", ")).unwrap();
        }
        assert!(yaml(&text).is_err());
    }
}
