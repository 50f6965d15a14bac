//! The gRPC contract of both services, as generated code, and nothing that runs.
//!
//! The sources are the `.proto` files beside this crate's manifest; the code under
//! `src/gen` is generated from them, committed, and compared by `tests/generated.rs`.
//! `make generate` writes it anew.
//!
//! Odd: [`archestra::keyvault::v1::KeyMaterial`] has no derived `Debug`. prost does
//! not act on `debug_redact`, so the one written here keeps the key out of every
//! message that holds one.
//!
//! # Example
//!
//! ```
//! use proto::chat::{
//!     ContentPart, Message, StreamChatRequest, TextPart, chat_service_client::ChatServiceClient,
//!     content_part::Part, message::Role, stream_chat_response::Event,
//! };
//!
//! async fn say_hello() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut chat = ChatServiceClient::connect("http://127.0.0.1:50052").await?;
//!     let text = TextPart { text: "Say hello.".to_owned(), ..TextPart::default() };
//!     let text = ContentPart { part: Some(Part::Text(text)), ..ContentPart::default() };
//!     let request = StreamChatRequest {
//!         organization_id: "default".to_owned(),
//!         model: "claude-sonnet-4-5".to_owned(),
//!         messages: vec![Message { role: Role::User.into(), parts: vec![text] }],
//!         ..Default::default()
//!     };
//!     let mut events = chat.stream_chat(request).await?.into_inner();
//!     while let Some(response) = events.message().await? {
//!         if let Some(Event::TextDelta(delta)) = response.event {
//!             print!("{}", delta.text);
//!         }
//!     }
//!     Ok(())
//! }
//! ```

pub mod actor;

use std::fmt;

/// The tree of packages, as in the `.proto` files.
pub mod archestra {
    /// `archestra.types`
    pub mod types {
        /// `archestra.types.v1`
        pub mod v1 {
            include!("gen/archestra.types.v1.rs");
        }
    }
    /// `archestra.keyvault`
    pub mod keyvault {
        /// `archestra.keyvault.v1`
        pub mod v1 {
            include!("gen/archestra.keyvault.v1.rs");
        }
    }
    /// `archestra.chat`
    pub mod chat {
        /// `archestra.chat.v1`
        pub mod v1 {
            include!("gen/archestra.chat.v1.rs");
        }
    }
}

pub use archestra::{chat::v1 as chat, keyvault::v1 as keyvault, types::v1 as types};

/// All three packages and what they import, as a serialized `FileDescriptorSet`: what
/// server reflection answers with.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.binpb");

/// The domain of [`keyvault::ErrorReason`] in `google.rpc.ErrorInfo`.
pub const KEYVAULT_ERROR_DOMAIN: &str = "keyvault.archestra";

/// The domain of [`chat::ErrorReason`] in `google.rpc.ErrorInfo`.
pub const CHAT_ERROR_DOMAIN: &str = "chat.archestra";

/// The trailer of a truncated stream that holds a serialized [`chat::Usage`].
pub const USAGE_TRAILER: &str = "archestra-usage-bin";

impl keyvault::ErrorReason {
    /// The reason as `google.rpc.ErrorInfo.reason` carries it: without the prefix.
    pub fn wire_name(self) -> &'static str {
        without_prefix(self.as_str_name())
    }
}

impl chat::ErrorReason {
    /// The reason as `google.rpc.ErrorInfo.reason` carries it: without the prefix.
    pub fn wire_name(self) -> &'static str {
        without_prefix(self.as_str_name())
    }
}

fn without_prefix(name: &'static str) -> &'static str {
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

impl fmt::Debug for keyvault::KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}
