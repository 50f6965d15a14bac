//! Comments as Markdown.

use prost_reflect::DescriptorPool;

/// What each comment on a method ends with.
const KINDS: [(&str, &[&str]); 3] =
    [("Caller", &["Caller:"]), ("Idempotent", &["Idempotent", "Not idempotent"]), ("Errors", &["Errors:"])];

/// A comment on a method: what it says, and who may call it, whether it may be repeated, and
/// how it fails.
pub(crate) struct Notes {
    pub(crate) text: String,
    notes: Vec<(&'static str, String)>,
}

impl Notes {
    pub(crate) fn of(comment: &str) -> Self {
        let (mut text, mut notes) = (String::new(), Vec::<(&'static str, String)>::new());
        for line in comment.lines().map(str::trim) {
            let begins = KINDS.iter().find(|(_, words)| words.iter().any(|word| line.starts_with(word)));
            match (begins, notes.last_mut()) {
                (Some((kind, _)), _) => notes.push((kind, line.to_owned())),
                (None, Some((_, note))) => note.extend([" ", line]),
                (None, None) => text.extend([line, "\n"]),
            }
        }
        Self { text: text.trim().to_owned(), notes }
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&str> {
        self.notes.iter().find(|(of, _)| *of == kind).map(|(_, note)| note.as_str())
    }

    /// The roles that may call.
    pub(crate) fn caller(&self) -> &str {
        let said = self.get("Caller").unwrap_or_default().trim_start_matches("Caller:").trim();
        said.split('.').next().unwrap_or_default()
    }
}

/// A comment as paragraphs, with links to what it names.
pub(crate) fn paragraphs(comment: &str, links: &Links<'_>) -> String {
    let lines: Vec<_> = comment.trim().lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    links.linked(&lines.join("\n"))
}

/// A comment as a cell of a table.
pub(crate) fn cell(comment: &str, links: &Links<'_>) -> String {
    let words: Vec<_> = comment.split_whitespace().collect();
    links.linked(&words.join(" ")).replace('|', "\\|")
}

/// What the names in a package's comments lead to.
pub(crate) struct Links<'a> {
    pub(crate) pool: &'a DescriptorPool,
    pub(crate) package: &'a str,
}

impl Links<'_> {
    /// The address of a type of the contract, or of Google's.
    pub(crate) fn to(&self, full_name: &str) -> String {
        if let Some(known) = full_name.strip_prefix("google.protobuf.") {
            return format!("https://protobuf.dev/reference/protobuf/google.protobuf/#{}", kebab(known));
        }
        let package = self
            .pool
            .files()
            .map(|file| file.package_name().to_owned())
            .filter(|package| full_name.strip_prefix(package.as_str()).is_some_and(|rest| rest.starts_with('.')));
        match package.max_by_key(String::len) {
            Some(package) if package != self.package => format!("{package}.md#{full_name}"),
            _ => format!("#{full_name}"),
        }
    }

    /// A text whose names in backticks lead to the types that they are, or are of.
    fn linked(&self, text: &str) -> String {
        let mut linked = String::new();
        for (n, part) in text.split('`').enumerate() {
            match (n % 2, self.find(part)) {
                (0, _) => linked.push_str(part),
                (_, Some(name)) => linked.push_str(&format!("[`{part}`]({})", self.to(&name))),
                (_, None) => linked.push_str(&format!("`{part}`")),
            }
        }
        linked
    }

    /// The full name of the type that a word of a comment is, or whose field it is.
    fn find(&self, word: &str) -> Option<String> {
        if !word.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        let is_type = |name: &str| {
            self.pool.get_message_by_name(name).is_some()
                || self.pool.get_enum_by_name(name).is_some()
                || self.pool.get_service_by_name(name).is_some()
        };
        let services = self.pool.services().filter(|service| service.package_name() == self.package);
        let method = services.flat_map(|service| service.methods().collect::<Vec<_>>()).find(|of| of.name() == word);
        let whole = format!("{}.{word}", self.package);
        let parent = whole.rsplit_once('.').map(|(parent, _)| parent.to_owned()).filter(|_| word.contains('.'));
        let name = [Some(whole), parent].into_iter().flatten().find(|name| is_type(name));
        name.or_else(|| method.map(|method| method.full_name().to_owned()))
    }
}

/// `FieldMask` as the reference of Google's types has it in its addresses.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.extend(c.to_lowercase());
    }
    kebab
}
