//! pgbouncer in transaction mode, before a server of the same test.

use std::{
    ffi::OsStr,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, bail};

use super::{
    CHANGE_MAX, LOOK_EVERY, PASSWORD, Postgres, USER, free_port, private_folder, supervised::Supervised, write_owned,
};

/// A pooler that gives a connection of the server away at the end of each transaction. Stopped
/// when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    _running: Supervised,
    folder: PathBuf,
    port: u16,
}

impl PgBouncer {
    /// Starts pgbouncer with four connections to the server. `None`, said loudly, where it
    /// is missing; fails then in CI.
    pub async fn start(server: &Postgres) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian's folder of daemons is not in everyone's path.
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.exists()) else {
            crate::skip_without("pgbouncer");
            return None;
        };
        Some(Self::make(&program, server).await.expect("pgbouncer starts"))
    }

    async fn make(program: &Path, server: &Postgres) -> Result<Self> {
        let folder = private_folder(false)?;
        let port = free_port();
        let file = folder.join("pgbouncer.ini");
        let configuration = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user={USER} password={PASSWORD}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = 4\n\
             max_client_conn = 500\n\
             server_login_retry = 1\n",
            server.port()
        );
        write_owned(&file, &configuration)?;
        let mut running = Supervised::start(&[program.as_os_str(), OsStr::new(&file)], &folder, "TERM")?;
        let deadline = Instant::now() + CHANGE_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if running.has_ended() || Instant::now() > deadline {
                running.keep_folder();
                bail!("pgbouncer does not start:\n{}", fs::read_to_string(folder.join("log"))?);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { _running: running, folder, port })
    }

    /// The URL of a database of the server, by way of the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}
