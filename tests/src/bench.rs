//! What `make bench` measures: both services as they are deployed, and beside them, in the same run,
//! what cannot be beaten.
//!
//! Every server of a measurement is a process of its own, so that its time on the processor is its
//! own. A *limit* is a bare server of the same messages, the provider called directly, or haproxy in
//! front of the same provider. The figure of most rows is a ratio to the limit of the same run, which
//! holds on any machine; absolute values stand beside it.
//!
//! Read in this order: [`figures`] (what must come out), [`measure`] (what is done), [`question`] and
//! [`servers`] (who answers), [`result`] (what is kept), [`check`] (what a regression is).

pub mod bare;
pub mod check;
pub mod clients;
pub mod cost;
pub mod figures;
pub mod measure;
pub mod platform;
pub mod provider;
pub mod question;
pub mod result;
pub mod scale;
pub mod servers;
pub mod table;
