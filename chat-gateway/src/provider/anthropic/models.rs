//! What is known of a model by its name.
//!
//! <https://platform.claude.com/docs/en/about-claude/models/overview>. Of a model that is
//! not known nothing is refused; the provider decides.

/// What a family of models has.
#[derive(Debug)]
pub(super) struct Model {
    family: &'static str,
    /// The most tokens that it can produce.
    pub(super) tokens_max: u32,
    pub(super) thinks: Thinks,
    /// Whether it takes sampling parameters at all.
    pub(super) samples: bool,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinks {
    /// It does not.
    Never,
    /// By a budget of tokens.
    ByBudget,
    /// By a budget of tokens. Words say how much it does, and not whether it thinks.
    ByBudgetBesideEffort,
    /// By a budget or by words.
    Either,
    /// By words.
    ByEffort,
    /// By words, and also if nothing is said.
    Unasked,
    Unknown,
}

impl Thinks {
    /// Whether the model can be left to decide how much it thinks.
    pub(super) fn is_adaptive(self) -> bool {
        match self {
            Self::Never | Self::ByBudget | Self::ByBudgetBesideEffort => false,
            Self::Either | Self::ByEffort | Self::Unasked | Self::Unknown => true,
        }
    }
}

/// What is known of `model`.
pub(super) fn of(model: &str) -> &'static Model {
    MODELS.iter().find(|known| is_of(model, known.family)).unwrap_or(&UNKNOWN)
}

/// `max_tokens` is required, and more than a model can produce is a 400: an unknown one
/// gets what all can.
static UNKNOWN: Model = known("", 4_096, Thinks::Unknown);

/// The first that fits counts.
static MODELS: [Model; 23] = [
    known("claude-opus-4-5", 64_000, Thinks::ByBudgetBesideEffort),
    known("claude-opus-4-6", 128_000, Thinks::Either),
    without_sampling("claude-opus-4-7", 128_000, Thinks::ByEffort),
    without_sampling("claude-opus-4-8", 128_000, Thinks::ByEffort),
    known("claude-opus-4", 32_000, Thinks::ByBudget),
    known("claude-4-opus", 32_000, Thinks::ByBudget),
    known("claude-sonnet-4-6", 128_000, Thinks::Either),
    known("claude-sonnet-4", 64_000, Thinks::ByBudget),
    known("claude-4-sonnet", 64_000, Thinks::ByBudget),
    known("claude-haiku-4", 64_000, Thinks::ByBudget),
    known("claude-haiku-5", 64_000, Thinks::Unasked),
    without_sampling("claude-opus-5", 128_000, Thinks::Unasked),
    without_sampling("claude-sonnet-5", 128_000, Thinks::Unasked),
    without_sampling("claude-fable-5", 128_000, Thinks::Unasked),
    known("claude-mythos-5", 128_000, Thinks::Unasked),
    known("claude-3-7-sonnet", 64_000, Thinks::ByBudget),
    known("claude-3-5-sonnet", 8_192, Thinks::Never),
    known("claude-3-5-haiku", 8_192, Thinks::Never),
    known("claude-3", 4_096, Thinks::Never),
    known("claude-2", 4_096, Thinks::Never),
    known("claude-2.0", 4_096, Thinks::Never),
    known("claude-2.1", 4_096, Thinks::Never),
    known("claude-instant", 4_096, Thinks::Never),
];

const fn known(family: &'static str, tokens_max: u32, thinks: Thinks) -> Model {
    Model { family, tokens_max, thinks, samples: true }
}

/// A family that answers 400 to any sampling parameter.
const fn without_sampling(family: &'static str, tokens_max: u32, thinks: Thinks) -> Model {
    Model { family, tokens_max, thinks, samples: false }
}

/// Whether `model` is `family` or one of its versions: `claude-opus-4` has
/// `claude-opus-4-20250514`, not `claude-opus-45`.
fn is_of(model: &str, family: &str) -> bool {
    let head = model.get(..family.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(family))
        && matches!(model.as_bytes().get(family.len()), None | Some(b'-'))
}
