//! All servers of the repeats.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use proto::{
    chat::chat_service_client::ChatServiceClient, keyvault::key_resolution_service_client::KeyResolutionServiceClient,
};

use crate::{
    Postgres,
    bench::{
        clients::{Chats, Resolutions},
        platform::{Kind, Platform, Trust},
        servers::Server,
    },
};

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Keys from a vault that records nothing.
    Keys,
    /// Chats of 1 KB.
    Chats,
    /// Streams of 100 chunks.
    Streams,
    /// Keys that are released with a record.
    Records,
    /// The time to the first event.
    FirstEvent,
    /// The time between events.
    Between,
    /// Chats of 16 and 200 KB.
    Bodies,
    /// Memory, starts and images, once.
    Once,
}

impl Part {
    /// Those whose figures are compared with earlier runs.
    pub const COMPARED: [Self; 3] = [Self::Keys, Self::Chats, Self::Streams];
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Extent {
    /// How long each measurement takes.
    pub part: Duration,
    /// How often everything is measured.
    pub repeats: usize,
    /// What is measured.
    pub parts: Vec<Part>,
    /// How many idle streams are opened.
    pub open_streams: u32,
    /// What the services log: more than `info` is how a slowdown is planted.
    pub log_filter: String,
}

/// The servers, which run side by side; those that are not asked are idle.
#[derive(Debug)]
pub struct Stage {
    pub(super) extent: Extent,
    pub(super) postgres: Postgres,
    /// In the clear, and over TLS.
    pub(super) provider: [Server; 2],
    pub(super) bare: [Server; 2],
    pub(super) haproxy: [Server; 2],
    /// Everything on, with SQLite and PostgreSQL.
    pub(super) full: Platform,
    pub(super) full_postgres: Platform,
    /// In the clear, everything else on; and without records and traces.
    pub(super) clear: Platform,
    pub(super) clear_quiet: Platform,
    /// Without records.
    pub(super) unrecorded: Platform,
    pub(super) unrecorded_postgres: Platform,
    /// Without records and traces.
    pub(super) quiet: Platform,
    pub(super) quiet_postgres: Platform,
    pub(super) trust: Trust,
    _sink: Server,
}

/// Which of two servers.
pub(super) const CLEAR: usize = 0;
pub(super) const TLS: usize = 1;

impl Stage {
    /// Starts all.
    ///
    /// # Errors
    ///
    /// Says what did not start.
    pub async fn start(extent: &Extent) -> Result<Self> {
        let trust = Trust::new()?;
        let tls = Some(&trust.tls);
        let both =
            async |kind: &str| Ok::<_, anyhow::Error>([Server::of(kind, None).await?, Server::of(kind, tls).await?]);
        let (provider, bare, sink) = (both("provider").await?, both("bare").await?, Server::of("sink", None).await?);
        let haproxy =
            async |at: usize, tls| Server::haproxy(trust.folder(), provider[at].url(), tls, &trust.authority).await;
        let haproxy = [haproxy(CLEAR, None).await?, haproxy(TLS, tls).await?];
        let Some(postgres) = Postgres::start().await else {
            bail!("PostgreSQL is missing; to install it: apt-get install postgresql")
        };

        let everything = Kind {
            tls: true,
            collector: Some(sink.url().to_owned()),
            audit: true,
            log_filter: Some(extent.log_filter.clone()),
            ..Kind::default()
        };
        let start = async |kind: Kind, on_postgres: bool| {
            let database_url = if on_postgres { Some(postgres.create_database().await) } else { None };
            let provider = &provider[usize::from(kind.tls)];
            Platform::start(&Kind { database_url, ..kind }, provider.url(), &trust).await.context("the services")
        };
        let unrecorded = Kind { audit: false, ..everything.clone() };
        let quiet = Kind { collector: None, ..unrecorded.clone() };
        Ok(Self {
            extent: extent.clone(),
            full: start(everything.clone(), false).await?,
            full_postgres: start(everything.clone(), true).await?,
            clear: start(Kind { tls: false, ..everything }, false).await?,
            clear_quiet: start(Kind { tls: false, ..quiet.clone() }, false).await?,
            unrecorded: start(unrecorded.clone(), false).await?,
            unrecorded_postgres: start(unrecorded, true).await?,
            quiet: start(quiet.clone(), false).await?,
            quiet_postgres: start(quiet, true).await?,
            postgres,
            provider,
            bare,
            haproxy,
            trust,
            _sink: sink,
        })
    }

    /// Lets one platform work and the others rest, or all of them.
    pub(super) async fn only(&self, worker: Option<&Platform>) {
        for platform in self.platforms() {
            if worker.is_some_and(|worker| std::ptr::eq(worker, platform)) {
                platform.works().await;
            } else {
                platform.rests().await;
            }
        }
    }

    fn platforms(&self) -> [&Platform; 8] {
        let Self {
            full,
            full_postgres,
            clear,
            clear_quiet,
            unrecorded,
            unrecorded_postgres,
            quiet,
            quiet_postgres,
            ..
        } = self;
        [full, full_postgres, clear, clear_quiet, unrecorded, unrecorded_postgres, quiet, quiet_postgres]
    }

    /// Clients of a server that speaks HTTP.
    pub(super) fn http(&self, server: &Server) -> Result<Chats> {
        Chats::http(server.url(), &self.trust)
    }

    /// Callers of a bare server.
    pub(super) fn bare_chats(&self, at: usize) -> Result<Chats> {
        let channel = || self.trust.wire(self.bare[at].url());
        channel()?;
        Ok(Chats::grpc(|| ChatServiceClient::new(channel().expect("it was made before"))))
    }

    /// Callers of a bare server who ask for keys.
    pub(super) fn bare_resolutions(&self) -> Result<Resolutions> {
        let channel = || self.trust.wire(self.bare[TLS].url());
        channel()?;
        Ok(Resolutions::new(|| KeyResolutionServiceClient::new(channel().expect("it was made before"))))
    }
}
