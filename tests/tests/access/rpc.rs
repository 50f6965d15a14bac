//! Any method of the contract, called by its name.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};
use system_tests::{answer::Failure, secured::Wire};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Much longer than a call takes that is refused or answered.
const CALL_MAX: Duration = Duration::from_secs(20);

/// A method, and what is said about who may call it.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    /// Its descriptor.
    pub(crate) descriptor: MethodDescriptor,
    /// The roles that the comment in the `.proto` file names.
    pub(crate) roles: Vec<String>,
}

impl Method {
    /// The name without its service.
    pub(crate) fn name(&self) -> &str {
        self.descriptor.name()
    }

    /// Whether its request is for a model: a list of models is for those that there are.
    pub(crate) fn is_for_a_model(&self) -> bool {
        self.descriptor.input().get_field_by_name("model").is_some()
    }

    /// Whether its request is for an organization.
    pub(crate) fn is_for_an_organization(&self) -> bool {
        request(&self.descriptor, "x") != request(&self.descriptor, "y")
    }
}

/// All methods of a package, with the roles that the sources of the contract name.
pub(crate) fn methods(package: &str) -> Vec<Method> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = pool.services().filter(|service| service.package_name() == package);
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|descriptor| Method { roles: documented_roles(&descriptor), descriptor }).collect()
}

/// The words behind `Caller:` in the comment of a method.
fn documented_roles(method: &MethodDescriptor) -> Vec<String> {
    let path = format!("{}/../proto/{}", env!("CARGO_MANIFEST_DIR"), method.parent_file().name());
    let source = std::fs::read_to_string(path).expect("the source of the contract");
    let before = source.split(&format!("rpc {}(", method.name())).next().expect("the method is in its source");
    let line =
        before.lines().rev().find_map(|line| line.trim().strip_prefix("// Caller: ")).expect("a caller is named");
    let roles = line.split('.').next().unwrap_or_default();
    roles.split(", ").map(str::to_owned).collect()
}

/// The profile and the model that a request is for, if it is for any.
pub(crate) const PROFILE: &str = "team-a";
pub(crate) const MODEL: &str = "claude-sonnet-4-5";

/// A request for an organization, a profile and a model: nothing else of it is valid.
pub(crate) fn request(method: &MethodDescriptor, organization: &str) -> Vec<u8> {
    let mut message = DynamicMessage::new(method.input());
    let text = |text: &str| Value::String(text.to_owned());
    if message.descriptor().get_field_by_name("organization_id").is_some() && method.name() != "ListAuditEvents" {
        message.set_field_by_name("organization_id", text(organization));
    }
    if method.parent_service().name() == "ChatService" {
        for (name, value) in [("profile_id", PROFILE), ("model", MODEL)] {
            if message.descriptor().get_field_by_name(name).is_some() {
                message.set_field_by_name(name, text(value));
            }
        }
    }
    // Where the organization stands deeper.
    for (name, is_list) in [("api_key", false), ("uses", true)] {
        let Some(field) = message.descriptor().get_field_by_name(name) else { continue };
        let mut inner = DynamicMessage::new(field.kind().as_message().expect("a message").clone());
        inner.set_field_by_name("organization_id", text(organization));
        let inner = Value::Message(inner);
        message.set_field(&field, if is_list { Value::List(vec![inner]) } else { inner });
    }
    message.encode_to_vec()
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The caller may do this; what was asked was answered or refused for what it is.
    Admitted,
    /// The call got a status that says that the caller is not known, or may not.
    Refused(Failure),
    /// There was no connection, for this reason.
    NoConnection {
        #[expect(dead_code, reason = "failed assertions show it")]
        why: String,
    },
}

impl Outcome {
    /// In a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused(failure) if failure.code == Code::Unauthenticated => "unauthenticated",
            Self::Refused(_) => "denied",
            Self::NoConnection { .. } => "no connection",
        }
    }
}

/// Calls a method with a serialized request.
pub(crate) async fn call(wire: &Wire, method: &MethodDescriptor, message: Vec<u8>) -> Outcome {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut client = Grpc::new(wire.clone());
    let outcome = async {
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = path.parse().expect("a path");
        let mut request = Request::new(message);
        request.set_timeout(CALL_MAX);
        // A unary method is a stream of one answer.
        let mut answers = client.server_streaming(request, path, Bytes).await?.into_inner();
        answers.message().await.map(|_| ())
    }
    .await;
    match outcome.map_err(Failure::from) {
        Ok(()) => Outcome::Admitted,
        Err(failure) if failure.reason.is_empty() => Outcome::NoConnection { why: failure.message },
        Err(failure) if matches!(failure.code, Code::Unauthenticated | Code::PermissionDenied) => {
            Outcome::Refused(failure)
        }
        Err(_) => Outcome::Admitted,
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
