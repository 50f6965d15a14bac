//! The names of attributes and instruments. They are literals here, and nowhere else: the
//! crates that define them lag behind the conventions.
//!
//! Sources: OpenTelemetry semantic conventions 1.44 for RPC and HTTP (release candidate and
//! stable), 1.41.1 for `GenAI` (development). What begins with `keyvault.`, `chatgateway.`,
//! `archestra.`, `organization.` or `service.ready` is ours.

use std::time::Duration;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*
    };
}

/// Attributes of spans, instruments and log lines.
pub mod attribute {
    names! {
        /// Always `grpc` here.
        RPC_SYSTEM_NAME = "rpc.system.name";
        /// `package.Service/Method`, or [`OTHER`](super::OTHER).
        RPC_METHOD = "rpc.method";
        /// What was asked for that is not served. Its beginning.
        RPC_METHOD_ORIGINAL = "rpc.method_original";
        /// The gRPC code: `OK`, `CANCELLED`, `UNAVAILABLE`.
        RPC_STATUS_CODE = "rpc.status_code";
        /// What went wrong: a reason of the contract, or a class. Absent on success.
        ERROR_TYPE = "error.type";
        /// The host that a call goes to.
        SERVER_ADDRESS = "server.address";
        /// Its port.
        SERVER_PORT = "server.port";
        /// Where a call comes from.
        NETWORK_PEER_ADDRESS = "network.peer.address";
        /// Its port.
        NETWORK_PEER_PORT = "network.peer.port";
        /// `POST`.
        HTTP_REQUEST_METHOD = "http.request.method";
        /// How often the same was sent before. Absent the first time.
        HTTP_REQUEST_RESEND_COUNT = "http.request.resend_count";
        /// The status of the answer, if one came.
        HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";

        /// `chat` or `generate_content`.
        GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
        /// `anthropic`, `openai` or `gcp.gemini`.
        GEN_AI_PROVIDER_NAME = "gen_ai.provider.name";
        /// As the provider is asked for it.
        GEN_AI_REQUEST_MODEL = "gen_ai.request.model";
        /// True for a stream. Absent otherwise.
        GEN_AI_REQUEST_STREAM = "gen_ai.request.stream";
        /// The most tokens of an answer.
        GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens";
        /// Sampling temperature.
        GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature";
        /// Nucleus sampling.
        GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p";
        /// Sampling of the likeliest.
        GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k";
        /// Seed of sampling.
        GEN_AI_REQUEST_SEED = "gen_ai.request.seed";
        /// Penalty of what is frequent.
        GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty";
        /// Penalty of what is there.
        GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty";
        /// `json` if the answer is to be JSON. Absent for text.
        GEN_AI_OUTPUT_TYPE = "gen_ai.output.type";
        /// The provider's id of the answer.
        GEN_AI_RESPONSE_ID = "gen_ai.response.id";
        /// The model that answers, as the provider says.
        GEN_AI_RESPONSE_MODEL = "gen_ai.response.model";
        /// Why the answer ended: one word in a list.
        GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons";
        /// Seconds from the request to the first output.
        GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";
        /// Tokens of the request, those from a cache included.
        GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens";
        /// Tokens of the answer, reasoning included.
        GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
        /// Those of the request that a cache had.
        GEN_AI_USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens";
        /// Those of the request that a cache keeps from now on.
        GEN_AI_USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens";
        /// Those of the answer that are reasoning.
        GEN_AI_USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens";
        /// `input` or `output`.
        GEN_AI_TOKEN_TYPE = "gen_ai.token.type";
        /// `chat_completions` or `responses`.
        OPENAI_API_TYPE = "openai.api.type";

        /// Whose organization.
        ORGANIZATION_ID = "organization.id";
        /// Who acts on an error: `caller`, `administrator`, `operator` or `provider`.
        FAULT = "archestra.fault";
        /// The id of a key. Never the key.
        KEY_ID = "keyvault.key.id";
        /// Its version.
        KEY_VERSION = "keyvault.key.version";
        /// `profile`, `organization_default` or `environment`.
        RESOLUTION_SOURCE = "keyvault.resolution.source";
        /// `ok` or a reason.
        RESULT = "keyvault.result";
        /// `hit`, `miss` or `stale`.
        CACHE = "keyvault.cache";
        /// `seal` or `open`.
        SEAL_OPERATION = "keyvault.seal.operation";
        /// `key` or `key_encryption_key`.
        ROTATION = "keyvault.rotation";
        /// Which secrets manager.
        SECRETS_MANAGER_KIND = "keyvault.secrets_manager.kind";
        /// Whose chat.
        PROFILE_ID = "chatgateway.profile.id";
        /// The rule by which the provider was found.
        DETECT_RULE = "chatgateway.detect.rule";
        /// Requests sent to providers.
        ATTEMPT_COUNT = "chatgateway.attempt.count";
        /// `answered`, or the class of what went wrong.
        ATTEMPT_RESULT = "chatgateway.attempt.result";
        /// `complete`, `cancelled`, `truncated` or `failed`.
        FINISH = "chatgateway.finish";
        /// The specific reason of a stream that was cut.
        CAUSE = "chatgateway.cause";
        /// When a caller left: `before_headers`, `before_first_output` or `streaming`.
        WINDOW = "chatgateway.window";
        /// A part of a service that must be well.
        SERVICE_COMPONENT = "service.component";
    }
}

/// What stands for a value that is not one of a known few.
pub const OTHER: &str = "_OTHER";

/// A duration in seconds, as the conventions count.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Bounds of histograms, in the unit of their instruments.
pub mod buckets {
    /// `rpc.*.call.duration`, seconds.
    pub const RPC: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    /// `gen_ai.client.operation.*`, seconds.
    pub const GEN_AI: &[f64] =
        &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
    /// `gen_ai.client.token.usage`, tokens.
    pub const TOKENS: &[f64] = &[
        1.0,
        4.0,
        16.0,
        64.0,
        256.0,
        1_024.0,
        4_096.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        67_108_864.0,
    ];
    /// What takes microseconds when all is well, seconds.
    pub const FAST: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
    /// Things that are counted in batches.
    pub const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
}
