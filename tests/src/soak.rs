//! How long a test that could run for hours runs.

/// `ci` in every run of the suite, `soak` with `SOAK=1`, as `make soak` sets it.
pub fn times<T>(ci: T, soak: T) -> T {
    if is("1") { soak } else { ci }
}

/// The same, of a test that is worth minutes too: `short` with `SOAK=short`.
pub fn span<T>(ci: T, short: T, soak: T) -> T {
    if is("short") { short } else { times(ci, soak) }
}

fn is(expected: &str) -> bool {
    std::env::var_os("SOAK").is_some_and(|value| value == expected)
}
