//! The order of the steps of a resolution, as a pure function.

/// What a step finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No key.
    Nothing,
    /// A key that can be used.
    Usable,
    /// A key that cannot be used.
    Unusable,
    /// Whatever it is, a fallback policy forbids it.
    Forbidden,
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its key is the one.
    Chosen,
    /// The next step is asked.
    NotConfigured,
    /// The resolution fails here.
    Unusable,
    /// An earlier step decided.
    NotReached,
    /// The next step is asked, although this one may have a key.
    Forbidden,
}

/// What the steps come to, in their order: profile, default, environment.
///
/// The first step that finds a key decides, whether the key can be used or not. Falling
/// past a key that exists would bill another team without anyone noticing. A step that is
/// forbidden decides nothing.
pub(crate) fn outcomes(found: [Found; 3]) -> [Outcome; 3] {
    let mut decided = false;
    found.map(|found| {
        if decided {
            return Outcome::NotReached;
        }
        decided = matches!(found, Found::Usable | Found::Unusable);
        match found {
            Found::Nothing => Outcome::NotConfigured,
            Found::Usable => Outcome::Chosen,
            Found::Unusable => Outcome::Unusable,
            Found::Forbidden => Outcome::Forbidden,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Found::*, Outcome::*, *};

    #[test]
    fn the_first_step_with_a_key_decides_and_nothing_falls_past_it() {
        for (found, expected) in [
            ([Nothing, Nothing, Nothing], [NotConfigured, NotConfigured, NotConfigured]),
            ([Nothing, Nothing, Usable], [NotConfigured, NotConfigured, Chosen]),
            ([Nothing, Usable, Usable], [NotConfigured, Chosen, NotReached]),
            ([Usable, Usable, Usable], [Chosen, NotReached, NotReached]),
            ([Found::Unusable, Usable, Usable], [Outcome::Unusable, NotReached, NotReached]),
            ([Nothing, Found::Unusable, Usable], [NotConfigured, Outcome::Unusable, NotReached]),
            ([Nothing, Found::Forbidden, Usable], [NotConfigured, Outcome::Forbidden, Chosen]),
            ([Nothing, Found::Forbidden, Found::Forbidden], [NotConfigured, Outcome::Forbidden, Outcome::Forbidden]),
            ([Nothing, Usable, Found::Forbidden], [NotConfigured, Chosen, NotReached]),
            ([Usable, Found::Forbidden, Found::Forbidden], [Chosen, NotReached, NotReached]),
            ([Found::Unusable, Found::Forbidden, Usable], [Outcome::Unusable, NotReached, NotReached]),
        ] {
            assert_eq!(outcomes(found), expected, "{found:?}");
        }
    }
}
