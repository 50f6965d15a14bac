//! Fields of a request that are not valid: collected, named, and told all at once.

use std::fmt;

use crate::failure::{Code, Failure};

/// Fields that are not valid, with what is wrong about each.
#[derive(Debug)]
pub struct Invalid {
    fields: Vec<(String, String)>,
}

impl Invalid {
    /// One field, by its path in the contract. The problem reads on after it: `must not be
    /// empty`.
    pub fn new(path: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { fields: vec![(path.into(), problem.to_string())] }
    }

    /// The paths of the fields.
    pub fn paths(&self) -> Vec<&str> {
        self.fields.iter().map(|(path, _)| path.as_str()).collect()
    }

    /// The same fields as parts of the message that stands at `prefix`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.fields.iter_mut().for_each(|(path, _)| path.insert_str(0, prefix));
        self
    }

    /// The failure that tells the caller: `INVALID_ARGUMENT`, with a `BadRequest`.
    pub fn failure(self, domain: &'static str, reason: &'static str) -> Failure {
        let failure = Failure::new(Code::InvalidArgument, domain, reason).says(self.to_string());
        self.fields.into_iter().fold(failure, |failure, (path, problem)| failure.field(path, problem))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (path, problem)) in self.fields.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{path} {problem}")?;
        }
        f.write_str(".")
    }
}

impl std::error::Error for Invalid {}

/// Collects what is wrong with a message.
#[derive(Debug, Default)]
pub struct Check {
    problems: Vec<(String, String)>,
}

impl Check {
    /// The value, or `None` and one more problem.
    pub fn take<T>(&mut self, outcome: Result<T, Invalid>) -> Option<T> {
        outcome.map_err(|invalid| self.problems.extend(invalid.fields)).ok()
    }

    /// A number that must be in a range. Absent stays absent; NaN is in no range.
    pub fn number<T: PartialOrd + fmt::Display + Copy>(&mut self, path: &str, value: Option<T>, min: T, max: T) {
        if value.is_some_and(|value| !(value >= min && value <= max)) {
            self.problems.push((path.to_owned(), format!("must be {min} to {max}")));
        }
    }

    /// Whether nothing is wrong so far.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong.
    pub fn failed(self) -> Invalid {
        Invalid { fields: self.problems }
    }
}
