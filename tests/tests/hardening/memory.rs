//! Searches the memory of a running process, as root can.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use memchr::memmem;

/// How much is read at once. Neighbours overlap by [`CONTEXT`], so that nothing is cut in two.
const CHUNK: usize = 4 * 1024 * 1024;

/// How much around a hit is shown.
const CONTEXT: usize = 96;

/// A place where a text was found.
#[derive(Debug)]
pub(crate) struct Hit {
    /// `[heap]`, `[stack]`, or the addresses of a mapping without a name.
    #[expect(dead_code, reason = "printed")]
    pub(crate) region: String,
    /// What stands around it, with `.` for what is not text.
    pub(crate) around: String,
}

/// What was found, and how much was read.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) bytes: usize,
    pub(crate) hits: Vec<Hit>,
}

/// Looks for `text` in all memory that a process can write and shares with no other: heaps,
/// stacks, and the variables of its libraries.
pub(crate) fn search(process: u32, text: &str) -> io::Result<Search> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let finder = memmem::Finder::new(text);
    let mut found = Search::default();
    for line in fs::read_to_string(format!("/proc/{process}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(permissions)) = (words.next(), words.next()) else { continue };
        if !permissions.starts_with("rw") || !permissions.ends_with('p') {
            continue;
        }
        let region = words.nth(3).unwrap_or(range).to_owned();
        let (start, end) = range.split_once('-').expect("a range");
        let address = |text| usize::from_str_radix(text, 16).expect("an address");
        search_range(&memory, address(start)..address(end), &region, &finder, &mut found);
    }
    Ok(found)
}

fn search_range(
    memory: &File,
    range: std::ops::Range<usize>,
    region: &str,
    finder: &memmem::Finder<'_>,
    found: &mut Search,
) {
    let mut buffer = vec![0; CHUNK + CONTEXT];
    let mut at = range.start;
    while at < range.end {
        let length = buffer.len().min(range.end - at);
        // The process goes on: a mapping may be gone by now, and then so is what it held.
        let Ok(length) = memory.read_at(&mut buffer[..length], at as u64) else { return };
        if length == 0 {
            return;
        }
        for hit in finder.find_iter(&buffer[..length]).filter(|hit| *hit < CHUNK) {
            let context = &buffer[hit.saturating_sub(CONTEXT)..(hit + CONTEXT).min(length)];
            let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
            found.hits.push(Hit { region: region.to_owned(), around: context.iter().map(printable).collect() });
        }
        found.bytes += length.min(CHUNK);
        at += CHUNK;
    }
}
