//! The table of providers: which there are, what they are called, and who speaks for each.

use std::fmt;

use clap::ValueEnum;

use super::Provider;

/// One line a provider, in the order of the contract. The name is the lower-case one in
/// metadata, logs and options, and that of the contract without `PROVIDER_`.
macro_rules! providers {
    ($($(#[$owner:meta])* $variant:ident, $name:literal, $module:ident::$type:ident;)+) => {
        /// A company whose models can be called.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
        pub enum Name {
            $($(#[$owner])* #[value(name = $name)] $variant,)+
        }

        impl Name {
            /// All of them, in the order of the contract.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The lower-case name in metadata, logs and options.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        /// The module of each provider.
        pub(crate) fn of(provider: Name) -> &'static dyn Provider {
            match provider {
                $(Name::$variant => &super::$module::$type,)+
            }
        }
    };
}

providers! {
    /// Anthropic.
    Anthropic, "anthropic", anthropic::Anthropic;
    /// OpenAI.
    OpenAi, "openai", openai::OpenAi;
    /// Google's Gemini API.
    Gemini, "gemini", gemini::Gemini;
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
