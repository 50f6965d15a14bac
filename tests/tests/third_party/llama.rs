//! llama.cpp's server: a real inference server that speaks Chat Completions and Messages.

use std::path::Path;

use proto::chat::FinishReason;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Desk, Server, text};
use system_tests::answer::ask;

async fn start() -> Option<(Server, TempDir)> {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/third_party/tiny_model.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(folder.path().join("tiny.gguf"));
    Some((Server::start("llama.cpp (PyPI xllamacpp and gguf)", &mut command).await?, folder))
}

#[tokio::test]
async fn a_real_inference_server_streams_through_both_of_its_apis() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    for model in ["openai/tiny.gguf", "anthropic/tiny.gguf"] {
        let mut request = ask(model, None, "Héllo 🦀");
        request.max_output_tokens = Some(64);
        request.temperature = Some(0.0);
        request.system = "Be brief.".to_owned();
        let (streamed, whole) = desk.answers(request).await;
        // Without chance, both calls come to the same.
        assert_eq!(streamed.text, text(&whole), "{model}");
        let finished = streamed.finished.expect("finished");
        assert!(matches!(finished.finish_reason(), FinishReason::Length | FinishReason::Stop), "{model} {finished:?}");
        let usage = finished.usage.expect("counts");
        assert!(usage.input_tokens > Some(8) && usage.output_tokens > Some(0), "{model} {usage:?}");
    }
}
