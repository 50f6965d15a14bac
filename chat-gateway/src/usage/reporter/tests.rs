//! The reporter against a vault that answers as it is told.

use std::sync::{Mutex, PoisonError};

use clap::Parser as _;
use futures_util::stream;
use proto::keyvault::{
    ExplainResolutionRequest, ExplainResolutionResponse, ReportKeyUseRequest, ReportKeyUseResponse, ResolveKeyRequest,
    ResolveKeyResponse, WatchKeyChangesRequest, WatchKeyChangesResponse,
    key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
};
use service_runtime::failure::{Code, Failure};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{
    config::{Cli, Command},
    message::{Label, Provider, Source},
    usage::Called,
};

/// Says whether a report is taken, given how many came before.
type Judge = fn(usize, &ReportKeyUseRequest) -> Result<(), Code>;

struct Vault {
    judge: Judge,
    /// What came, taken or not.
    reports: Arc<Mutex<Vec<(ReportKeyUseRequest, bool)>>>,
}

fn failure(code: Code) -> Status {
    Failure::new(code, "test", "TEST").into()
}

#[async_trait]
impl KeyResolutionService for Vault {
    type WatchKeyChangesStream = stream::Empty<Result<WatchKeyChangesResponse, Status>>;

    async fn report_key_use(
        &self,
        request: Request<ReportKeyUseRequest>,
    ) -> Result<Response<ReportKeyUseResponse>, Status> {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let report = request.into_inner();
        let verdict = (self.judge)(reports.len(), &report);
        reports.push((report, verdict.is_ok()));
        verdict.map(|()| Response::new(ReportKeyUseResponse::default())).map_err(failure)
    }

    async fn resolve_key(&self, _: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        Err(failure(Code::Unimplemented))
    }

    async fn explain_resolution(
        &self,
        _: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        Err(failure(Code::Unimplemented))
    }

    async fn watch_key_changes(
        &self,
        _: Request<WatchKeyChangesRequest>,
    ) -> Result<Response<Self::WatchKeyChangesStream>, Status> {
        Err(failure(Code::Unimplemented))
    }
}

/// Reports one call of each organization, until a vault that judges so has heard `until` and
/// then as a gateway that ends. Returns what the vault heard, and whether it took it.
async fn reported(organizations: &[&str], judge: Judge, until: usize) -> Vec<(ReportKeyUseRequest, bool)> {
    let reports = Arc::default();
    let vault = Vault { judge, reports: Arc::clone(&reports) };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let server = Server::builder().add_service(KeyResolutionServiceServer::new(vault)).serve_with_incoming(incoming);
    let uses = Arc::new(Uses::default());
    for organization in organizations {
        drop(uses.begin(Called {
            organization: Label::new((*organization).to_owned()).unwrap(),
            profile: None,
            provider: Provider::Gemini,
            model: "gemini-2.5-pro".to_owned(),
            api_key_id: String::new(),
            version: 0,
            source: Source::Environment,
        }));
    }
    let mut reporter = Reporter::new(uses, client(&url));
    let heard = async {
        while reports.lock().unwrap().len() < until {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let reporting = async {
        tokio::select! {
            () = reporter.run() => {}
            () = heard => {}
        }
        reporter.finish().await;
    };
    tokio::select! {
        _ = server => panic!("the vault ended"),
        () = reporting => {}
    }
    let reports = reports.lock().unwrap();
    reports.clone()
}

fn client(url: &str) -> VaultClient {
    let cli = Cli::try_parse_from(["chat-gateway", "serve", "--dev", "--vault-url", url]).unwrap();
    let Command::Serve(options) = cli.command else { panic!("another command") };
    VaultClient::new(&options).unwrap()
}

fn ids(report: &ReportKeyUseRequest) -> Vec<&str> {
    report.uses.iter().map(|call| call.report_id.as_str()).collect()
}

#[tokio::test]
async fn what_the_vault_did_not_take_is_sent_again_with_the_same_ids() {
    let judge: Judge = |before, _| if before < 2 { Err(Code::Unavailable) } else { Ok(()) };

    let reports = reported(&["acme", "acme"], judge, 3).await;

    assert_eq!(ids(&reports[0].0).len(), 2);
    assert_eq!(ids(&reports[0].0), ids(&reports[1].0));
    assert_eq!(ids(&reports[0].0), ids(&reports[2].0));
    let last = &reports.last().unwrap().0;
    assert!(last.r#final && last.dropped_count == 0, "{last:?}");
    // The answer to the third may have been under way when the loop ended.
    assert!(last.uses.is_empty() || ids(last) == ids(&reports[0].0), "{last:?}");
    assert!(reports.iter().rev().skip(1).all(|(report, _)| !report.r#final), "once");
}

#[tokio::test]
async fn a_gateway_that_ends_sends_what_was_under_way_and_then_the_last_report() {
    // The answer to the first report is lost with the loop; the vault takes what comes then.
    let reports = reported(&["acme"], |before, _| if before == 0 { Err(Code::Unavailable) } else { Ok(()) }, 1).await;

    assert_eq!(ids(&reports[0].0), ids(&reports[1].0));
    assert!(reports.last().unwrap().0.r#final);
}

#[tokio::test]
async fn a_use_that_is_refused_takes_no_other_with_it() {
    let judge: Judge = |_, report| {
        let is_bad = report.uses.iter().any(|call| call.organization_id == "bad");
        if is_bad { Err(Code::PermissionDenied) } else { Ok(()) }
    };

    let reports = reported(&["a", "b", "bad", "c"], judge, 6).await;

    let mut taken: Vec<_> = reports.iter().filter(|(_, taken)| *taken).flat_map(|(report, _)| &report.uses).collect();
    taken.sort_by_key(|call| &call.organization_id);
    // The vault counts once what is sent again because its answer was under way.
    taken.dedup_by_key(|call| &call.report_id);
    let organizations: Vec<_> = taken.iter().map(|call| call.organization_id.as_str()).collect();
    assert_eq!(organizations, ["a", "b", "c"], "each once");
    let last = &reports.last().unwrap().0;
    assert!(last.r#final && last.dropped_count == 1, "the vault is told: {last:?}");
}
