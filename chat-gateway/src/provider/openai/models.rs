//! What is known of a model by its name.

/// The model that a fine-tuned one is made from, in lower case.
pub(super) fn base(model: &str) -> String {
    let lower = model.to_ascii_lowercase();
    match lower.strip_prefix("ft:") {
        Some(tuned) => tuned.split(':').next().unwrap_or(tuned).to_owned(),
        None => lower,
    }
}

/// Whether the model thinks before it answers: the o-series, and GPT from 5 on except
/// `gpt-5-chat`. Such a model is instructed by the developer and refuses to be sampled.
pub(super) fn is_reasoning(model: &str) -> bool {
    let base = base(model);
    if let Some(rest) = base.strip_prefix('o') {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        return after.len() < rest.len() && (after.is_empty() || after.starts_with('-'));
    }
    let Some(rest) = base.strip_prefix("gpt-") else { return false };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    // Azure writes 3.5 as 35.
    let recent = rest[..digits].parse::<u32>().is_ok_and(|major| major >= 5 && major != 35);
    recent && !rest.starts_with("5-chat")
}

/// The first of the o-series know no instructions.
pub(super) fn takes_no_system(model: &str) -> bool {
    let base = base(model);
    ["o1-mini", "o1-preview"].iter().any(|first| base == *first || base.starts_with(&format!("{first}-")))
}
