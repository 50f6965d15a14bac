//! The options that bound what one principal may ask.

use clap::Args;

use crate::limits::Rates;

/// How much one principal may ask of one replica.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Resolutions a second for each principal. 0 is no limit. 5000 unless given; with --dev none
    #[arg(long, value_name = "COUNT")]
    pub resolves_per_second: Option<u32>,

    /// Changes a second for each principal. 0 is no limit. 100 unless given; with --dev none
    #[arg(long, value_name = "COUNT")]
    pub mutations_per_second: Option<u32>,

    /// Distinct keys that one principal may resolve in a minute. More are refused, and the
    /// operator is told. 0 is no limit. 1000 unless given; with --dev none
    #[arg(long, value_name = "COUNT")]
    pub distinct_keys_per_minute: Option<u32>,
}

impl LimitOptions {
    /// What they come to.
    pub(crate) fn rates(&self, dev: bool) -> Rates {
        let or = |given: Option<u32>, usual| given.unwrap_or(if dev { 0 } else { usual });
        Rates {
            resolves_per_second: or(self.resolves_per_second, 5_000),
            mutations_per_second: or(self.mutations_per_second, 100),
            distinct_keys_per_minute: or(self.distinct_keys_per_minute, 1_000),
        }
    }
}
