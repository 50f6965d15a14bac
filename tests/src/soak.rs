//! How long a test that could run for hours runs.

/// `ci` in every run of the suite, `soak` with `SOAK=1`, as `make soak` sets it.
pub fn times<T>(ci: T, soak: T) -> T {
    if std::env::var_os("SOAK").is_some_and(|value| value == "1") { soak } else { ci }
}
