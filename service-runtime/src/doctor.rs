//! What is checked about a deployment from inside: with the options of `serve`, on its
//! machine, as its user.
//!
//! Reads only, beside a service that serves. Every finding says what to do; none names what
//! an option holds that may be secret. Each service adds its own checks.

use std::time::{Duration, SystemTime};

use chrono::Utc;
use serde::Serialize;

use crate::{
    hardening,
    policy::{Policy, Role},
    server::ServerOptions,
};

/// A certificate or a token that ends sooner is due to be replaced.
const EXPIRES_SOON: Duration = Duration::from_hours(7 * 24);

/// Tokens that live longer are as good as passwords. `tokens create` makes none.
const TOKEN_LIFE_MAX: chrono::Duration = crate::token::LIFE_MAX;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// The service serves, and should not stay so.
    Warn,
    /// The service does not serve, or loses something.
    Fail,
}

impl Verdict {
    /// How tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Of which.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do. Empty if nothing.
    pub advice: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, check: &'static str, verdict: Verdict, found: impl Into<String>, advice: impl Into<String>) {
        self.findings.push(Finding { check, verdict, found: found.into(), advice: advice.into() });
    }

    /// Adds a finding that needs nothing.
    pub fn fine(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Verdict::Fine, found, "");
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count()
    }

    /// As whom the process runs.
    pub fn process(&mut self) {
        if hardening::is_root() {
            let advice = "run it as a user of its own: nothing it does needs root";
            self.add("process", Verdict::Warn, "runs as root", advice);
        } else {
            self.fine("process", "runs as a user without privileges");
        }
    }

    /// Who may call, and what the server presents to them.
    pub fn identity<R: Role>(&mut self, options: &ServerOptions) {
        if options.dev {
            let advice = "leave --dev out, and give a policy and certificates";
            return self.add("identity", Verdict::Warn, "--dev: everyone on this machine may do everything", advice);
        }
        self.certificate(options);
        self.policy::<R>(options);
    }

    fn certificate(&mut self, options: &ServerOptions) {
        const CHECK: &str = "certificate";
        let tls = match options.tls.open() {
            Ok(Some(tls)) => tls.load(),
            Ok(None) => return self.add(CHECK, Verdict::Fail, "there is none", "give --tls-certificate and --tls-key"),
            Err(error) => {
                return self.add(CHECK, Verdict::Fail, format!("{error:#}"), "correct the file that it names");
            }
        };
        match tls.value.not_after.duration_since(SystemTime::now()) {
            Err(_) => self.add(CHECK, Verdict::Fail, "it has expired", "replace it: it is read anew by itself"),
            Ok(left) if left < EXPIRES_SOON => {
                let found = format!("it expires in {} hours", left.as_secs() / 3_600);
                self.add(CHECK, Verdict::Warn, found, "see to it that it is replaced: it is read anew by itself");
            }
            Ok(left) => self.fine(CHECK, format!("it is good for {} days", left.as_secs() / 86_400)),
        }
        if options.tls.tls_client_ca.is_none() {
            self.fine("client authorities", "none: callers need tokens");
        }
    }

    fn policy<R: Role>(&mut self, options: &ServerOptions) {
        const CHECK: &str = "policy";
        let Some(path) = &options.policy else {
            return self.add(CHECK, Verdict::Fail, "there is none", "give --policy: without it nobody may call");
        };
        let policy = match Policy::<R>::open(path) {
            Ok(policy) => policy.load(),
            Err(error) => {
                return self.add(CHECK, Verdict::Fail, format!("{error:#}"), "correct it as its schema says");
            }
        };
        self.fine(CHECK, format!("names {} principals", policy.value.principals));
        let now = Utc::now();
        for (id, token) in policy.value.tokens() {
            let (principal, left) = (&token.principal.name, token.expire_time - now);
            if left <= chrono::Duration::zero() {
                let found = format!("token {id} of {principal} has expired");
                self.add("tokens", Verdict::Warn, found, "take it out of the policy");
            } else if left.to_std().unwrap_or_default() < EXPIRES_SOON {
                let found = format!("token {id} of {principal} expires in {} hours", left.num_hours());
                self.add("tokens", Verdict::Warn, found, "make its successor: `tokens create`");
            } else if left > TOKEN_LIFE_MAX {
                let found = format!("token {id} of {principal} is good for {} days", left.num_days());
                self.add("tokens", Verdict::Warn, found, "replace it by one that ends sooner");
            }
        }
    }
}
