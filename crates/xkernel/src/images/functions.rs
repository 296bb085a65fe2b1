//! Names of the functions that hold trapped sites, for the report.

use super::{FILE_LIMIT, build};
use abi::stats::TrappedSite;
use abom::{Limits, Names};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Most sites that are looked at: a container could claim any number.
const SITES_LIMIT: usize = 64;

/// The name of the function that holds each site, read from its file, which `open` opens with its size.
pub(crate) fn functions(
    sites: &[TrappedSite],
    open: impl Fn(u16, &[u8]) -> Option<(OwnedFd, u64)>,
) -> Vec<Option<String>> {
    let mut by_file: BTreeMap<&(u16, Vec<u8>), Vec<usize>> = BTreeMap::new();
    for (index, site) in sites.iter().enumerate().take(SITES_LIMIT) {
        if let Some(origin) = &site.origin {
            by_file.entry(origin).or_default().push(index);
        }
    }
    let mut found = vec![None; sites.len()];
    for ((export, path), indices) in by_file {
        let Some(bytes) = open(*export, path).and_then(|(file, size)| read(&file, size)) else { continue };
        let limits = Limits { max_file_len: FILE_LIMIT, ..Limits::default() };
        let Ok(names) = Names::parse(&bytes, &limits) else { continue };
        for index in indices {
            let name = sites.get(index).and_then(|site| names.at(site.offset)).map(str::to_owned);
            if let Some(place) = found.get_mut(index) {
                *place = name;
            }
        }
    }
    found
}

fn read(file: &OwnedFd, size: u64) -> Option<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|_| size <= FILE_LIMIT)?;
    build::read_whole(file, size).ok()
}
