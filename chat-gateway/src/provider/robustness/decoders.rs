//! The decoders that are held to the rules.

use super::NewDecoder;
use crate::{
    message::{Chat, Message, OpenAiApi, Part, Provider, UserPart},
    provider,
};

/// Each by a name, and by the chat that leads to it.
const DECODERS: [(&str, Provider, &str, Option<OpenAiApi>); 4] = [
    ("anthropic", Provider::Anthropic, "claude-sonnet-4-5", None),
    ("openai_chat", Provider::OpenAi, "gpt-4o", Some(OpenAiApi::ChatCompletions)),
    ("openai_responses", Provider::OpenAi, "gpt-4o", Some(OpenAiApi::Responses)),
    ("gemini", Provider::Gemini, "gemini-2.5-flash", None),
];

/// The decoder of this name.
pub(crate) fn decoder(name: &str) -> Option<NewDecoder> {
    let (_, provider, model, openai_api) = DECODERS.into_iter().find(|decoder| decoder.0 == name)?;
    let text = Part::from(UserPart::Text("Hi".to_owned()));
    let chat = Chat { messages: vec![Message::User(vec![text])], openai_api, ..Chat::default() };
    provider::outbound(provider, model, &chat).ok().map(|outbound| outbound.decoder)
}
