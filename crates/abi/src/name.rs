//! Names of directory entries.

use alloc::sync::Arc;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So long a name lies where it is kept; with its length and which of both it is that makes three words.
const SHORT: usize = 22;

/// A name of a directory entry. To copy one takes no memory and, where it is a short one, no count.
#[derive(Clone)]
pub struct Name(Kept);

#[derive(Clone)]
enum Kept {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

impl Deref for Name {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(&[]),
            Kept::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Name {
    #[inline]
    fn from(name: &[u8]) -> Name {
        let mut bytes = [0; SHORT];
        if let (Ok(len), Some(room)) = (u8::try_from(name.len()), bytes.get_mut(..name.len())) {
            room.copy_from_slice(name);
            return Name(Kept::Short { len, bytes });
        }
        Name(Kept::Long(Arc::from(name)))
    }
}

impl Default for Name {
    fn default() -> Name {
        Name(Kept::Short { len: 0, bytes: [0; SHORT] })
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// As its bytes, by which it is found.
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        <&[u8]>::deserialize(from).map(Name::from)
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, SHORT};
    use crate::{decode, encode};

    #[test]
    fn names_of_all_lengths_are_what_they_were_made_of() {
        for len in 0..=SHORT + 9 {
            let bytes: alloc::vec::Vec<u8> = (1..).take(len).collect();
            let name = Name::from(&bytes[..]);
            assert_eq!((&*name, &*name.clone()), (&bytes[..], &bytes[..]));
            let encoded = encode(&name).unwrap_or_default();
            assert_eq!(encoded, encode(&bytes).unwrap_or_default());
            assert_eq!(decode::<Name>(&encoded).ok(), Some(name));
        }
        assert_eq!(Name::default(), Name::from(&b""[..]));
        assert!(Name::from(&b"ab"[..]) < Name::from(&b"b"[..]));
    }

    #[test]
    fn a_name_takes_three_words() {
        assert_eq!((size_of::<Name>(), size_of::<Option<Name>>()), (24, 24));
    }
}
