//! What must come out: one row each, with the least or the most that is good.

use std::collections::BTreeMap;

/// The values of one repeat, by their names. A name ends with its unit.
pub type Values = BTreeMap<String, f64>;

/// What is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
    /// Only told.
    Told,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name, by which a regression is told.
    pub name: &'static str,
    /// What it is, for people.
    pub text: &'static str,
    /// What its value is counted in. A `ratio` is one to the limit of the same run.
    pub unit: &'static str,
    /// What is good.
    pub target: Target,
    /// Its value in one repeat. `None` if nothing of it was measured.
    pub of: fn(&Values) -> Option<f64>,
    /// The values that stand beside it.
    pub beside: &'static [&'static str],
}

/// The unit of a figure that holds on any machine, and is compared with those of earlier runs.
pub const RATIO: &str = "ratio";

macro_rules! value {
    ($values:ident, $name:literal) => {
        $values.get($name).copied()?
    };
}

macro_rules! ratio {
    ($ours:literal, $limits:literal) => {
        |values| Some(value!(values, $ours) / value!(values, $limits))
    };
}

macro_rules! plain {
    ($name:literal) => {
        |values| Some(value!(values, $name))
    };
}

/// The added time between two values, in microseconds from seconds.
macro_rules! added {
    ($ours:literal, $limits:literal, $unit:literal) => {
        |values| Some((value!(values, $ours) - value!(values, $limits)) * $unit)
    };
}

/// How much faster a cost grows than bytes: of `$small` and `$large` times as many.
macro_rules! growth {
    ($small:literal, $large:literal, $times:literal) => {
        |values| Some(value!(values, $large) / value!(values, $small) / $times)
    };
}

/// All of them, in the order of the table.
pub const FIGURES: &[Figure] = &[
    Figure {
        name: "resolve_sqlite",
        text: "ResolveKey, SQLite, audit off: calls a second, to bare tonic's",
        unit: RATIO,
        target: Target::AtLeast(0.5),
        of: ratio!("resolve.sqlite.unrecorded.per_s", "resolve.bare.per_s"),
        beside: &["resolve.sqlite.unrecorded.per_s", "resolve.bare.per_s", "resolve.sqlite.unrecorded.cpu_ms"],
    },
    Figure {
        name: "resolve_sqlite_quiet",
        text: "the same, tracing off too",
        unit: RATIO,
        target: Target::AtLeast(0.5),
        of: ratio!("resolve.sqlite.quiet.per_s", "resolve.bare.per_s"),
        beside: &["resolve.sqlite.quiet.per_s", "resolve.sqlite.quiet.cpu_ms", "resolve.bare.cpu_ms"],
    },
    Figure {
        name: "resolve_postgres",
        text: "ResolveKey, PostgreSQL, audit off: calls a second, to bare tonic's",
        unit: RATIO,
        target: Target::AtLeast(0.25),
        of: ratio!("resolve.postgres.unrecorded.per_s", "resolve.bare.per_s"),
        beside: &["resolve.postgres.unrecorded.per_s", "resolve.bare.per_s", "resolve.postgres.unrecorded.cpu_ms"],
    },
    Figure {
        name: "resolve_postgres_quiet",
        text: "the same, tracing off too",
        unit: RATIO,
        target: Target::AtLeast(0.25),
        of: ratio!("resolve.postgres.quiet.per_s", "resolve.bare.per_s"),
        beside: &["resolve.postgres.quiet.per_s", "resolve.postgres.quiet.cpu_ms"],
    },
    Figure {
        name: "recorded_p50_sqlite",
        text: "ResolveKey at 200/s with audit, SQLite: p50, to 2 commits + 0.5 ms",
        unit: "of what it may take",
        target: Target::AtMost(1.0),
        of: |values| {
            Some(value!(values, "recorded.sqlite.p50_s") / (2.0 * value!(values, "commit.sqlite.p50_s") + 0.0005))
        },
        beside: &["recorded.sqlite.p50_s", "commit.sqlite.p50_s"],
    },
    Figure {
        name: "recorded_p99_sqlite",
        text: "and p99, to the larger of 15 ms and 3 commits' p99",
        unit: "of what it may take",
        target: Target::AtMost(1.0),
        of: |values| {
            Some(value!(values, "recorded.sqlite.p99_s") / (3.0 * value!(values, "commit.sqlite.p99_s")).max(0.015))
        },
        beside: &["recorded.sqlite.p99_s", "commit.sqlite.p99_s"],
    },
    Figure {
        name: "recorded_p50_postgres",
        text: "ResolveKey at 200/s with audit, PostgreSQL: p50, to 2 commits + 0.5 ms",
        unit: "of what it may take",
        target: Target::AtMost(1.0),
        of: |values| {
            Some(value!(values, "recorded.postgres.p50_s") / (2.0 * value!(values, "commit.postgres.p50_s") + 0.0005))
        },
        beside: &["recorded.postgres.p50_s", "commit.postgres.p50_s"],
    },
    Figure {
        name: "recorded_p99_postgres",
        text: "and p99, to the larger of 15 ms and 3 commits' p99",
        unit: "of what it may take",
        target: Target::AtMost(1.0),
        of: |values| {
            Some(value!(values, "recorded.postgres.p99_s") / (3.0 * value!(values, "commit.postgres.p99_s")).max(0.015))
        },
        beside: &["recorded.postgres.p99_s", "commit.postgres.p99_s"],
    },
    Figure {
        name: "recorded_peak_sqlite",
        text: "ResolveKey with audit, SQLite: the most a second",
        unit: "1/s",
        target: Target::AtLeast(1000.0),
        of: plain!("resolve.sqlite.recorded.per_s"),
        beside: &["resolve.sqlite.recorded.cpu_ms"],
    },
    Figure {
        name: "recorded_peak_postgres",
        text: "ResolveKey with audit, PostgreSQL: the most a second",
        unit: "1/s",
        target: Target::AtLeast(1000.0),
        of: plain!("resolve.postgres.recorded.per_s"),
        beside: &["resolve.postgres.recorded.cpu_ms"],
    },
    Figure {
        name: "unary",
        text: "chat of 1 KB, no TLS: CPU, to haproxy's",
        unit: RATIO,
        target: Target::AtMost(4.0),
        of: ratio!("unary.clear.cpu_ms", "unary.haproxy.clear.cpu_ms"),
        beside: &["unary.clear.cpu_ms", "unary.haproxy.clear.cpu_ms", "unary.clear.per_s", "unary.bare.clear.cpu_ms"],
    },
    Figure {
        name: "unary_quiet",
        text: "the same, audit and tracing off",
        unit: RATIO,
        target: Target::AtMost(4.0),
        of: ratio!("unary.clear.quiet.cpu_ms", "unary.haproxy.clear.cpu_ms"),
        beside: &["unary.clear.quiet.cpu_ms", "unary.clear.quiet.per_s"],
    },
    Figure {
        name: "unary_tls",
        text: "chat of 1 KB, TLS: CPU, to haproxy's with TLS",
        unit: RATIO,
        target: Target::Told,
        of: ratio!("unary.tls.cpu_ms", "unary.haproxy.tls.cpu_ms"),
        beside: &["unary.tls.cpu_ms", "unary.haproxy.tls.cpu_ms", "unary.tls.per_s"],
    },
    Figure {
        name: "stream",
        text: "100 chunks at once, TLS: CPU, to haproxy's",
        unit: RATIO,
        target: Target::AtMost(6.0),
        of: ratio!("stream.tls.cpu_ms", "stream.haproxy.cpu_ms"),
        beside: &["stream.tls.cpu_ms", "stream.haproxy.cpu_ms", "stream.bare.cpu_ms"],
    },
    Figure {
        name: "stream_quiet",
        text: "the same, audit and tracing off",
        unit: RATIO,
        target: Target::AtMost(6.0),
        of: ratio!("stream.quiet.cpu_ms", "stream.haproxy.cpu_ms"),
        beside: &["stream.quiet.cpu_ms"],
    },
    Figure {
        name: "paced",
        text: "100 chunks 5 ms apart, TLS: CPU, to haproxy's",
        unit: RATIO,
        target: Target::AtMost(1.8),
        of: ratio!("paced.tls.cpu_ms", "paced.haproxy.cpu_ms"),
        beside: &["paced.tls.cpu_ms", "paced.haproxy.cpu_ms", "paced.bare.cpu_ms"],
    },
    Figure {
        name: "paced_quiet",
        text: "the same, audit and tracing off",
        unit: RATIO,
        target: Target::AtMost(1.8),
        of: ratio!("paced.quiet.cpu_ms", "paced.haproxy.cpu_ms"),
        beside: &["paced.quiet.cpu_ms"],
    },
    Figure {
        name: "first_event_p50",
        text: "added time to the first event, one caller: p50",
        unit: "ms",
        target: Target::AtMost(0.3),
        of: added!("first.gateway.p50_s", "first.direct.p50_s", 1e3),
        beside: &["first.gateway.p50_s", "first.direct.p50_s", "first.haproxy.p50_s"],
    },
    Figure {
        name: "first_event_p99",
        text: "and p99",
        unit: "ms",
        target: Target::AtMost(1.0),
        of: added!("first.gateway.p99_s", "first.direct.p99_s", 1e3),
        beside: &["first.gateway.p99_s", "first.direct.p99_s", "first.haproxy.p99_s"],
    },
    Figure {
        name: "between_16",
        text: "added time between events, 16 paced streams: p50",
        unit: "µs",
        target: Target::AtMost(5.0),
        of: added!("between.gateway.16.gap_p50_s", "between.direct.16.gap_p50_s", 1e6),
        beside: &["between.gateway.16.late_p50_s", "between.direct.16.late_p50_s"],
    },
    Figure {
        name: "between_128",
        text: "added time between events, 128 paced streams: p50",
        unit: "µs",
        target: Target::AtMost(20.0),
        of: added!("between.gateway.128.gap_p50_s", "between.direct.128.gap_p50_s", 1e6),
        beside: &["between.gateway.128.late_p50_s", "between.direct.128.late_p50_s"],
    },
    Figure {
        name: "bodies_unary_16k",
        text: "chat of 16 KB: CPU to that of 1 KB, to the bytes",
        unit: "of the bytes' growth",
        target: Target::AtMost(1.0),
        of: growth!("unary.tls.cpu_ms", "bodies.unary.16k.cpu_ms", 16.0),
        beside: &["bodies.unary.16k.cpu_ms"],
    },
    Figure {
        name: "bodies_unary_200k",
        text: "chat of 200 KB: CPU to that of 16 KB, to the bytes",
        unit: "of the bytes' growth",
        target: Target::AtMost(1.0),
        of: growth!("bodies.unary.16k.cpu_ms", "bodies.unary.200k.cpu_ms", 12.5),
        beside: &["bodies.unary.200k.cpu_ms"],
    },
    Figure {
        name: "bodies_stream_200k",
        text: "streamed chat of 200 KB: CPU to that of 16 KB, to the bytes",
        unit: "of the bytes' growth",
        target: Target::AtMost(1.0),
        of: growth!("bodies.stream.16k.cpu_ms", "bodies.stream.200k.cpu_ms", 12.5),
        beside: &["bodies.stream.16k.cpu_ms", "bodies.stream.200k.cpu_ms"],
    },
    Figure {
        name: "memory_512",
        text: "512 paced streams: resident memory of the gateway",
        unit: "MiB",
        target: Target::AtMost(100.0),
        of: plain!("memory.streams_512.mib"),
        beside: &["memory.streams_512.late_p50_s"],
    },
    Figure {
        name: "lost_512",
        text: "and events lost",
        unit: "events",
        target: Target::AtMost(0.0),
        of: plain!("memory.streams_512.lost"),
        beside: &[],
    },
    Figure {
        name: "memory_idle_gateway",
        text: "idle gateway: resident memory",
        unit: "MiB",
        target: Target::AtMost(25.0),
        of: plain!("memory.idle.gateway.mib"),
        beside: &[],
    },
    Figure {
        name: "memory_idle_vault",
        text: "idle vault: resident memory",
        unit: "MiB",
        target: Target::AtMost(25.0),
        of: plain!("memory.idle.vault.mib"),
        beside: &[],
    },
    Figure {
        name: "memory_open_stream",
        text: "10,000 open idle streams: each",
        unit: "KiB",
        target: Target::AtMost(40.0),
        of: plain!("memory.open_stream.kib"),
        beside: &["memory.open_streams.mib"],
    },
    Figure {
        name: "start_vault",
        text: "cold start of the vault with SQLite until it is ready",
        unit: "ms",
        target: Target::AtMost(300.0),
        of: plain!("start.vault.ms"),
        beside: &["start.vault.first.ms"],
    },
    Figure {
        name: "start_gateway",
        text: "cold start of the gateway until it is ready",
        unit: "ms",
        target: Target::AtMost(300.0),
        of: plain!("start.gateway.ms"),
        beside: &[],
    },
    Figure {
        name: "image",
        text: "the larger image",
        unit: "MiB",
        target: Target::AtMost(40.0),
        of: plain!("image.larger.mib"),
        beside: &["image.vault.mib", "image.gateway.mib"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_figure_has_a_name_of_its_own() {
        let names: BTreeSet<_> = FIGURES.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), FIGURES.len());
    }

    #[test]
    fn what_was_not_measured_has_no_value() {
        assert!(FIGURES.iter().all(|figure| (figure.of)(&Values::new()).is_none()));
    }
}
