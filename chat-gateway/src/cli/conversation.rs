//! Chatting in the terminal: one answer, or a conversation with its history.
//!
//! Text is printed as it arrives. Ctrl-C drops the stream, which stops the answer at the
//! provider; in a conversation the prompt comes back, and what was cut off is not part of
//! the history.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use proto::chat::{
    AudioPart, ContentPart, DocumentPart, ImagePart, Message, Reasoning, StreamChatRequest, TextPart,
    chat_service_client::ChatServiceClient, content_part::Part, document_part, image_part, message::Role, reasoning,
    stream_chat_response::Event,
};
use rustyline::{DefaultEditor, error::ReadlineError};
use service_runtime::client::Wire;
use tokio::{signal, sync::mpsc, task};
use tonic::Status;

use super::{INTERRUPTED, connect, output};
use crate::config::{ChatOptions, Effort, Output};

/// Longer inputs come from files by mistake.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) async fn run(options: ChatOptions) -> anyhow::Result<ExitCode> {
    let client = connect(&options.client)?;
    let interactive = options.prompt.is_none() && io::stdin().is_terminal();
    let mut conversation = Conversation::new(client, &options)?;
    if interactive {
        return conversation.interactive().await;
    }
    let prompt = if let Some(prompt) = options.prompt {
        prompt
    } else {
        let mut text = String::new();
        io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut text).context("cannot read standard input")?;
        text.trim_end().to_owned()
    };
    match conversation.turn(prompt).await? {
        Turn::Finished => Ok(ExitCode::SUCCESS),
        Turn::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
    }
}

enum Turn {
    Finished,
    Interrupted,
}

/// The history so far, and where to send it.
struct Conversation {
    client: ChatServiceClient<Wire>,
    request: StreamChatRequest,
    files: Vec<Part>,
    output: Output,
}

impl Conversation {
    fn new(client: ChatServiceClient<Wire>, options: &ChatOptions) -> anyhow::Result<Self> {
        let files = options.files.iter().map(|path| file(path)).collect::<anyhow::Result<_>>()?;
        let request = StreamChatRequest {
            organization_id: options.organization.clone(),
            profile_id: options.profile.clone(),
            model: options.model.clone(),
            fallback_models: options.fallback_models.clone(),
            system: options.system.clone().unwrap_or_default(),
            max_output_tokens: options.max_output_tokens,
            temperature: options.temperature,
            reasoning: options.effort.map(reasoning),
            ..StreamChatRequest::default()
        };
        Ok(Self { client, request, files, output: options.client.output })
    }

    async fn interactive(&mut self) -> anyhow::Result<ExitCode> {
        output::note("Ctrl-C stops an answer, Ctrl-D leaves.");
        let mut lines = Lines::new()?;
        while let Some(line) = lines.next().await? {
            if line.trim().is_empty() {
                continue;
            }
            if let Err(error) = self.turn(line).await {
                // The conversation goes on: the next attempt may be lucky.
                let status = error.downcast::<Status>()?;
                output::complain(&output::describe(&status));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Says one thing and prints the answer. Both join the history if the answer is whole.
    async fn turn(&mut self, prompt: String) -> anyhow::Result<Turn> {
        let mut request = self.request.clone();
        let parts = self.files.iter().cloned().chain([text(prompt)]);
        request.messages.push(message(Role::User, parts));
        let answer = tokio::select! {
            answer = print_answer(&mut self.client, request.clone(), self.output) => answer?,
            interrupted = signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                // The stream was dropped with the other branch.
                output::print("\n");
                output::note("stopped");
                return Ok(Turn::Interrupted);
            }
        };
        if !answer.is_empty() {
            request.messages.push(message(Role::Assistant, [text(answer)]));
            self.request = request;
            self.files.clear();
        }
        Ok(Turn::Finished)
    }
}

/// Prints an answer as it arrives, and returns its text.
async fn print_answer(
    client: &mut ChatServiceClient<Wire>,
    request: StreamChatRequest,
    form: Output,
) -> anyhow::Result<String> {
    let mut events = client.stream_chat(request).await?.into_inner();
    let (mut answer, mut started) = (String::new(), None);
    while let Some(response) = events.message().await? {
        if form == Output::Json {
            output::json("StreamChatResponse", &response)?;
        }
        match response.event {
            Some(Event::TextDelta(delta)) if form == Output::Json => answer.push_str(&delta.text),
            Some(Event::Finished(_)) if form == Output::Json => return Ok(answer),
            _ if form == Output::Json => {}
            Some(Event::Started(event)) => started = Some(event),
            Some(Event::TextDelta(delta)) => {
                output::print(&delta.text);
                answer.push_str(&delta.text);
            }
            Some(Event::RefusalDelta(delta)) => output::print(&delta.text),
            Some(Event::ToolCallFinished(call)) => output::note(&format!("[calls {}({})]", call.name, call.arguments)),
            Some(Event::Finished(finished)) => {
                output::print("\n");
                output::note(&output::summary(started.as_ref(), &finished));
                return Ok(answer);
            }
            Some(Event::ReasoningDelta(delta)) => output::aside(&delta.text),
            Some(Event::Citation(citation)) => output::note(&output::source_of(&citation)),
            Some(Event::ProviderEvent(event)) if event.replayable => output::note(&format!("[{}]", event.r#type)),
            Some(Event::ToolCallStarted(_) | Event::ToolCallDelta(_) | Event::ProviderEvent(_) | Event::Usage(_))
            | None => {}
        }
    }
    bail!("the gateway ended the stream without a finish: the answer may be cut")
}

/// Lines from the terminal, read beside the runtime: a terminal blocks.
struct Lines {
    wanted: mpsc::Sender<()>,
    read: mpsc::Receiver<Result<String, ReadlineError>>,
}

impl Lines {
    fn new() -> anyhow::Result<Self> {
        let mut editor = DefaultEditor::new().context("the terminal cannot be used")?;
        let (wanted, mut asked) = mpsc::channel(1);
        let (lines, read) = mpsc::channel(1);
        // Ends with its `Lines`, or with the process while it waits for a key.
        task::spawn_blocking(move || {
            while asked.blocking_recv().is_some() {
                let line = editor.readline("> ");
                if let Ok(line) = &line {
                    // The history of lines is a comfort; a chat does not fail for it.
                    let _ = editor.add_history_entry(line);
                }
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { wanted, read })
    }

    /// The next line, or `None` when the user leaves.
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        self.wanted.send(()).await.context("the terminal is gone")?;
        match self.read.recv().await {
            Some(Ok(line)) => Ok(Some(line)),
            Some(Err(ReadlineError::Eof | ReadlineError::Interrupted)) | None => Ok(None),
            Some(Err(error)) => Err(error).context("cannot read from the terminal"),
        }
    }
}

fn message(role: Role, parts: impl IntoIterator<Item = Part>) -> Message {
    let parts = parts.into_iter().map(|part| ContentPart { part: Some(part), cache_control: None }).collect();
    Message { role: role.into(), parts }
}

fn text(text: String) -> Part {
    Part::Text(TextPart { text, signature: String::new() })
}

fn reasoning(effort: Effort) -> Reasoning {
    let effort = match effort {
        Effort::None => reasoning::Effort::None,
        Effort::Minimal => reasoning::Effort::Minimal,
        Effort::Low => reasoning::Effort::Low,
        Effort::Medium => reasoning::Effort::Medium,
        Effort::High => reasoning::Effort::High,
        Effort::Xhigh => reasoning::Effort::Xhigh,
        Effort::Max => reasoning::Effort::Max,
    };
    Reasoning { amount: Some(reasoning::Amount::Effort(effort.into())), ..Reasoning::default() }
}

/// Reads a file; its type follows from its first bytes.
fn file(path: &Path) -> anyhow::Result<Part> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let image = |media_type: &str, data: Vec<u8>| {
        let (source, media_type) = (Some(image_part::Source::Data(data.into())), media_type.to_owned());
        Part::Image(ImagePart { source, media_type, ..ImagePart::default() })
    };
    let audio = |media_type: &str, data: Vec<u8>| {
        Part::Audio(AudioPart { data: data.into(), media_type: media_type.to_owned() })
    };
    Ok(match data.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => image("image/png", data),
        [0xFF, 0xD8, 0xFF, ..] => image("image/jpeg", data),
        [b'G', b'I', b'F', b'8', ..] => image("image/gif", data),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => image("image/webp", data),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => audio("audio/wav", data),
        [b'I', b'D', b'3', ..] | [0xFF, 0xFB | 0xF3 | 0xF2, ..] => audio("audio/mpeg", data),
        [b'%', b'P', b'D', b'F', b'-', ..] => Part::Document(DocumentPart {
            source: Some(document_part::Source::Data(data.into())),
            media_type: "application/pdf".to_owned(),
            ..DocumentPart::default()
        }),
        _ => bail!("{} is not a PNG, JPEG, GIF, WebP, PDF, WAV or MP3 file", path.display()),
    })
}
