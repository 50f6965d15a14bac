//! Where a JSON object that arrives in pieces is whole.
//!
//! Looks at each byte once and keeps none, where reading all anew with every piece would
//! take the square of the time. It does not say that the object is JSON, only that nothing
//! further can belong to it.

#[derive(Debug, Default)]
pub(super) struct Brackets {
    depth: u64,
    place: Place,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Value,
    String,
    Escape,
    /// Only white space has come since the last bracket.
    End,
    Beyond,
}

impl Brackets {
    pub(super) fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            self.place = match (self.place, byte) {
                (Place::Value, b'"') | (Place::Escape, _) => Place::String,
                (Place::Value, b'{' | b'[') => {
                    self.depth += 1;
                    Place::Value
                }
                (Place::Value, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 { Place::End } else { Place::Value }
                }
                (Place::String, b'\\') => Place::Escape,
                (Place::String, b'"') => Place::Value,
                (Place::End, byte) if !byte.is_ascii_whitespace() => Place::Beyond,
                (place, _) => place,
            }
        }
    }

    pub(super) fn are_closed(&self) -> bool {
        self.place == Place::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_whole_at_its_last_bracket() {
        for (text, closed) in [
            ("", false),
            ("{", false),
            ("{}", true),
            ("{} \n", true),
            ("{}{}", false),
            (r#"{"a":{"b":[1]}"#, false),
            (r#"{"a":{"b":[1]}}"#, true),
            (r#"{"a":"}"#, false),
            (r#"{"a":"\"}"#, false),
            (r#"{"a":"\\"}"#, true),
            (r#"{"a":"é}"}"#, true),
        ] {
            let mut whole = Brackets::default();
            whole.push(text);
            let mut pieces = Brackets::default();
            text.chars().for_each(|piece| pieces.push(&piece.to_string()));
            assert_eq!((whole.are_closed(), pieces.are_closed()), (closed, closed), "{text}");
        }
    }
}
