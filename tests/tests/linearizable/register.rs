//! What a history can be a history of: the default of a provider with the versions of its
//! keys, or a key whose name counts.

use system_tests::history::Model;

/// A key's version and material. Its number in its register names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) version: i64,
    pub(crate) material: String,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) default: Option<usize>,
    pub(crate) keys: Vec<Version>,
    pub(crate) count: u64,
    /// Whether calls may use the default.
    pub(crate) allowed: bool,
}

/// A call with its answer. `None` stands for an answer that nobody knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Resolved the default: a key and what is in it, or nothing.
    Resolve(Option<(usize, Version)>),
    /// Made a key the default, and was told its version.
    SetDefault(usize, Option<i64>),
    /// Left none, and was told which there was.
    #[expect(clippy::option_option, reason = "an unknown answer is not the answer that there was none")]
    ClearDefault(Option<Option<usize>>),
    /// Gave a key other material, and was told its version.
    Rotate(usize, String, Option<i64>),
    /// Let calls use the default, or forbade it.
    SetPolicy(bool),
    /// Read the count.
    Read(u64),
    /// Counted on from what was read, if nobody else had meanwhile.
    Count(u64),
    /// Wanted to count on from what was read, and was refused because somebody had.
    Refused(u64),
}

/// The register, with what it holds at the start.
#[derive(Debug)]
pub(crate) struct Register(pub(crate) State);

impl Model for Register {
    type State = State;
    type Operation = Operation;

    fn start(&self) -> State {
        self.0.clone()
    }

    fn apply(&self, state: &State, operation: &Operation) -> Option<State> {
        let mut now = state.clone();
        let possible = match operation {
            Operation::Resolve(answer) => {
                let default = state.default.filter(|_| state.allowed).map(|key| (key, state.keys[key].clone()));
                *answer == default
            }
            Operation::SetDefault(key, version) => {
                now.default = Some(*key);
                version.is_none_or(|version| version == state.keys[*key].version)
            }
            Operation::ClearDefault(was) => {
                now.default = None;
                was.is_none_or(|was| was == state.default)
            }
            Operation::Rotate(key, material, version) => {
                let key = &mut now.keys[*key];
                key.version += 1;
                key.material.clone_from(material);
                version.is_none_or(|version| version == key.version)
            }
            Operation::SetPolicy(allowed) => {
                now.allowed = *allowed;
                true
            }
            Operation::Read(count) => *count == state.count,
            Operation::Count(from) => {
                now.count += 1;
                *from == state.count
            }
            Operation::Refused(from) => *from != state.count,
        };
        possible.then_some(now)
    }

    fn reads(&self, operation: &Operation) -> bool {
        matches!(operation, Operation::Resolve(_) | Operation::Read(_) | Operation::Refused(_))
    }
}
