//! From the options to the secrets managers: one that wraps, and those that once did.

use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;

use super::ServeOptions;
use crate::seal::secrets_manager::{LocalKeyring, Managers, SecretsManager, Transit};

/// A kind of secrets manager, as an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SecretsManagerName {
    /// A keyring in a file or a directory.
    Local,
    /// The transit engine of OpenBao or Vault.
    Transit,
}

/// The secrets managers that the options name: the chosen one, and the other as well if
/// its options are there, to unwrap what it wrapped before.
///
/// Reads the keyring and the certificates. Asks no server yet.
///
/// # Errors
///
/// Says which option is missing, without effect or not usable.
pub(crate) fn managers(options: &ServeOptions) -> anyhow::Result<Managers> {
    let transit = || -> anyhow::Result<Arc<dyn SecretsManager>> {
        let settings = options.transit.settings().context("the options of the transit engine do not fit together")?;
        Ok(Arc::new(Transit::new(settings).context("the transit engine cannot be used")?))
    };
    let local = || Arc::new(LocalKeyring::at(&options.keyring()));
    let mut unwrap_only = Vec::new();
    let configured: Arc<dyn SecretsManager> = match options.secrets_manager {
        SecretsManagerName::Local => {
            if options.transit.is_given() {
                unwrap_only.push(transit()?);
            }
            local()
        }
        SecretsManagerName::Transit => {
            if options.keyring.is_some() {
                unwrap_only.push(local());
            }
            transit()?
        }
    };
    Ok(Managers::new(configured, unwrap_only))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Command};

    const APPROLE: [&str; 5] = [
        "--transit-address=https://vault",
        "--transit-key=root",
        "--transit-auth=approle",
        "--transit-role-id=role",
        "--transit-secret-id-file=/s",
    ];

    fn serve(options: &[&str]) -> Box<ServeOptions> {
        match Cli::parse_from(["key-vault", "serve"].iter().chain(options)).command {
            Command::Serve(options) => options,
            other => panic!("{other:?}"),
        }
    }

    fn with_keyring(path: &Path, options: &[&str]) -> anyhow::Result<Managers> {
        let keyring = format!("--keyring={}", path.display());
        managers(&serve(&[&[keyring.as_str()], options].concat()))
    }

    #[test]
    fn the_chosen_one_wraps_and_the_other_unwraps_if_its_options_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        LocalKeyring::create(&path).unwrap();
        let chosen = [&APPROLE[..], &["--secrets-manager=transit"]].concat();
        assert_eq!(with_keyring(&path, &[]).unwrap().kinds(), ["local"]);
        assert_eq!(with_keyring(&path, &APPROLE).unwrap().kinds(), ["local", "transit"]);
        assert_eq!(with_keyring(&path, &chosen).unwrap().kinds(), ["transit", "local"]);
        assert_eq!(managers(&serve(&chosen)).unwrap().kinds(), ["transit"]);
    }

    #[test]
    fn options_that_do_not_fit_together_are_refused() {
        let chosen = "--secrets-manager=transit";
        for (options, expected) in [
            (&[chosen][..], "--transit-address is missing"),
            (&APPROLE[..1], "--transit-key is missing"),
            (&["--transit-role=r"], "--transit-address is missing"),
            (&APPROLE[..4], "--transit-secret-id-file is missing"),
        ] {
            let error = format!("{:#}", with_keyring(Path::new("var/keyring"), options).unwrap_err());
            assert!(error.contains(expected), "{options:?}: {error}");
        }
    }
}
