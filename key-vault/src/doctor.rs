//! Checks a deployment from inside: with the options of `serve`, on its machine, as its user.
//!
//! Reads only, beside a vault that serves. Every finding says what to do; none names a key,
//! a password, or what an option holds that may be secret.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Duration, Utc};
use service_runtime::{
    doctor::{Report, Verdict},
    failure::Chain,
};

use crate::{
    access::Role,
    config::{self, ServeOptions},
    key::Provider,
    seal::{CheckedKek, KekState, WRAPS_WARN, secrets_manager::Managers},
    store::{Meta, Place, Store, StoredKek},
};

/// NIST SP 800-57 and common practice: a key that encrypts keys serves for a quarter.
const KEK_AGE_MAX: Duration = Duration::days(90);

/// How far two clocks may be apart. Leases and liveness count in seconds.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::seconds(2);

/// Checks everything that can be checked. What depends on something that failed is left out.
pub(crate) async fn examine(options: &ServeOptions) -> Report {
    let mut report = Vault(Report::default());
    report.0.process();
    report.0.identity::<Role>(&options.server);
    report.environment(options);
    report.records(options);
    let store = match options.place() {
        Ok(place) => {
            report.files(options, &place);
            report.database(&place).await
        }
        Err(error) => {
            report.0.add("database", Verdict::Fail, Chain(&error).to_string(), "correct the option that it names");
            None
        }
    };
    let managers = report.managers(options);
    if let (Some(store), Some(managers)) = (store, managers) {
        let keks = store.keks().await.unwrap_or_default();
        report.secrets_managers(&managers, &keks).await;
        report.keks(&store, &managers, keks).await;
        report.clock(&store).await;
        report.replicas(&store).await;
    }
    report.0
}

/// What was found so far.
struct Vault(Report);

impl Vault {
    fn environment(&mut self, options: &ServeOptions) {
        const CHECK: &str = "environment's keys";
        if let Err(error) = options.environment() {
            return self.0.add(CHECK, Verdict::Fail, Chain(&error).to_string(), "correct the variable that it names");
        }
        let set: Vec<_> =
            Provider::ALL.into_iter().map(Provider::environment_variable).filter(|name| config::is_set(name)).collect();
        if set.is_empty() {
            self.0.fine(CHECK, "none in a variable of its own");
        } else {
            let advice = "name a file with the same variable and _FILE: a process' environment is easily shown";
            self.0.add(CHECK, Verdict::Warn, format!("{} holds a key", set.join(", ")), advice);
        }
    }

    fn records(&mut self, options: &ServeOptions) {
        if options.unrecorded_resolutions {
            let advice = "leave out --unrecorded-resolutions, unless something else knows who had which key";
            self.0.add("audit log", Verdict::Warn, "keys are released without a record", advice);
        }
    }

    fn files(&mut self, options: &ServeOptions, place: &Place) {
        let keyring = options.keyring();
        let Some(path) = place.url.strip_prefix("sqlite:").map(PathBuf::from) else { return };
        let shared = |path: &Path| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0);
        if shared(&path) {
            let advice = format!("chmod 600 {}", path.display());
            self.0.add("database's file", Verdict::Warn, "others than its owner can read it", advice);
        }
        if path.parent() == keyring.parent() && keyring.exists() && !options.server.dev {
            let found = "the keyring lies beside the database";
            let advice = "keep them apart: whoever copies the folder has both, and so has every backup of it";
            self.0.add("keyring's place", Verdict::Warn, found, advice);
        }
    }

    async fn database(&mut self, place: &Place) -> Option<Store> {
        if place.url.strip_prefix("sqlite:").is_some_and(|path| !Path::new(path).exists()) {
            self.0.add(
                "database",
                Verdict::Warn,
                "there is no file yet",
                "the first start makes it; if there was one, bring it back",
            );
            return None;
        }
        match Store::look(place).await {
            Err(error) => {
                let advice = "the vault does not start without its database";
                self.0.add("database", Verdict::Fail, Chain(&error).to_string(), advice);
                None
            }
            Ok((store, pending)) if pending.is_empty() => {
                self.0.fine("database", "answers, and its schema is current");
                Some(store)
            }
            Ok((_, pending)) => {
                let found = format!("answers; its schema lacks {}", pending.join(", "));
                self.0.add(
                    "database",
                    Verdict::Warn,
                    found,
                    "the next start brings it up to date, and so does `migrate`",
                );
                None
            }
        }
    }

    fn managers(&mut self, options: &ServeOptions) -> Option<Managers> {
        match config::managers(options) {
            Ok(managers) => Some(managers),
            Err(error) => {
                let advice = "correct the options that it names";
                self.0.add("secrets manager", Verdict::Fail, Chain(error.as_ref()).to_string(), advice);
                None
            }
        }
    }

    async fn secrets_managers(&mut self, managers: &Managers, keks: &[StoredKek]) {
        for manager in managers.all() {
            let wrapped = keks.iter().filter(|kek| kek.record.wrapped.manager == manager.kind());
            let needed: Vec<_> = wrapped
                .filter(|kek| kek.state != KekState::Retired)
                .map(|kek| kek.record.wrapped.key_ref.clone())
                .collect();
            match manager.check(&needed).await {
                Ok(()) => self.0.fine("secrets manager", format!("{}: well", manager.kind())),
                Err(error) => {
                    let advice = "replicas that run serve on; none can start until it is well";
                    let found = format!("{}: {}", manager.kind(), Chain(&error));
                    self.0.add("secrets manager", Verdict::Fail, found, advice);
                }
            }
        }
    }

    async fn keks(&mut self, store: &Store, managers: &Managers, keks: Vec<StoredKek>) {
        const CHECK: &str = "key encryption keys";
        let Ok(Some(Meta { vault, .. })) = store.meta().await else {
            return self.0.fine(CHECK, "none yet: the first start makes one");
        };
        for kek in keks.iter().filter(|kek| kek.state != KekState::Retired) {
            let id = &kek.record.id;
            if let Err(error) = CheckedKek::open(&kek.record, vault, managers).await {
                let advice = "bring back the keyring or the secrets manager that wrapped it";
                self.0.add(CHECK, Verdict::Fail, Chain(&error).to_string(), advice);
            } else if kek.state == KekState::Primary && needs_rotation(kek) {
                let found =
                    format!("{id} is {} days old and has wrapped {} times", age(kek).num_days(), kek.wrap_count);
                self.0.add(CHECK, Verdict::Warn, found, "rotate it: `key-vault keyring rotate`");
            } else {
                self.0.fine(CHECK, format!("{id} opens"));
            }
        }
        for (kek_id, count) in store.kek_references().await.unwrap_or_default() {
            if !keks.iter().any(|kek| kek.record.id == kek_id) {
                let found = format!("{count} stored keys need {kek_id}, which the database does not have");
                self.0.add(CHECK, Verdict::Fail, found, "restore the table `kek` from a backup");
            }
        }
    }

    async fn clock(&mut self, store: &Store) {
        match store.clock().await {
            Ok(Some(theirs)) if apart(theirs, Utc::now()) => {
                let found = format!("{} s from the database's", (theirs - Utc::now()).num_seconds());
                self.0.add(
                    "clock",
                    Verdict::Fail,
                    found,
                    "synchronize both machines: leases and liveness count in seconds",
                );
            }
            Ok(Some(_)) => self.0.fine("clock", "agrees with the database's"),
            Ok(None) => self.0.fine("clock", "is the database's own"),
            Err(error) => self.0.add("clock", Verdict::Warn, Chain(&error).to_string(), "try again"),
        }
    }

    async fn replicas(&mut self, store: &Store) {
        let Ok(replicas) = store.replicas().await else { return };
        let pending = store.keks().await.unwrap_or_default();
        let current: Vec<_> = pending.iter().filter(|kek| kek.state != KekState::Retired).collect();
        for replica in &replicas {
            let ahead = replica.seen - Utc::now();
            let unknown = current.iter().filter(|kek| !replica.kek_ids.contains(&kek.record.id)).count();
            if ahead > CLOCK_DIFFERENCE_MAX {
                let found = format!("{} reports from {} s ahead", replica.id, ahead.num_seconds());
                self.0.add("replicas", Verdict::Fail, found, "synchronize its machine's clock");
            } else if unknown > 0 {
                let found = format!("{} does not know {unknown} key encryption keys", replica.id);
                self.0.add(
                    "replicas",
                    Verdict::Warn,
                    found,
                    "look at its log if this stays for more than some seconds",
                );
            }
        }
        self.0.fine("replicas", format!("{} alive", replicas.len()));
    }
}

fn needs_rotation(kek: &StoredKek) -> bool {
    age(kek) > KEK_AGE_MAX || kek.wrap_count > WRAPS_WARN
}

fn age(kek: &StoredKek) -> Duration {
    Utc::now() - kek.create_time
}

fn apart(one: DateTime<Utc>, other: DateTime<Utc>) -> bool {
    (one - other).abs() > CLOCK_DIFFERENCE_MAX
}
