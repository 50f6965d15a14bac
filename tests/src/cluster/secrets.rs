//! The Secrets that the manifests mount, made as `deploy/kubernetes/README.md` says.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

use anyhow::{Result, bail, ensure};

use super::{manifest::Certificate, volumes::Secrets};
use crate::{
    Postgres,
    certs::{Authority, Use},
    postgres::{Auth, Outside, Settings, Tls, USER},
};

/// The database and the user of the replicas, who may not change the schema.
const DATABASE: &str = "key_vault";

/// The user whom the schema belongs to.
const OWNER: &str = "key_vault_owner";

const PASSWORD: &str = "a-password-of-the-cluster";

/// The Service of PostgreSQL, with its namespace.
pub(super) const SERVICE: &str = "postgresql.postgresql";

/// The settings of a server that pods reach, who hold it to its name.
pub(super) fn database_settings(authority: &Authority, address: Ipv4Addr, callers: &str) -> Settings {
    let issued = authority.certify(&[format!("{SERVICE}.svc")], &[], &[Use::Server]);
    Settings {
        auth: Auth::Scram,
        in_memory: true,
        tls: Some(Tls { certificates: issued.certificate, key: issued.key }),
        also_at: Some(Outside { address, callers: callers.to_owned() }),
        ..Settings::default()
    }
}

/// Makes the database and its users, a keyring, and the Secrets of both.
pub(super) async fn make(postgres: &Postgres, authority: &Authority, folder: &Path) -> Result<Secrets> {
    for user in [OWNER, DATABASE] {
        postgres.sql(USER, &format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")).await?;
    }
    postgres.sql(USER, &format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")).await?;
    let rights = format!(
        "GRANT USAGE ON SCHEMA public TO {DATABASE}; ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public \
         GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {DATABASE}"
    );
    postgres.sql(DATABASE, &rights).await?;

    let keyring = folder.join("keyring");
    let made = crate::command("key-vault").args(["keyring", "init"]).arg(&keyring).output().await?;
    ensure!(made.status.success(), "no keyring: {}", String::from_utf8_lossy(&made.stderr));
    let database = |user: &str, mount: &str| {
        let port = postgres.port();
        let authority_file = format!("/etc/key-vault/{mount}/ca.crt");
        let url = format!("postgres://{user}:{PASSWORD}@{SERVICE}.svc:{port}/{DATABASE}");
        let url = format!("{url}?sslmode=verify-full&sslrootcert={authority_file}");
        BTreeMap::from([("url".to_owned(), url), ("ca.crt".to_owned(), authority.pem())])
    };
    Ok(Secrets::from([
        ("key-vault-keyring".to_owned(), BTreeMap::from([("keyring".to_owned(), fs::read_to_string(keyring)?)])),
        ("key-vault-database".to_owned(), database(DATABASE, "database")),
        ("key-vault-migration-database".to_owned(), database(OWNER, "migration-database")),
    ]))
}

/// What cert-manager puts into the Secret of a certificate.
pub(super) fn issued(authority: &Authority, certificate: &Certificate) -> Result<BTreeMap<String, String>> {
    let mut uses = Vec::new();
    for usage in &certificate.usages {
        match usage.as_str() {
            "digital signature" => {}
            "server auth" => uses.push(Use::Server),
            "client auth" => uses.push(Use::Client),
            _ => bail!("{usage:?} is not a known use"),
        }
    }
    let issued = authority.certify(&certificate.dns_names, &certificate.uris, &uses);
    let files = [("tls.crt", issued.certificate), ("tls.key", issued.key), ("ca.crt", authority.pem())];
    Ok(files.map(|(name, text)| (name.to_owned(), text)).into())
}
