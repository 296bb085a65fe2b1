//! `-u`: who the first process is, by the container's own /etc/passwd and /etc/group.

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

/// Largest account file that is read.
const LARGEST: u64 = 64 << 20;

/// Ids of the first process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, where the container knows one.
    pub home: Option<Vec<u8>>,
}

/// Why a user was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No user.
    #[error("write USER or USER:GROUP, names or numbers")]
    Form,
    /// A name that nobody has.
    #[error("the container's /etc/passwd has no user {0:?}: add it there, or give a number below 4294967295")]
    User(String),
    /// As above.
    #[error("the container's /etc/group has no group {0:?}: add it there, or give a number below 4294967295")]
    Group(String),
}

/// The texts of a container's account files; empty where there are none.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads them below a root directory. A link in it leads to where it leads in the container.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn read(root: impl AsFd) -> Result<Self> {
        let text = |path: &str| read_text(&root, path).with_context(|| format!("cannot read /{path} of the container"));
        Ok(Self { passwd: text("etc/passwd")?, group: text("etc/group")? })
    }

    /// The user that `-u` asks for. As with podman, a group that is named takes the place of all groups of the user,
    /// and a number that nobody has is in group 0.
    ///
    /// # Errors
    /// [`UserError`].
    pub fn find(&self, wanted: &str) -> Result<User, UserError> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        if user.is_empty() {
            return Err(UserError::Form);
        }
        let number = id_of(user);
        let entry = records(&self.passwd).find(|fields| match number {
            Some(uid) => field(fields, 2).and_then(id_of) == Some(uid),
            None => field(fields, 0) == Some(user),
        });
        let entry = entry.unwrap_or_default();
        let uid = number.or_else(|| field(&entry, 2).and_then(id_of)).ok_or_else(|| UserError::User(user.into()))?;
        let home = field(&entry, 5).filter(|home| !home.is_empty()).map(|home| home.as_bytes().to_vec());
        let (gid, mut groups) = match group {
            Some(group) => (self.group_id(group)?, Vec::new()),
            None => (field(&entry, 3).and_then(id_of).unwrap_or(0), self.groups_of(field(&entry, 0))),
        };
        // As initgroups(3): the group is one of the groups.
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        Ok(User { uid, gid, groups, home })
    }

    fn group_id(&self, wanted: &str) -> Result<u32, UserError> {
        let by_name = || {
            let entry = records(&self.group).find(|fields| field(fields, 0) == Some(wanted))?;
            field(&entry, 2).and_then(id_of)
        };
        id_of(wanted).or_else(by_name).ok_or_else(|| UserError::Group(wanted.into()))
    }

    /// Groups that list a user by name.
    fn groups_of(&self, name: Option<&str>) -> Vec<u32> {
        let Some(name) = name else { return Vec::new() };
        let lists_name = |fields: &Vec<&str>| field(fields, 3).is_some_and(|list| list.split(',').any(|n| n == name));
        records(&self.group).filter(lists_name).filter_map(|fields| field(&fields, 2).and_then(id_of)).collect()
    }
}

/// (uid_t)-1 is no id.
fn id_of(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&id| is_number && id != u32::MAX)
}

fn records(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').map(str::trim).collect())
}

fn field<'a>(fields: &[&'a str], at: usize) -> Option<&'a str> {
    fields.get(at).copied()
}

fn read_text(root: &impl AsFd, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file: OwnedFd = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        bail!("it is no regular file");
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n\n# no entry\nann:x:1000:100:Ann:/home/ann:/bin/sh\nodd:x:7\n"
                .into(),
            group: "root:x:0:\nusers:x:100:\nwheel:x:10:ann,bob\nodd\naudio:x:29:bob,ann\n".into(),
        }
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Result<User, UserError> {
        Ok(User { uid, gid, groups: groups.to_vec(), home: home.map(|home| home.as_bytes().to_vec()) })
    }

    #[test]
    fn names_and_numbers_find_the_same_user() {
        let ann = user(1000, 100, &[100, 10, 29], Some("/home/ann"));
        assert_eq!(
            [accounts().find("ann"), accounts().find("1000"), accounts().find("ann:")],
            [ann.clone(), ann.clone(), ann]
        );
    }

    #[test]
    fn a_number_that_nobody_has_is_in_group_0() {
        assert_eq!(accounts().find("5"), user(5, 0, &[0], None));
        assert_eq!(Accounts::default().find("5:6"), user(5, 6, &[6], None));
    }

    #[test]
    fn a_group_that_is_named_takes_the_place_of_the_users() {
        assert_eq!(accounts().find("ann:wheel"), user(1000, 10, &[10], Some("/home/ann")));
        assert_eq!(accounts().find("1000:4294967294"), user(1000, 4_294_967_294, &[4_294_967_294], Some("/home/ann")));
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(accounts().find("bob"), Err(UserError::User("bob".into())));
        assert_eq!(accounts().find("-1"), Err(UserError::User("-1".into())));
        assert_eq!(accounts().find("4294967295"), Err(UserError::User("4294967295".into())));
        assert_eq!(accounts().find("ann:staff"), Err(UserError::Group("staff".into())));
        for wanted in ["", ":", ":wheel"] {
            assert_eq!(accounts().find(wanted), Err(UserError::Form), "{wanted}");
        }
    }

    #[test]
    fn a_short_entry_has_what_it_has() {
        assert_eq!(accounts().find("odd"), user(7, 0, &[0], None));
    }
}
