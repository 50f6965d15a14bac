//! What both services tell of themselves, as a collector and as a backend of others see it: one
//! trace of each chat, metrics, and log lines that name the trace.
//!
//! What a span and a metric must have stands in tables of [`spans`] and [`metrics`]: a service
//! that says more, less or something else does not hold to them.

mod canaries;
mod context;
mod desk;
mod export;
mod logs;
mod metrics;
mod outage;
mod phoenix;
mod providers;
mod spans;
mod traces;
