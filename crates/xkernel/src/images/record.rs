//! A plan as it is stored: what a container needs without reading the file again.

use abi::broker::{Image, MAX_REPLY, Moved, Text};
use abom::{Kind, Limits, MovedKind, PatchedImage, Plan};
use blake3::Hash;
use serde::{Deserialize, Serialize};

/// Room in a reply beside the image's layout.
const ENVELOPE: usize = 256;

/// What is known about one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Digest of the file.
    digest: Hash,
    /// `None` where there is nothing to patch.
    work: Option<Work>,
}

/// How a file is patched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    plan: Plan,
    /// File ranges (offset, length) of the text.
    text: Vec<(u64, u64)>,
    /// Length of the patched file.
    len: u64,
}

/// The stored form, behind its own digest.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    digest: [u8; 32],
    /// A plan in abom's form, empty for none. Borrowed: a vector would be read byte by byte.
    plan: &'a [u8],
    text: Vec<(u64, u64)>,
    len: u64,
}

impl Record {
    /// Plans a file. What has no plan, or none that fits a reply, gets a record that says so.
    pub(super) fn plan(digest: Hash, bytes: &[u8]) -> Self {
        Self { digest, work: work(bytes) }
    }

    /// How to map the patched file; `None` where there is nothing to patch.
    pub(super) fn layout(&self) -> Option<Image> {
        layout(self.work.as_ref()?)
    }

    /// Length of the patched file.
    pub(super) fn len(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.len)
    }

    /// Whether the plan keeps this file's meaning: decodes what the patched code would execute.
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        self.work.as_ref().is_none_or(|work| abom::verify(bytes, &work.plan).is_ok())
    }

    /// The patched file.
    pub(super) fn apply(&self, bytes: &[u8]) -> Option<PatchedImage<'_>> {
        self.work.as_ref()?.plan.apply(bytes).ok()
    }

    /// The record as bytes and their digest, which names the patched image: file and plan together.
    pub(super) fn to_bytes(&self) -> Option<(Hash, Vec<u8>)> {
        let digest = *self.digest.as_bytes();
        let plan = self.work.as_ref().map_or_else(Vec::new, |work| work.plan.to_bytes());
        let (text, len) = self.work.as_ref().map_or((Vec::new(), 0), |work| (work.text.clone(), work.len));
        let stored = Stored { digest, plan: &plan, text, len };
        let contents = abi::encode(&stored).ok()?;
        let name = blake3::hash(&contents);
        Some((name, [name.as_bytes().as_slice(), &contents].concat()))
    }

    /// Reads what [`Record::to_bytes`] wrote for this file; `None` for anything damaged or of another
    /// version.
    pub(super) fn from_bytes(digest: &Hash, bytes: &[u8]) -> Option<(Hash, Self)> {
        let (name, contents) = bytes.split_at_checked(blake3::OUT_LEN)?;
        let name = Hash::from_slice(name).ok().filter(|name| *name == blake3::hash(contents))?;
        let stored: Stored<'_> = abi::decode(contents).ok()?;
        if stored.digest != *digest.as_bytes() {
            return None;
        }
        let work = if stored.plan.is_empty() {
            None
        } else {
            Some(Work { plan: Plan::from_bytes(stored.plan).ok()?, text: stored.text, len: stored.len })
        };
        Some((name, Self { digest: *digest, work }))
    }
}

fn work(bytes: &[u8]) -> Option<Work> {
    let limits = Limits { max_file_len: super::FILE_LIMIT, ..Limits::default() };
    let plan = abom::plan(bytes, &limits).ok().filter(|plan| !plan.patches.is_empty())?;
    let image = plan.apply(bytes).ok()?;
    let text = image.text.iter().map(|range| (range.start, range.end - range.start)).collect();
    let len = image.len;
    let work = Work { plan, text, len };
    let reply = abi::encode(&layout(&work)?).ok()?;
    (reply.len() <= MAX_REPLY - ENVELOPE).then_some(work)
}

fn layout(work: &Work) -> Option<Image> {
    let plan = &work.plan;
    let moved = plan.moved.iter().map(|moved| Moved {
        start: moved.stub_start,
        end: moved.stub_end,
        original: moved.original,
        resumes: matches!(moved.kind, MovedKind::Copy | MovedKind::Enter),
    });
    // Holes lie in the text, below all stubs.
    let hops = plan.hops().map(|(hole, original)| Moved { start: hole.start, end: hole.end, original, resumes: false });
    let mut hops: Vec<_> = hops.collect();
    hops.sort_unstable_by_key(|hop| hop.start);
    let sites = plan.sites.iter().filter(|site| site.kind == Kind::Syscall && site.tier < 4);
    Some(Image {
        span: plan.span.end.checked_sub(plan.span.start)?,
        base_vaddr: plan.span.start,
        slot_vaddr: plan.slot_vaddr,
        stub_vaddr: plan.stub_vaddr,
        stub_offset: plan.stub_file_offset,
        stub_len: u64::try_from(plan.stubs.len()).ok()?,
        text: work.text.iter().filter_map(|&range| patched_text(plan, range)).collect(),
        moved: hops.into_iter().chain(moved).collect(),
        sites: sites.map(|site| (site.vaddr, site.tier)).collect(),
    })
}

/// A range of text with its address, if anything in it is patched.
fn patched_text(plan: &Plan, (offset, len): (u64, u64)) -> Option<Text> {
    let end = offset.checked_add(len)?;
    let patch = plan.patches.iter().find(|patch| (offset..end).contains(&patch.offset))?;
    Some(Text { offset, len, vaddr: patch.vaddr.checked_sub(patch.offset - offset)? })
}
