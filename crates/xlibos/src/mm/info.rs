//! What /proc shows of a program and its memory.

use super::space::Mm;
use crate::fs::path::Path;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Addresses of a program's parts, and its file.
#[derive(Clone, Debug)]
pub struct Info {
    /// PR_SET_DUMPABLE.
    pub dumpable: u8,
    /// Code, start and end.
    pub code: (u64, u64),
    /// Initialised data, start and end.
    pub data: (u64, u64),
    /// Stack pointer at the start.
    pub stack_start: u64,
    /// Argument strings.
    pub arguments: (u64, u64),
    /// Environment strings.
    pub environment: (u64, u64),
    /// The auxiliary vector, as bytes.
    pub auxv: Vec<u8>,
    /// The program's file.
    pub exe: Option<Path>,
    /// The arguments at the start, each with its NUL, for other processes.
    pub command: Arc<[u8]>,
}

impl Default for Info {
    fn default() -> Self {
        Info {
            dumpable: 1,
            code: (0, 0),
            data: (0, 0),
            stack_start: 0,
            arguments: (0, 0),
            environment: (0, 0),
            auxv: Vec::new(),
            exe: None,
            command: Arc::default(),
        }
    }
}

impl Mm {
    /// Sets the program's file.
    pub fn set_exe(&self, exe: Option<Path>) {
        let old = core::mem::replace(&mut self.info().exe, exe);
        drop(old);
    }

    /// The program's file.
    #[must_use]
    pub fn exe(&self) -> Option<Path> {
        self.info().exe.clone()
    }

    /// Keeps the arguments, as many as fit in a page.
    pub fn set_command(&self, arguments: &[Vec<u8>]) {
        let mut bytes: Vec<u8> =
            arguments.iter().flat_map(|word| word.iter().chain(&[0])).copied().take(4096).collect();
        if let Some(last) = bytes.last_mut() {
            *last = 0;
        }
        self.info().command = bytes.into();
    }

    /// Sets where argument and environment strings lie, each as start and end.
    pub fn set_argument_range(&self, arguments: (u64, u64), environment: (u64, u64)) {
        let mut info = self.info();
        info.arguments = arguments;
        info.environment = environment;
    }

    /// Sets the auxiliary vector.
    pub fn set_auxv(&self, pairs: &[(u64, u64)]) {
        let words = pairs.iter().flat_map(|&(key, value)| [key, value]);
        self.info().auxv = words.flat_map(u64::to_le_bytes).collect();
    }

    /// Sets the first stack pointer.
    pub fn set_stack_start(&self, address: u64) {
        self.info().stack_start = address;
    }
}
