//! How command line options are read from the environment: one rule for both binaries.

use std::time::Duration;

use clap::Command;

/// Commands that run without a person: each of their options can be set by a variable.
const SERVICE_COMMANDS: [&str; 5] = ["serve", "migrate", "doctor", "backup", "restored"];

/// Options of every other command that can be: where to connect, as whom, for whom, how to
/// print.
/// What a command does is said on its command line only, so that a forgotten variable
/// deletes nothing.
const CONNECTION_OPTIONS: [&str; 10] = [
    "server",
    "gateway",
    "gateway-token-file",
    "ca",
    "client-certificate",
    "client-key",
    "token-file",
    "server-name",
    "organization",
    "output",
];

/// Lets options be set by the variable `<PREFIX>_<NAME>` too: `--log-format` by
/// `KEY_VAULT_LOG_FORMAT`.
///
/// The command line wins over the environment. Values of variables are not shown in
/// help texts.
#[must_use]
pub fn named_in_environment(command: Command, prefix: &'static str) -> Command {
    let all = SERVICE_COMMANDS.contains(&command.get_name());
    command
        .mut_args(|argument| match argument.get_long() {
            Some("help" | "version") | None => argument,
            Some(long) if all || CONNECTION_OPTIONS.contains(&long) => {
                let name = format!("{prefix}_{}", long.to_uppercase().replace('-', "_"));
                argument.env(name).hide_env_values(true)
            }
            Some(_) => argument,
        })
        .mut_subcommands(|subcommand| named_in_environment(subcommand, prefix))
}

/// Reads the URL of a gRPC server.
///
/// # Errors
///
/// Says what is missing: `127.0.0.1:50051` has no scheme, and would fail at each call.
pub fn grpc_url(text: &str) -> Result<String, String> {
    let has_scheme = text.starts_with("http://") || text.starts_with("https://");
    match text.parse::<http::Uri>() {
        Ok(url) if has_scheme && url.host().is_some_and(|host| !host.is_empty()) => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err("must be a URL such as http://127.0.0.1:50051".to_owned()),
    }
}

/// Reads a duration as people write it: a number with `s`, `m`, `h` or `d`, or 0.
///
/// # Errors
///
/// Says how it is written.
pub fn duration(text: &str) -> Result<Duration, String> {
    let problem = || "must be a number with a unit, such as 90s, 30m, 24h or 7d; or 0".to_owned();
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let number: u64 = number.parse().map_err(|_| problem())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ if number == 0 => 0,
        _ => return Err(problem()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(problem)
}

/// Reads a number of bytes as people write it: plain, or with `KiB`, `MiB` or `GiB`.
///
/// # Errors
///
/// Says how it is written.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number, *unit)))
        .unwrap_or((text, 1));
    let bytes = number.parse().ok().and_then(|number: usize| number.checked_mul(unit));
    bytes.ok_or_else(|| "must be a number of bytes, such as 536870912, or one with a unit, such as 512MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn a_variable_can_set_how_a_service_runs_and_where_a_client_connects_and_nothing_else() {
        let command = Command::new("key-vault")
            .subcommand(Command::new("serve").arg(Arg::new("listen").long("listen")))
            .subcommand(Command::new("delete").arg(Arg::new("yes").long("yes")).arg(Arg::new("server").long("server")));
        let command = named_in_environment(command, "KEY_VAULT");
        let variable = |subcommand: &str, argument: &str| {
            let subcommand = command.find_subcommand(subcommand).expect("a subcommand");
            let argument = subcommand.get_arguments().find(|found| found.get_id() == argument).expect("an argument");
            argument.get_env().map(|name| name.to_string_lossy().into_owned())
        };
        assert_eq!(variable("serve", "listen").as_deref(), Some("KEY_VAULT_LISTEN"));
        assert_eq!(variable("delete", "server").as_deref(), Some("KEY_VAULT_SERVER"));
        assert_eq!(variable("delete", "yes"), None);
    }

    #[test]
    fn a_server_is_named_by_a_url() {
        for (text, valid) in [
            ("http://127.0.0.1:50051", true),
            ("https://vault.internal", true),
            ("127.0.0.1:50051", false),
            ("localhost:50051", false),
            ("ftp://vault", false),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(grpc_url(text).is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_with_a_unit() {
        for (text, seconds) in
            [("0", Some(0)), ("90s", Some(90)), ("30m", Some(1_800)), ("24h", Some(86_400)), ("7d", Some(604_800))]
        {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
        for text in ["", "24", "h", "-1h", "1.5h", "1w", "99999999999999999999d", "999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_written_plain_or_with_a_unit() {
        for (text, count) in
            [("0", 0), ("536870912", 536_870_912), ("1KiB", 1_024), ("512MiB", 536_870_912), ("2GiB", 2_147_483_648)]
        {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 MiB", "1MB", "99999999999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
