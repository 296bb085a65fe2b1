//! Access control lists: acl(5), xattr(7). A file's own, and the one that a directory gives to what is made in it.

use super::access;
use super::inode::{Change, Inode, Kind, Stat};
use crate::process::creds::Creds;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Permission bits of owner, group and others.
const BITS: u32 = 0o777;
const SET_GID: u32 = 0o2000;

/// Which list of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What those files get that are made in the directory.
    Default,
}

impl AclKind {
    /// Both.
    pub const ALL: [AclKind; 2] = [AclKind::Access, AclKind::Default];

    /// The attribute's name.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }

    /// The list that an attribute is.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<AclKind> {
        AclKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

impl Entry {
    fn parse(bytes: &[u8; 8]) -> Entry {
        let [a, b, c, d, e, f, g, h] = *bytes;
        let (tag, permissions) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        Entry { tag, permissions, id: u32::from_le_bytes([e, f, g, h]) }
    }

    fn to_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.tag.to_le_bytes(), self.permissions.to_le_bytes());
        let [e, f, g, h] = self.id.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    fn allows(self, want: u32) -> bool {
        u32::from(self.permissions) & want == want
    }
}

/// A list in its order: the owner, users, the group, groups, the mask, others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Out of an attribute's value; None for a list without entries.
    ///
    /// # Errors
    /// EINVAL, EOPNOTSUPP for another version, ENOMEM.
    pub fn parse(bytes: &[u8]) -> Result<Option<Acl>> {
        let (version, entries) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, rest) = entries.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let entries: Vec<Entry> = entries.iter().map(Entry::parse).collect();
        if entries.iter().any(|entry| !matches!(entry.tag, USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER)) {
            return Err(Errno::EINVAL);
        }
        Ok((!entries.is_empty()).then_some(Acl { entries }))
    }

    /// As an attribute's value.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.entries.iter().flat_map(|entry| entry.to_bytes());
        VERSION.to_le_bytes().into_iter().chain(entries).collect()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.entries.len() as u64 * 8 + 128
    }

    /// Whether its entries are those that a list needs, in their order.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let mut last = 0;
        let is_ordered = self.entries.iter().all(|entry| {
            let is_single = !matches!(entry.tag, USER | GROUP);
            let fits = entry.permissions <= 7 && if is_single { entry.tag > last } else { entry.tag >= last };
            last = entry.tag;
            fits && (is_single || entry.id != u32::MAX)
        });
        let has = |tag: u16| self.find(tag).is_some();
        is_ordered && has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER) && (self.is_minimal() || has(MASK))
    }

    /// Whether the mode says all of it.
    #[must_use]
    pub fn is_minimal(&self) -> bool {
        self.entries.len() == 3 && !self.entries.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK))
    }

    fn find(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.tag == tag).copied()
    }

    /// The permission bits that stand for it: those of the group are the mask's.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let bits = |entry: Option<Entry>| entry.map_or(0, |entry| u32::from(entry.permissions));
        let group = self.find(MASK).or_else(|| self.find(GROUP_OBJ));
        bits(self.find(USER_OBJ)) << 6 | bits(group) << 3 | bits(self.find(OTHER))
    }

    /// The mode was changed.
    pub fn set_mode(&mut self, mode: u32) {
        let group_class = if self.find(MASK).is_some() { MASK } else { GROUP_OBJ };
        for entry in &mut self.entries {
            let shift = match entry.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == group_class => 3,
                _ => continue,
            };
            entry.permissions = u16::try_from(mode >> shift & 7).unwrap_or(0);
        }
    }

    /// What a file gets that is made with a mode in a directory with this list, and its mode then.
    #[must_use]
    pub fn for_new(&self, mode: u32) -> (Acl, u32) {
        let mode = mode & (self.mode() | !BITS);
        let mut own = self.clone();
        own.set_mode(mode);
        (own, mode)
    }

    /// Whether it allows all that is wanted to who is not the owner.
    #[must_use]
    pub fn allows(&self, stat: &Stat, creds: &Creds, want: u32) -> bool {
        let mask = self.find(MASK).is_none_or(|mask| mask.allows(want));
        if let Some(user) = self.entries.iter().find(|entry| entry.tag == USER && entry.id == creds.fsuid) {
            return user.allows(want) && mask;
        }
        let of_group = |entry: &&Entry| match entry.tag {
            GROUP_OBJ => creds.is_in_group(stat.gid),
            GROUP => creds.is_in_group(entry.id),
            _ => false,
        };
        let mut groups = self.entries.iter().filter(of_group).peekable();
        if groups.peek().is_none() {
            return self.find(OTHER).is_some_and(|other| other.allows(want));
        }
        groups.any(|group| group.allows(want)) && mask
    }
}

/// Sets or takes away a file's list: setxattr(2), removexattr(2). The mode follows the list.
///
/// # Errors
/// EOPNOTSUPP for a file system without lists, EACCES for a default of what is no directory, EPERM, EINVAL, ENOSPC.
pub fn set(inode: &dyn Inode, creds: &Creds, kind: AclKind, acl: Option<Acl>) -> Result<()> {
    inode.acl(kind)?;
    if kind == AclKind::Default && inode.kind() != Kind::Directory {
        return if acl.is_some() { Err(Errno::EACCES) } else { Ok(()) };
    }
    let stat = inode.stat()?;
    access::check_owner(&stat, creds)?;
    if acl.as_ref().is_some_and(|acl| !acl.is_valid()) {
        return Err(Errno::EINVAL);
    }
    let bits = acl.as_ref().map(Acl::mode).filter(|_| kind == AclKind::Access);
    // An access list that the mode says all of is none.
    inode.set_acl(kind, acl.filter(|acl| kind == AclKind::Default || !acl.is_minimal()))?;
    let Some(bits) = bits else { return Ok(()) };
    let kept = if access::may_keep_set_gid(stat.gid, creds) { !BITS } else { !BITS & !SET_GID };
    inode.set_attributes(&Change { mode: Some(stat.mode & 0o7777 & kept | bits), ..Change::default() })
}

/// The mode of what is made in a directory: its default list limits it, or else the umask does.
#[must_use]
pub fn mode_of_new(dir: &dyn Inode, mode: u32, umask: u32) -> u32 {
    match dir.acl(AclKind::Default) {
        Ok(Some(default)) => default.for_new(mode).1,
        _ => mode & !umask,
    }
}

/// Gives what was made in a directory the lists that it gets from that.
///
/// # Errors
/// ENOSPC.
pub fn inherit(dir: &dyn Inode, made: &Arc<dyn Inode>, mode: u32) -> Result<()> {
    let Ok(Some(default)) = dir.acl(AclKind::Default) else { return Ok(()) };
    if made.kind() == Kind::Symlink {
        return Ok(());
    }
    let (own, _) = default.for_new(mode);
    if !own.is_minimal() {
        made.set_acl(AclKind::Access, Some(own))?;
    }
    if made.kind() == Kind::Directory { made.set_acl(AclKind::Default, Some(default)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Acl, Entry, GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ};
    use crate::Errno;
    use crate::fs::inode::Stat;
    use crate::process::creds::Creds;
    use alloc::vec::Vec;

    const NONE: u32 = u32::MAX;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl { entries: entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id }).collect() }
    }

    fn long() -> Acl {
        let ends = [(USER_OBJ, 7, NONE), (USER, 6, 5), (GROUP_OBJ, 4, NONE), (GROUP, 7, 9), (MASK, 5, NONE)];
        acl(&[&ends[..], &[(OTHER, 1, NONE)]].concat())
    }

    #[test]
    fn lists_survive_their_bytes() {
        assert_eq!(Acl::parse(&long().to_bytes()), Ok(Some(long())));
        assert_eq!(Acl::parse(&[2, 0, 0, 0]), Ok(None));
        assert_eq!(Acl::parse(&[3, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
        assert_eq!(Acl::parse(&[2, 0, 0, 0, 1]), Err(Errno::EINVAL));
        assert_eq!(Acl::parse(&acl(&[(3, 0, 0)]).to_bytes()), Err(Errno::EINVAL));
    }

    #[test]
    fn lists_are_ordered_and_whole() {
        let minimal = [(USER_OBJ, 7, NONE), (GROUP_OBJ, 7, NONE), (OTHER, 7, NONE)];
        assert!(long().is_valid() && acl(&minimal).is_valid() && acl(&minimal).is_minimal());
        assert!(!acl(&minimal[..2]).is_valid());
        // A user without a mask, and one behind the group.
        assert!(!acl(&[minimal[0], (USER, 7, 1), minimal[1], minimal[2]]).is_valid());
        assert!(!acl(&[minimal[0], minimal[1], (USER, 7, 1), (MASK, 7, NONE), minimal[2]]).is_valid());
        assert!(!acl(&[(USER_OBJ, 8, NONE), minimal[1], minimal[2]]).is_valid());
    }

    #[test]
    fn the_mask_limits_users_and_groups() {
        let stat = Stat { uid: 1, gid: 2, ..Stat::default() };
        let allows = |uid: u32, gid: u32, want: u32| long().allows(&stat, &Creds::new(uid, gid, Vec::new()), want);
        assert!(allows(5, 0, 4) && !allows(5, 0, 2));
        assert!(allows(3, 2, 4) && !allows(3, 2, 1));
        assert!(allows(3, 9, 5) && !allows(3, 9, 2));
        assert!(allows(3, 3, 1) && !allows(3, 3, 4));
    }

    #[test]
    fn mode_and_list_follow_each_other() {
        let mut list = long();
        assert_eq!(list.mode(), 0o751);
        list.set_mode(0o640);
        assert_eq!((list.mode(), list.find(GROUP_OBJ).map(|entry| entry.permissions)), (0o640, Some(4)));
        let (own, mode) = long().for_new(0o4666);
        assert_eq!((own.mode(), mode), (0o640, 0o4640));
    }
}
