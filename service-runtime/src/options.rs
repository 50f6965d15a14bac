//! How command line options are read from the environment: one rule for both binaries.

use clap::{Arg, Command};

/// Lets every option with a long name, of `command` and of all its subcommands, be set
/// by the variable `<PREFIX>_<NAME>` too: `--log-format` by `KEY_VAULT_LOG_FORMAT`.
///
/// The command line wins over the environment. Values of variables are not shown in
/// help texts.
#[must_use]
pub fn named_in_environment(command: Command, prefix: &'static str) -> Command {
    command
        .mut_args(|argument| match argument.get_long() {
            Some(long) if !matches!(long, "help" | "version") => {
                let name = format!("{prefix}_{}", long.to_uppercase().replace('-', "_"));
                with_env(argument, name)
            }
            _ => argument,
        })
        .mut_subcommands(|subcommand| named_in_environment(subcommand, prefix))
}

fn with_env(argument: Arg, name: String) -> Arg {
    argument.env(name).hide_env_values(true)
}
