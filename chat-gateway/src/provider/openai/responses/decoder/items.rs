//! What has been heard of the items that are open, so that nothing is said twice.

use crate::provider::Broken;

/// Items that are open at once. OpenAI has one, or a few calls.
const OPEN_ITEMS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Items {
    open: Vec<Item>,
    thoughts: u32,
}

#[derive(Debug)]
pub(super) struct Item {
    index: u64,
    /// One more than the last part of which anything was heard; they come one after the other.
    content_heard: u64,
    summary_heard: u64,
    /// Its citations that were relayed.
    cited: usize,
    /// Those of them that belong to parts which have ended.
    cited_before: usize,
    /// The number of its block, once it has one.
    thought: Option<u32>,
    /// What it says of itself has been told.
    told: bool,
}

/// A part of an item. What an item says and the summary of it are counted apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Content(u64),
    Summary(u64),
}

impl Items {
    /// The item with this index, which is open from here on.
    pub(super) fn at(&mut self, index: u64) -> Result<&mut Item, Broken> {
        let at = match self.open.iter().rposition(|item| item.index == index) {
            Some(at) => at,
            None if self.open.len() >= OPEN_ITEMS_MAX => {
                return Err(Broken::Malformed("too many items are open at once"));
            }
            None => {
                self.open.push(Item::new(index));
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[at])
    }

    pub(super) fn remove(&mut self, index: u64) {
        self.open.retain(|item| item.index != index);
    }

    /// The number of the block of reasoning that an item is, and whether it has just got it.
    pub(super) fn thought(&mut self, index: u64) -> Result<(u32, bool), Broken> {
        let next = self.thoughts;
        let item = self.at(index)?;
        if let Some(number) = item.thought {
            return Ok((number, false));
        }
        item.thought = Some(next);
        self.thoughts += 1;
        Ok((next, true))
    }
}

impl Item {
    fn new(index: u64) -> Self {
        Self { index, content_heard: 0, summary_heard: 0, cited: 0, cited_before: 0, thought: None, told: false }
    }

    /// Says whether it must be told what the item says of itself: once.
    pub(super) fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// Something of a part is heard. Says whether it is the first of it.
    pub(super) fn hear(&mut self, place: Place) -> bool {
        let (heard, part) = match place {
            Place::Content(part) => (&mut self.content_heard, part),
            Place::Summary(part) => (&mut self.summary_heard, part),
        };
        let is_first = part >= *heard;
        if is_first {
            *heard = part.saturating_add(1);
        }
        is_first
    }

    /// Whether nothing of a part of what it says was heard.
    pub(super) fn is_unheard(&self, part: u64) -> bool {
        part >= self.content_heard
    }

    /// Whether any of the block of reasoning that it is was relayed.
    pub(super) fn has_thought(&self) -> bool {
        self.thought.is_some()
    }

    pub(super) fn cite(&mut self) {
        self.cited += 1;
    }

    /// How many of its citations were relayed.
    pub(super) fn cited(&self) -> usize {
        self.cited
    }

    /// How many citations of the part that is open were relayed; parts come one after the other.
    pub(super) fn cited_of_part(&self) -> usize {
        self.cited - self.cited_before
    }

    /// What is cited from here on belongs to another part.
    pub(super) fn end_part(&mut self) {
        self.cited_before = self.cited;
    }
}
