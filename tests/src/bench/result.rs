//! What is kept of a run: `bench/results/*.json`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

use super::figures::{FIGURES, Figure, Target, Values};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What was built: the id of the commit, with `+` behind it if files had changed since.
    pub commit: String,
    /// When it ended.
    pub time: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where it ran.
    pub machine: Machine,
    /// The rows.
    pub figures: Vec<Row>,
    /// All that was measured, by the repeats.
    pub repeats: Vec<Values>,
}

/// A machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many cores there are.
    pub cores: usize,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// The version of haproxy.
    pub haproxy: String,
    /// The version of PostgreSQL.
    pub postgres: String,
}

/// A figure as it came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is.
    pub text: String,
    /// What it is counted in.
    pub unit: String,
    /// The least that is good, if that is what is asked.
    pub at_least: Option<f64>,
    /// The most that is good, if that is what is asked.
    pub at_most: Option<f64>,
    /// Its value in each repeat.
    pub values: Vec<f64>,
}

impl Row {
    fn of(figure: &Figure, repeats: &[Values]) -> Option<Self> {
        let values: Vec<f64> = repeats.iter().filter_map(figure.of).collect();
        let (at_least, at_most) = match figure.target {
            Target::AtLeast(least) => (Some(least), None),
            Target::AtMost(most) => (None, Some(most)),
            Target::Told => (None, None),
        };
        let Figure { name, text, unit, .. } = figure;
        let [name, text, unit] = [name, text, unit].map(|text| (*text).to_owned());
        (!values.is_empty()).then_some(Self { name, text, unit, at_least, at_most, values })
    }

    /// The value that counts: of three the second.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Whether it is as it must be. `None` if it is only told.
    pub fn is_good(&self) -> Option<bool> {
        let median = self.median();
        self.at_least.map(|least| median >= least).or_else(|| self.at_most.map(|most| median <= most))
    }
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl Run {
    /// The rows of what was measured in `seconds`.
    pub fn of(repeats: Vec<Values>, seconds: f64) -> Self {
        Self {
            commit: commit(),
            time: Utc::now().trunc_subsecs(0),
            seconds: seconds.round(),
            machine: Machine::this(),
            figures: FIGURES.iter().filter_map(|figure| Row::of(figure, &repeats)).collect(),
            repeats,
        }
    }

    /// Reads it from a file.
    ///
    /// # Errors
    ///
    /// Fails if the file is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a run", path.display()))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path.parent().context("a folder")?)?;
        let mut run = self.clone();
        run.repeats.iter_mut().flatten().for_each(|(_, value)| *value = short(*value));
        run.figures.iter_mut().flat_map(|row| &mut row.values).for_each(|value| *value = short(*value));
        Ok(fs::write(path, serde_json::to_string_pretty(&run)? + "\n")?)
    }

    /// A row.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.figures.iter().find(|row| row.name == name)
    }
}

/// A value with four figures: no measurement has more.
fn short(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

impl Machine {
    fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let haproxy = super::servers::haproxy().map(|program| said(Command::new(program).arg("-v")));
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            haproxy: haproxy.and_then(|text| text.split(' ').nth(2).map(str::to_owned)).unwrap_or_default(),
            postgres: said(Command::new("postgres").arg("--version")).split(' ').nth(2).unwrap_or_default().to_owned(),
        }
    }
}

fn commit() -> String {
    let id = said(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    let changed = !said(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"])).is_empty();
    if changed { id + "+" } else { id }
}

/// The first line that a program prints. Empty if it is missing.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        let [name, text, unit] = ["a", "b", "ratio"].map(str::to_owned);
        Row { name, text, unit, at_least: Some(0.5), at_most: None, values: values.to_vec() }
    }

    #[test]
    fn a_row_is_good_if_most_of_its_values_are() {
        assert_eq!(row(&[0.6, 0.4, 0.7]).is_good(), Some(true));
        assert_eq!(row(&[0.6, 0.4, 0.3]).is_good(), Some(false));
        assert_eq!(Row { at_least: None, ..row(&[0.1]) }.is_good(), None);
        assert_eq!(Row { at_least: None, at_most: Some(0.2), ..row(&[0.1]) }.is_good(), Some(true));
    }

    #[test]
    fn values_are_kept_with_as_many_figures_as_they_have() {
        assert_eq!(short(12_345.678_f64).to_string(), "12350");
        assert_eq!(short(0.0).to_string(), "0");
    }
}
