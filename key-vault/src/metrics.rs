//! What a replica measures of itself. Names are literals here, and nowhere else.
//!
//! No organization and no key is an attribute: their number has no limit.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};

/// The instruments of a replica.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Stored versions whose data key is under another key encryption key than the one that
    /// seals.
    records_on_old_kek: Gauge<i64>,
    /// Stored versions that did not open.
    decrypt_failures: Counter<u64>,
    /// 1 if the configured secrets manager answered when it was last asked.
    manager_healthy: Gauge<i64>,
    /// 1 while the replica cannot open keys.
    sealed: Gauge<i64>,
    /// The last change that the replica knows.
    revision: Gauge<i64>,
    /// Principals that asked for unusually many distinct keys.
    exfiltration_alarms: Counter<u64>,
    /// Events that could not be recorded.
    audit_failures: Counter<u64>,
    /// Events that were recorded in one transaction.
    audit_batch: Histogram<u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let meter = global::meter("key-vault");
        Self {
            records_on_old_kek: meter.i64_gauge("keyvault.records_on_old_kek").with_unit("{record}").build(),
            decrypt_failures: meter.u64_counter("keyvault.decrypt.failures").with_unit("{record}").build(),
            manager_healthy: meter.i64_gauge("keyvault.secrets_manager.healthy").build(),
            sealed: meter.i64_gauge("keyvault.sealed").build(),
            revision: meter.i64_gauge("keyvault.revision").build(),
            exfiltration_alarms: meter.u64_counter("keyvault.exfiltration.alarms").build(),
            audit_failures: meter.u64_counter("keyvault.audit.failures").with_unit("{event}").build(),
            audit_batch: meter.u64_histogram("keyvault.audit.batch").with_unit("{event}").build(),
        }
    }
}

impl Metrics {
    pub(crate) fn records_on_old_kek(&self, count: i64) {
        self.records_on_old_kek.record(count, &[]);
    }

    pub(crate) fn decrypt_failures(&self, count: i64) {
        self.decrypt_failures.add(count.unsigned_abs(), &[]);
    }

    pub(crate) fn manager_healthy(&self, kind: &'static str, healthy: bool) {
        self.manager_healthy.record(healthy.into(), &[KeyValue::new("keyvault.secrets_manager.kind", kind)]);
    }

    pub(crate) fn sealed(&self, sealed: bool) {
        self.sealed.record(sealed.into(), &[]);
    }

    pub(crate) fn revision(&self, revision: i64) {
        self.revision.record(revision, &[]);
    }

    pub(crate) fn exfiltration_alarm(&self) {
        self.exfiltration_alarms.add(1, &[]);
    }

    pub(crate) fn audit_batch(&self, events: usize, recorded: bool) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        if recorded { self.audit_batch.record(events, &[]) } else { self.audit_failures.add(events, &[]) }
    }
}
