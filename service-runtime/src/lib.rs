//! What a service does before its first RPC and after its last.
//!
//! Hardening of the process, options, manual pages, what is checked about a deployment, telemetry, TLS, who
//! calls and who may, the server loop and its drain, how well it is and what probes ask, how much
//! it has in hand, connections to other services, shutdown, and the wire form of a failure and of
//! invalid fields. Nothing else belongs here:
//!
//! - It depends on no other crate of this workspace, so it cannot know a message or a
//!   domain type.
//! - Something enters only when both binaries need it *and* would be wrong to differ.
//!   Similar is not enough: two similar twenty-line functions are cheaper than one
//!   shared one with a flag.
//! - There is no `util` module. If a thing has no noun, it has no home yet.

pub mod client;
pub mod doctor;
pub mod drain;
pub mod failure;
pub mod fields;
pub mod hardening;
pub mod health;
pub mod identity;
pub mod in_hand;
pub mod incoming;
pub mod manual;
pub mod metrics;
pub mod options;
pub mod peer;
pub mod policy;
pub mod probes;
pub mod readiness;
pub mod reload;
pub mod semconv;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod token;
