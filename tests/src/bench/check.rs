//! Whether a run is worse than an earlier one.

use super::{
    figures::RATIO,
    result::{Row, Run},
};

/// How much worse a ratio may be: less is noise of the machine.
const WORSE_MAX: f64 = 0.15;

/// A row that is worse than it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// The row.
    pub name: String,
    /// What it was.
    pub was: f64,
    /// What it is.
    pub is: f64,
}

/// The rows of `now` that are worse than those of `before` by more than may be. Only ratios to a limit
/// of the same run are compared. A row is worse if its best repeat is: what disturbs one repeat of
/// three is the machine, and what is slower is slower in all.
pub fn regressions(before: &Run, now: &Run) -> Vec<Regression> {
    let compared = before.figures.iter().filter(|row| row.unit == RATIO);
    compared.filter_map(|before| regression(before, now.row(&before.name)?)).collect()
}

/// The rows of `before` that are compared and that `now` does not have.
pub fn missing<'a>(before: &'a Run, now: &Run) -> Vec<&'a str> {
    let compared = before.figures.iter().filter(|row| row.unit == RATIO);
    compared.map(|row| row.name.as_str()).filter(|name| now.row(name).is_none()).collect()
}

fn regression(before: &Row, now: &Row) -> Option<Regression> {
    let more_is_better = before.at_least.is_some();
    let best = |one: f64, other: f64| if more_is_better { one.max(other) } else { one.min(other) };
    let (was, is) = (before.median(), now.values.iter().copied().reduce(best)?);
    let is_good = if more_is_better { is >= was * (1.0 - WORSE_MAX) } else { is <= was * (1.0 + WORSE_MAX) };
    (!is_good).then(|| Regression { name: before.name.clone(), was, is: now.median() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at_least: Option<f64>, values: &[f64]) -> Row {
        let [name, text, unit] = ["a", "b", RATIO].map(str::to_owned);
        Row { name, text, unit, at_least, at_most: None, values: values.to_vec() }
    }

    #[test]
    fn more_than_15_percent_is_a_regression_in_the_direction_of_the_row() {
        let (more, less) = (row(Some(0.5), &[1.0]), row(None, &[1.0]));
        for (is, of_more, of_less) in
            [(1.0, false, false), (0.86, false, false), (0.84, true, false), (1.16, false, true)]
        {
            assert_eq!(regression(&more, &row(None, &[is])).is_some(), of_more, "{is}");
            assert_eq!(regression(&less, &row(None, &[is])).is_some(), of_less, "{is}");
        }
    }

    #[test]
    fn one_good_repeat_of_three_is_enough() {
        let before = row(None, &[1.0, 1.0, 1.0]);
        assert_eq!(regression(&before, &row(None, &[1.2, 5.0, 1.1])), None);
        assert!(regression(&before, &row(None, &[1.2, 1.3, 1.2])).is_some());
    }
}
