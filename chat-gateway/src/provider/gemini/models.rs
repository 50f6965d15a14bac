//! What the name of a model tells of what it can do.
//!
//! `gemini-2.5-flash`, `gemini-3-pro-preview`, `gemini-flash-latest`. A name that tells
//! nothing (tuned models, other families) forbids nothing here: Gemini answers for itself.

/// What a model can do, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// How it is told how much to think.
    pub(super) thinking: Thinking,
    /// It refuses a repeated call without a signature, and reads files in results of tools.
    /// False if the name does not tell.
    pub(super) since_third: bool,
    /// Its answers may have a form while there are functions.
    pub(super) forms_beside_functions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It does not think.
    Never,
    /// In tokens.
    Budget,
    /// In words, and still in tokens.
    Level,
}

/// The first version that thinks.
const THINKS: (u32, u32) = (2, 5);

/// The first version that is told in words, and that keeps its thoughts by signatures.
const SIGNS: (u32, u32) = (3, 0);

pub(super) fn abilities(model: &str) -> Abilities {
    let version = version(model);
    let thinking = match version {
        Some(version) if version < THINKS => Thinking::Never,
        Some(version) if version < SIGNS => Thinking::Budget,
        Some(_) | None => Thinking::Level,
    };
    Abilities {
        thinking,
        since_third: version.is_some_and(|version| version >= SIGNS),
        forms_beside_functions: version.is_none_or(|version| version >= SIGNS),
    }
}

/// The version in a name. An alias of the latest model has none and means a recent one.
fn version(model: &str) -> Option<(u32, u32)> {
    let lower = model.to_ascii_lowercase();
    let rest = lower.strip_prefix("models/").unwrap_or(&lower).strip_prefix("gemini-")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (major, minor) = rest[..end].split_once('.').unwrap_or((&rest[..end], "0"));
    match major.parse() {
        Ok(major) => Some((major, minor.parse().unwrap_or(0))),
        Err(_) => rest.ends_with("-latest").then_some(SIGNS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_version() {
        for (model, version) in [
            ("gemini-2.5-pro", Some((2, 5))),
            ("gemini-2.0-flash-lite", Some((2, 0))),
            ("gemini-1.5-pro-latest", Some((1, 5))),
            ("gemini-3-pro-preview", Some((3, 0))),
            ("models/Gemini-3.1-pro", Some((3, 1))),
            ("gemini-4", Some((4, 0))),
            ("gemini-flash-latest", Some((3, 0))),
            ("gemini-exp-1206", None),
            ("gemini-", None),
            ("gemini-99999999999", None),
            ("gemma-3-27b-it", None),
            ("tunedModels/gemini-2.0-mine", None),
        ] {
            assert_eq!(super::version(model), version, "{model}");
        }
    }

    #[test]
    fn the_version_tells_the_abilities() {
        for (model, thinking, since_third, forms_beside_functions) in [
            ("gemini-2.0-flash", Thinking::Never, false, false),
            ("gemini-2.5-flash", Thinking::Budget, false, false),
            ("gemini-3-flash-preview", Thinking::Level, true, true),
            ("gemini-flash-latest", Thinking::Level, true, true),
            ("gemma-3-27b-it", Thinking::Level, false, true),
        ] {
            let expected = Abilities { thinking, since_third, forms_beside_functions };
            assert_eq!(abilities(model), expected, "{model}");
        }
    }
}
