//! Many chats of which everything is planned: who asks which model, what the provider says,
//! and where the caller leaves.

use proto::types::Provider;
use system_tests::fake_provider::{Answer as Said, End, Received};

/// How many profiles chat.
pub(crate) const PROFILES: usize = 8;

/// One chat. The number decides all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan(pub(crate) usize);

/// Where a caller leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    BeforeTheHeaders,
    InTheMiddle,
}

/// Tokens that the provider says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: i64,
    pub(crate) output: i64,
}

impl Plan {
    /// The plan of a request that a provider received.
    pub(crate) fn of(received: &Received) -> Self {
        let body = String::from_utf8_lossy(&received.body);
        let number = body.split("chat ").nth(1).expect("a planned chat");
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        Self(digits.parse().expect("its number"))
    }

    pub(crate) fn text(self) -> String {
        format!("chat {}", self.0)
    }

    pub(crate) fn provider(self) -> Provider {
        [Provider::Anthropic, Provider::Openai, Provider::Gemini][self.0 % 3]
    }

    pub(crate) fn model(self) -> &'static str {
        let models = match self.provider() {
            Provider::Anthropic => ["claude-sonnet-4-5", "claude-opus-4-1"],
            Provider::Openai => ["gpt-4o", "gpt-4o-mini"],
            _ => ["gemini-2.5-pro", "gemini-2.5-flash"],
        };
        models[self.0 / 3 % 2]
    }

    pub(crate) fn profile(self) -> String {
        format!("p{}", self.0 % PROFILES)
    }

    /// One of five is cut.
    pub(crate) fn cut(self) -> Option<Cut> {
        match self.0 % 10 {
            0 => Some(Cut::BeforeTheHeaders),
            5 => Some(Cut::InTheMiddle),
            _ => None,
        }
    }

    /// Whether it is asked for as a whole.
    pub(crate) fn is_whole(self) -> bool {
        self.0 % 4 == 1 && self.cut().is_none()
    }

    /// What the provider says last: at the end, or before the cut.
    pub(crate) fn tokens(self) -> Tokens {
        let number = i64::try_from(self.0).expect("a small number");
        let whole = Tokens { input: 100 + number, output: 10 + number % 50 };
        match (self.cut(), self.provider()) {
            (None, _) => whole,
            (Some(Cut::BeforeTheHeaders), _) => Tokens::default(),
            // OpenAI says it in the end only.
            (Some(Cut::InTheMiddle), Provider::Openai) => Tokens::default(),
            (Some(Cut::InTheMiddle), _) => Tokens { output: 1, ..whole },
        }
    }

    /// What the provider answers.
    pub(crate) fn answer(self) -> Said {
        let Tokens { input, output } = self.tokens();
        let (begin, end) = match self.provider() {
            Provider::Anthropic => anthropic(input, output),
            Provider::Openai => openai(input, output),
            _ => gemini(input, output),
        };
        match self.cut() {
            None => Said::stream(format!("{begin}{end}")),
            Some(Cut::BeforeTheHeaders) => Said::stream("").ending(End::SilenceBeforeHeaders),
            Some(Cut::InTheMiddle) => Said::stream(begin).ending(End::Silence),
        }
    }
}

fn data(events: &[String]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn anthropic(input: i64, output: i64) -> (String, String) {
    let begin = data(&[
        format!(
            r#"{{"type":"message_start","message":{{"id":"m","model":"claude","usage":{{"input_tokens":{input},"output_tokens":1}}}}}}"#
        ),
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#.to_owned(),
    ]);
    let end = data(&[
        r#"{"type":"content_block_stop","index":0}"#.to_owned(),
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
        ),
        r#"{"type":"message_stop"}"#.to_owned(),
    ]);
    (begin, end)
}

fn openai(input: i64, output: i64) -> (String, String) {
    let chunk = |delta: &str, reason: &str| {
        format!(
            r#"{{"id":"c","model":"gpt","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}],"usage":null}}"#
        )
    };
    let begin = data(&[chunk(r#"{"role":"assistant","content":"Hello"}"#, "null")]);
    let total = input + output;
    let end = data(&[
        chunk("{}", r#""stop""#),
        format!(
            r#"{{"id":"c","model":"gpt","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}}}"#
        ),
        "[DONE]".to_owned(),
    ]);
    (begin, end)
}

fn gemini(input: i64, output: i64) -> (String, String) {
    let chunk = |text: &str, reason: &str, output: i64| {
        let total = input + output;
        format!(
            r#"{{"candidates":[{{"index":0,"content":{{"role":"model","parts":[{{"text":"{text}"}}]}}{reason}}}],"modelVersion":"gemini","usageMetadata":{{"promptTokenCount":{input},"candidatesTokenCount":{output},"totalTokenCount":{total}}}}}"#
        )
    };
    let begin = data(&[chunk("Hello", "", 1)]);
    let end = data(&[chunk("!", r#","finishReason":"STOP""#, output)]);
    (begin, end)
}
