//! Where providers are: an option for each line of the table of providers.
//!
//! Odd: written by hand what clap derives elsewhere, because the options are not known here.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind, value_parser};
use url::Url;

use super::BaseUrlError;
use crate::{message::Provider as Name, provider};

/// The base URL of each provider, in the order of the table.
#[derive(Clone, Debug)]
pub struct BaseUrls(Vec<Url>);

impl BaseUrls {
    pub(super) fn of(&self, name: Name) -> &Url {
        // There is one for each.
        &self.0[name as usize]
    }

    /// Refuses those that would put a key at risk, and adds the version of the API to those
    /// that have none.
    pub(super) fn check(&mut self) -> Result<(), BaseUrlError> {
        for (name, url) in Name::ALL.into_iter().zip(&mut self.0) {
            check(format!("--{}", option(name)), url, last_segment(provider::of(name).base_url()))?;
        }
        Ok(())
    }
}

fn option(name: Name) -> String {
    format!("{name}-base-url")
}

impl Args for BaseUrls {
    fn augment_args(command: Command) -> Command {
        command.args(Name::ALL.map(|name| {
            let provider = provider::of(name);
            Arg::new(option(name))
                .long(option(name))
                .value_name("URL")
                .help(format!("The {} API", provider.title()))
                .default_value(provider.base_url())
                .value_parser(value_parser!(Url))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for BaseUrls {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let url = |name| matches.get_one::<Url>(&option(name)).cloned();
        // All have a default.
        let urls =
            Name::ALL.into_iter().map(|name| url(name).ok_or_else(|| Error::new(ErrorKind::MissingRequiredArgument)));
        Ok(Self(urls.collect::<Result<_, _>>()?))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Refuses a base URL that would put a key at risk, and adds the version of the API if
/// it has none: `https://gateway.internal/openai` means `…/openai/v1`.
fn check(option: String, url: &mut Url, version: &str) -> Result<(), BaseUrlError> {
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let problem = match url.scheme() {
        "https" => None,
        "http" if is_loopback => None,
        "http" => Some("plain http would show the key to the network; use https"),
        _ => Some("it must begin with https://"),
    };
    let problem = problem.or_else(|| {
        (!url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some())
            .then_some("it must be a scheme, a host and a path only")
    });
    if let Some(problem) = problem {
        // What stands before the host may be a password.
        let mut shown = url.clone();
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        return Err(BaseUrlError::Refused { option, url: shown, problem });
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let has_version =
        last_segment(&path).strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    url.set_path(&if has_version { path } else { format!("{path}/{version}") });
    Ok(())
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_an_option_of_its_own() {
        let command = BaseUrls::augment_args(Command::new("gateway"));
        let read = |words: &[&str]| BaseUrls::from_arg_matches(&command.clone().get_matches_from(words)).unwrap();
        let mut defaults = read(&["gateway"]);
        defaults.check().unwrap();
        for name in Name::ALL {
            assert_eq!(defaults.of(name).as_str(), provider::of(name).base_url());
            let option = format!("--{name}-base-url");
            let set = read(&["gateway", &option, "https://proxy.example"]);
            let changed: Vec<_> = Name::ALL.into_iter().filter(|other| set.of(*other) != defaults.of(*other)).collect();
            assert_eq!(changed, [name]);
            let mut leaky = read(&["gateway", &option, "http://proxy.example"]);
            assert!(leaky.check().unwrap_err().to_string().starts_with(&option));
        }
    }

    #[test]
    fn base_urls_that_would_leak_a_key_are_refused_and_versions_are_added() {
        for (url, expected) in [
            ("https://api.openai.com/v1", Ok("https://api.openai.com/v1")),
            ("https://api.openai.com", Ok("https://api.openai.com/v1")),
            ("https://proxy.example/openai/", Ok("https://proxy.example/openai/v1")),
            ("https://proxy.example/v1beta/", Ok("https://proxy.example/v1beta")),
            ("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000/v1")),
            ("http://[::1]:9000", Ok("http://[::1]:9000/v1")),
            ("http://10.0.0.1/v1", Err("use https")),
            ("http://127.0.0.1.example/v1", Err("use https")),
            ("https://user:secret@api.openai.com/v1", Err("scheme, a host and a path")),
            ("https://api.openai.com/v1?key=secret", Err("scheme, a host and a path")),
            ("file:///etc/passwd", Err("https://")),
        ] {
            let mut parsed = Url::parse(url).unwrap();
            match (check("--openai-base-url".to_owned(), &mut parsed, "v1"), expected) {
                (Ok(()), Ok(expected)) => assert_eq!(parsed.as_str(), expected),
                (Err(error), Err(expected)) => {
                    let text = error.to_string();
                    assert!(text.contains(expected) && !text.contains("user:"), "{text}");
                }
                (outcome, expected) => panic!("{url}: {outcome:?} instead of {expected:?}"),
            }
        }
    }
}
