//! The production manifests, run: each container as they say, in a network namespace of its own.

mod containers;
