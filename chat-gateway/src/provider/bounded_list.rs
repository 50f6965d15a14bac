//! Lists in an event of an answer, of no more items than any answer has.
//!
//! An item of two bytes may become a hundred times as large in memory.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Far more calls, choices or parts than any provider puts into one event.
pub(super) const ITEMS_MAX: usize = 4096;

/// Reads a list, or null as none. To be named in `#[serde(default, deserialize_with)]`.
pub(super) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<Option<Vec<T>>, D::Error> {
    json.deserialize_option(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {ITEMS_MAX} items")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // Most lists of a stream have one item, and a vector makes room for four.
        let mut items = Vec::with_capacity(1);
        while let Some(item) = list.next_element()? {
            if items.len() >= ITEMS_MAX {
                return Err(A::Error::invalid_length(items.len() + 1, &self));
            }
            items.push(item);
        }
        Ok(Some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, default, deserialize_with = "read")]
        items: Option<Vec<&'a str>>,
    }

    #[test]
    fn a_list_is_bounded() {
        let list = |count: usize| format!(r#"{{"items":[{}]}}"#, vec![r#""x""#; count].join(","));
        for (json, count) in [
            ("{}".to_owned(), Some(None)),
            (r#"{"items":null}"#.to_owned(), Some(None)),
            (list(0), Some(Some(0))),
            (list(2), Some(Some(2))),
            (list(ITEMS_MAX), Some(Some(ITEMS_MAX))),
            (list(ITEMS_MAX + 1), None),
            (r#"{"items":{}}"#.to_owned(), None),
            (r#"{"items":[1]}"#.to_owned(), None),
        ] {
            let read: Option<Outer<'_>> = serde_json::from_str(&json).ok();
            assert_eq!(
                read.map(|outer| outer.items.map(|items| items.len())),
                count,
                "{}",
                &json[..json.len().min(40)]
            );
        }
    }
}
