//! Options as tables, one for each heading of `--help`.
//!
//! What values are allowed is asked of the options themselves: each is given some that hardly
//! anything takes, and what it says to them stands in the document.

use std::error::Error as _;

use clap::{Arg, Command, error::ErrorKind};

use crate::below;

/// Commands that run without a person. Every other is a client, or works on files.
const SERVICES: [&str; 4] = ["serve", "migrate", "doctor", "restored"];

/// Values that hardly any option takes. Numbers last: what is said to them is the range.
const PROBES: [&str; 3] = ["x", "-1", "18446744073709551615"];

/// The options of a service command.
pub(crate) fn of_service(binary: &Command, name: &str) -> String {
    let arguments: Vec<_> = below(binary, &[name]).get_arguments().filter(|option| is_ours(option)).collect();
    tables(binary, &[name], &arguments)
}

/// The options of all other commands that are variables too.
pub(crate) fn of_clients(binary: &Command) -> String {
    let mut written = Vec::new();
    let mut tables_of = String::from("| option | variable | default | |\n| --- | --- | --- | --- |\n");
    for path in leaves(binary).iter().filter(|path| !SERVICES.contains(&path[0])) {
        for option in below(binary, path).get_arguments().filter(|option| option.get_env().is_some()) {
            if !written.contains(option.get_id()) {
                written.push(option.get_id().clone());
                tables_of.push_str(&row(binary, path, option));
            }
        }
    }
    tables_of + "\n"
}

/// The names of all options of a binary, as they are typed.
pub(crate) fn names(binary: &Command) -> Vec<String> {
    let options = leaves(binary).into_iter().flat_map(|path| below(binary, &path).get_arguments().collect::<Vec<_>>());
    options.filter_map(|option| option.get_long().map(|name| format!("--{name}"))).collect()
}

/// The paths of all commands that have none below them.
fn leaves(command: &Command) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for of in command.get_subcommands().filter(|of| of.get_name() != "help") {
        match leaves(of) {
            deeper if deeper.is_empty() => found.push(vec![of.get_name()]),
            deeper => found.extend(deeper.into_iter().map(|path| [vec![of.get_name()], path].concat())),
        }
    }
    found
}

fn is_ours(option: &Arg) -> bool {
    option.get_long().is_some_and(|name| !["help", "version"].contains(&name)) && !option.is_hide_set()
}

fn tables(binary: &Command, path: &[&str], options: &[&Arg]) -> String {
    let mut headings: Vec<Option<&str>> = Vec::new();
    for option in options {
        if !headings.contains(&option.get_help_heading()) {
            headings.push(option.get_help_heading());
        }
    }
    let table = |heading: Option<&str>| {
        let rows = options.iter().filter(|option| option.get_help_heading() == heading);
        let rows: String = rows.map(|option| row(binary, path, option)).collect();
        format!("| {} | variable | default | |\n| --- | --- | --- | --- |\n{rows}\n", heading.unwrap_or("Options"))
    };
    headings.into_iter().map(table).collect()
}

fn row(binary: &Command, path: &[&str], option: &Arg) -> String {
    let name = option.get_long().expect("an option");
    let takes_values = option.get_action().takes_values();
    let placeholder = match option.get_value_names() {
        Some([value, ..]) if takes_values => format!(" {value}"),
        _ => String::new(),
    };
    let variable = option.get_env().map(|variable| format!("`{}`", variable.display())).unwrap_or_default();
    let defaults: Vec<_> = option.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    let default = match defaults.join(", ") {
        _ if option.is_required_set() => "required".to_owned(),
        defaults if takes_values => defaults,
        _ => "off".to_owned(),
    };
    let mut text = option.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let ends = text.ends_with(['.', '?', '!']);
    text.push_str(if ends { "" } else { "." });
    text.push_str(&values(binary, path, option));
    format!("| `--{name}{placeholder}` | {variable} | {default} | {} |\n", text.replace('|', "\\|"))
}

/// Which values an option takes, as a sentence.
fn values(binary: &Command, path: &[&str], option: &Arg) -> String {
    if !option.get_action().takes_values() {
        return String::new();
    }
    let names: Vec<_> = option.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let mut said = if names.is_empty() {
        range(binary, path, option).unwrap_or_default()
    } else {
        format!(" One of {}.", names.join(", "))
    };
    if option.get_value_delimiter() == Some(',') {
        said.push_str(" Several are separated by commas.");
    }
    said
}

/// What an option says to values out of its range.
fn range(binary: &Command, path: &[&str], option: &Arg) -> Option<String> {
    let said: Vec<_> = PROBES.iter().filter_map(|probe| refusal(binary, path, option, probe)).collect();
    let bounds = said.iter().find_map(|text| text.split_once(" is not in ")).map(|(_, bounds)| bounds);
    if let Some((least, most)) = bounds.and_then(|bounds| bounds.split_once("..")) {
        let most = most.trim_start_matches('=');
        let is_of_its_type =
            [u32::MAX.to_string(), i64::MAX.to_string(), u64::MAX.to_string()].contains(&most.to_owned());
        return match (least, most) {
            ("" | "0", most) if is_of_its_type || most.is_empty() => None,
            (least, most) if is_of_its_type || most.is_empty() => Some(format!(" {least} or more.")),
            ("", most) => Some(format!(" 0 to {most}.")),
            (least, most) => Some(format!(" {least} to {most}.")),
        };
    }
    said.iter().find_map(|text| text.strip_prefix("must be ")).map(|text| format!(" Must be {text}."))
}

fn refusal(binary: &Command, path: &[&str], option: &Arg, probe: &str) -> Option<String> {
    let given = format!("--{}={probe}", option.get_long()?);
    let words = [binary.get_name()].into_iter().chain(path.iter().copied()).chain([given.as_str()]);
    let error = binary.clone().try_get_matches_from(words).err()?;
    let said = (error.kind() == ErrorKind::ValueValidation).then(|| error.source().map(ToString::to_string))?;
    said.map(|text| text.lines().collect::<Vec<_>>().join(" "))
}
