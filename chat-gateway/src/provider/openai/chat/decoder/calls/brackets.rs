//! Where a JSON object that arrives in pieces is whole.
//!
//! Looks at each byte once and keeps none, where reading all anew with every piece would
//! take the square of the time. It does not say that the object is JSON, only that nothing
//! further can belong to it.

#[derive(Debug, Default)]
pub(super) struct Brackets {
    depth: u64,
    in_string: bool,
    escaped: bool,
    closed: bool,
    /// Something else than white space stands after the end.
    overrun: bool,
}

impl Brackets {
    pub(super) fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            self.overrun |= self.closed && !byte.is_ascii_whitespace();
            if self.in_string {
                (self.in_string, self.escaped) = (self.escaped || byte != b'"', !self.escaped && byte == b'\\');
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    pub(super) fn are_closed(&self) -> bool {
        self.closed && !self.overrun
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
