//! How a provider's models are named: rules that `detect` reads, and each provider's module
//! has for itself.

/// What is known of the names of a provider's models. All of it is in lower case.
#[derive(Debug, Default)]
pub(crate) struct ModelNames {
    /// What may stand before the first slash of a name, beside the provider's own name.
    pub(crate) prefixes: &'static [&'static str],
    /// Rules for names without a prefix. No name may match rules of two providers.
    pub(crate) rules: &'static [(&'static str, Shape)],
    /// Models of others, called as by one of `rules`, whose weights are open. The provider
    /// serves none of them.
    pub(crate) open_weights: &'static [&'static str],
    /// Words which mean that a model does something else than chat. A name is read as
    /// `-name-`, so that a word is met whole.
    pub(crate) not_chat: &'static [&'static str],
    /// Models that catalogues list as chatting although their names say otherwise. They are
    /// previews, most of them withdrawn: whether they chat is for the provider to answer.
    pub(crate) chat_nevertheless: &'static [&'static str],
}

/// How a rule reads a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// The whole name.
    Exact,
    /// The name starts with this word: a hyphen or nothing follows.
    Word,
    /// The name starts with this and goes on.
    Start,
    /// This, a number without a leading zero, then a hyphen or nothing.
    Numbered,
}
