//! Shows how far a plan is: a bar on a terminal, lines otherwise. On standard error.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};
use tonic::{Code, Status};

use super::{plan::Step, report};
use crate::cli::output;

#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    /// Whether it was said that the vault makes us wait: once is enough.
    has_waited: bool,
}

impl Progress {
    pub(super) fn of(total: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = io::stderr().is_terminal().then(|| ProgressBar::new(total as u64).with_style(style));
        Self { bar, total, has_waited: false }
    }

    pub(super) fn begins(&self, done: usize, step: &Step) {
        let step = report::step(step);
        match &self.bar {
            Some(bar) => {
                bar.set_message(step);
                bar.set_position(done as u64);
            }
            None => output::note(&format!("{}/{} {step}", done + 1, self.total)),
        }
    }

    pub(super) fn waits(&mut self, status: &Status) {
        let why = match status.code() {
            Code::ResourceExhausted => "waiting: the vault limits changes per second",
            _ => "waiting: the vault does not answer now",
        };
        match &self.bar {
            _ if self.has_waited => {}
            Some(bar) => bar.println(why),
            None => output::note(why),
        }
        self.has_waited = true;
    }

    pub(super) fn stops(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    pub(super) fn ends(&self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.finish_with_message("");
        }
    }
}
