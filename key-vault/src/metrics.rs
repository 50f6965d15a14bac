//! What a replica measures of itself. Names of attributes are in `service_runtime::semconv`.
//!
//! No organization, no profile and no key is an attribute: their number has no limit.

use std::time::Duration;

use opentelemetry::KeyValue;
use service_runtime::{
    metrics::{Counter, Describe, Gauge, Histogram},
    semconv::{attribute, buckets, seconds},
};

/// The instruments of a replica.
#[derive(Debug)]
pub(crate) struct Metrics {
    records_on_old_kek: Gauge,
    kek_active_version: Gauge,
    decrypt_failures: Counter,
    manager_healthy: Gauge,
    sealed: Gauge,
    revision: Gauge,
    exfiltration_alarms: Counter,
    audit_failures: Counter,
    audit_batch: Histogram,
    audit_duration: Histogram,
    resolves: Counter,
    resolve_duration: Histogram,
    seal_duration: Histogram,
    rotations: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let gauge = |name, unit, help| Gauge::new(&Describe { name, unit, help });
        let counter = |name, unit, help| Counter::from_zero(&Describe { name, unit, help });
        let duration = |name, help| Histogram::new(&Describe { name, unit: "s", help }, buckets::FAST);
        let batch = Describe { name: "keyvault.audit.batch", unit: "{event}", help: "Events recorded at once" };
        Self {
            records_on_old_kek: gauge(
                "keyvault.records_on_old_kek",
                "{record}",
                "Stored versions under another key encryption key than the one that seals",
            ),
            kek_active_version: gauge(
                "keyvault.kek.active_version",
                "",
                "How many key encryption keys this vault has had, the one that seals included",
            ),
            decrypt_failures: counter("keyvault.decrypt.failures", "{record}", "Stored versions that did not open"),
            manager_healthy: gauge(
                "keyvault.secrets_manager.healthy",
                "",
                "1 if the configured secrets manager answered when it was last asked",
            ),
            sealed: gauge("keyvault.sealed", "", "1 while the replica cannot open keys"),
            revision: gauge("keyvault.revision", "", "The last change that the replica knows"),
            exfiltration_alarms: counter(
                "keyvault.exfiltration.alarms",
                "{alarm}",
                "Principals that asked for unusually many distinct keys",
            ),
            audit_failures: counter("keyvault.audit.failures", "{event}", "Events that could not be recorded"),
            audit_batch: Histogram::new(&batch, buckets::COUNTS),
            audit_duration: duration("keyvault.audit.duration", "How long recording a batch of events took"),
            resolves: Counter::new(&Describe {
                name: "keyvault.resolve",
                unit: "{call}",
                help: "Resolutions, by the step that chose and what came of it",
            }),
            resolve_duration: duration("keyvault.resolve.duration", "How long a resolution took, the audit included"),
            seal_duration: duration("keyvault.seal.duration", "How long sealing or opening one key took"),
            rotations: Counter::new(&Describe {
                name: "keyvault.rotations",
                unit: "{rotation}",
                help: "Keys, and key encryption keys, that were rotated",
            }),
        }
    }
}

impl Metrics {
    pub(crate) fn records_on_old_kek(&self, count: i64) {
        self.records_on_old_kek.set(count, &[]);
    }

    pub(crate) fn kek_active_version(&self, version: i64) {
        self.kek_active_version.set(version, &[]);
    }

    pub(crate) fn decrypt_failures(&self, count: i64) {
        self.decrypt_failures.add(count.unsigned_abs(), &[]);
    }

    pub(crate) fn manager_healthy(&self, kind: &'static str, healthy: bool) {
        self.manager_healthy.set(healthy.into(), &[KeyValue::new(attribute::SECRETS_MANAGER_KIND, kind)]);
    }

    pub(crate) fn sealed(&self, sealed: bool) {
        self.sealed.set(sealed.into(), &[]);
    }

    pub(crate) fn revision(&self, revision: i64) {
        self.revision.set(revision, &[]);
    }

    pub(crate) fn exfiltration_alarm(&self) {
        self.exfiltration_alarms.add(1, &[]);
    }

    pub(crate) fn audit_batch(&self, events: usize, took: Duration) {
        self.audit_batch.record(u32::try_from(events).unwrap_or(u32::MAX).into(), &[]);
        self.audit_duration.record(seconds(took), &[]);
    }

    pub(crate) fn audit_failed(&self, events: usize) {
        self.audit_failures.add(events as u64, &[]);
    }

    /// A resolution by `source`, or by no step, that came to `result`: `ok` or a reason.
    pub(crate) fn resolved(&self, source: Option<&'static str>, result: &'static str, took: Duration) {
        let attributes = [
            KeyValue::new(attribute::RESOLUTION_SOURCE, source.unwrap_or("none")),
            KeyValue::new(attribute::RESULT, result),
        ];
        self.resolves.add(1, &attributes);
        self.resolve_duration.record(seconds(took), &[]);
    }

    pub(crate) fn sealed_one(&self, took: Duration) {
        self.seal_duration.record(seconds(took), &[KeyValue::new(attribute::SEAL_OPERATION, "seal")]);
    }

    pub(crate) fn opened_one(&self, took: Duration) {
        self.seal_duration.record(seconds(took), &[KeyValue::new(attribute::SEAL_OPERATION, "open")]);
    }

    /// `key` or `key_encryption_key`.
    pub(crate) fn rotated(&self, what: &'static str) {
        self.rotations.add(1, &[KeyValue::new(attribute::ROTATION, what)]);
    }
}
