//! Images of the C library that these tests run on, and of files that are none.

use super::store::{Store, Version};
use super::{Images, Patched};
use abi::broker::{Attributes, Text};
use rustix::fs::{Mode, OFlags, fcntl_get_seals, fcntl_getfl, fstat, open};
use rustix::io::Errno;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The C library of this process.
fn libc() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps.lines().find(|line| line.contains("/libc.so") || line.contains("/libc-")).expect("a dynamic libc");
    PathBuf::from(&line[line.find('/').expect("path")..])
}

fn ask(images: &Images, path: &Path) -> Result<Arc<Patched>, Errno> {
    let file: OwnedFd = open(path, OFlags::RDONLY, Mode::empty()).expect("open");
    let attributes = crate::broker::attributes_of(&file).expect("attributes");
    images.patched(&file, &attributes)
}

fn contents(file: &OwnedFd) -> Vec<u8> {
    let len = usize::try_from(fstat(file).expect("stat").st_size).expect("small");
    super::build::read_whole(file, len).expect("read")
}

/// That the image is the original's text with whole patches, and its stubs.
fn check(patched: &Patched, path: &Path) {
    let original = std::fs::read(path).expect("read");
    let plan = abom::plan(&original, &abom::Limits::default()).expect("plan");
    let image = contents(&patched.file);
    let layout = &patched.layout;
    assert_eq!((layout.slot_vaddr, layout.stub_vaddr), (plan.slot_vaddr, plan.stub_vaddr));
    let stubs = usize::try_from(layout.stub_offset).expect("small");
    assert_eq!(image[stubs..stubs + plan.stubs.len()], plan.stubs[..]);
    let mut expected = original;
    for patch in &plan.patches {
        let at = usize::try_from(patch.offset).expect("small");
        expected[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    assert!(!layout.text.is_empty() && !layout.moved.is_empty());
    for &Text { offset, len, vaddr } in &layout.text {
        assert!(plan.patches.iter().any(|patch| patch.vaddr.wrapping_sub(vaddr) == patch.offset.wrapping_sub(offset)));
        let (start, end) = (usize::try_from(offset).expect("small"), usize::try_from(offset + len).expect("small"));
        assert!(image[start..end] == expected[start..end]);
    }
}

fn private_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("mode");
    directory
}

fn names(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("list").map(|entry| entry.expect("entry").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn without_a_directory_the_image_is_a_sealed_memfd() {
    let images = Images::new(None);
    let patched = ask(&images, &libc()).expect("image");
    check(&patched, &libc());
    let seals = fcntl_get_seals(&*patched.file).expect("seals");
    assert_eq!(seals.bits(), 0xf);
    assert!(Arc::ptr_eq(&patched, &ask(&images, &libc()).expect("image")));
}

#[test]
fn a_second_container_takes_the_first_ones_image_read_only() {
    let directory = private_directory();
    let first = ask(&Images::new(Some(directory.path().into())), &libc()).expect("image");
    let second = ask(&Images::new(Some(directory.path().into())), &libc()).expect("image");
    check(&second, &libc());
    assert_eq!(first.layout, second.layout);
    let (a, b) = (fstat(&*first.file).expect("stat"), fstat(&*second.file).expect("stat"));
    assert_eq!((a.st_dev, a.st_ino), (b.st_dev, b.st_ino));
    assert_eq!(fcntl_getfl(&*second.file).expect("flags") & OFlags::RWMODE, OFlags::RDONLY);
    assert_eq!((names(directory.path(), "plan").len(), names(directory.path(), "img").len()), (1, 1));
}

#[test]
fn damaged_and_missing_files_of_the_store_are_made_again() {
    let directory = private_directory();
    let fresh = || ask(&Images::new(Some(directory.path().into())), &libc()).expect("image");
    fresh();
    let (plan, image) = (names(directory.path(), "plan").remove(0), names(directory.path(), "img").remove(0));
    let good = std::fs::read(&plan).expect("plan");
    for damage in 0..4 {
        match damage {
            0 => std::fs::write(&plan, &good[..good.len() / 2]).expect("truncate"),
            1 => std::fs::OpenOptions::new()
                .write(true)
                .open(&plan)
                .expect("open")
                .write_all_at(b"x", 40)
                .expect("write"),
            2 => std::fs::remove_file(&image).expect("remove"),
            _ => std::fs::write(&image, b"short").expect("write"),
        }
        check(&fresh(), &libc());
        assert_eq!(std::fs::read(&plan).expect("plan"), good);
        assert_eq!(names(directory.path(), "img"), std::slice::from_ref(&image));
    }
}

#[test]
fn a_directory_that_others_could_fill_is_not_used() {
    let directory = private_directory();
    let open_to_all = directory.path().join("open");
    std::fs::create_dir(&open_to_all).expect("mkdir");
    std::fs::set_permissions(&open_to_all, Permissions::from_mode(0o777)).expect("mode");
    let link = directory.path().join("link");
    let elsewhere = private_directory();
    symlink(elsewhere.path(), &link).expect("symlink");
    for path in [&open_to_all, &link] {
        let patched = ask(&Images::new(Some(path.clone())), &libc()).expect("image");
        check(&patched, &libc());
        assert!(fcntl_get_seals(&*patched.file).is_ok_and(|seals| seals.bits() == 0xf));
    }
    let made = directory.path().join("a/b/plans");
    assert!(Store::open(&made).is_some());
    assert_eq!(std::fs::metadata(&made).expect("stat").permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_has_no_site_is_refused_and_remembered_in_the_store() {
    let directory = private_directory();
    let images = Images::new(Some(directory.path().into()));
    let file = directory.path().join("file");
    let mut no_sites = std::fs::read(libc()).expect("libc")[..4096].to_vec();
    no_sites.truncate(2000);
    for bytes in [&b""[..], b"#!/bin/sh\n", &[0x7f; 100], &no_sites[..63], &no_sites] {
        std::fs::write(&file, bytes).expect("write");
        assert_eq!(ask(&images, &file).err(), Some(Errno::NOEXEC));
    }
    assert_eq!((names(directory.path(), "plan").len(), names(directory.path(), "img").len()), (1, 0));
    assert_eq!(ask(&images, &file).err(), Some(Errno::NOEXEC));
}

#[test]
fn a_file_that_shrank_since_its_attributes_were_read_is_an_error() {
    let directory = private_directory();
    let path = directory.path().join("file");
    std::fs::copy(libc(), &path).expect("copy");
    let file: OwnedFd = open(&path, OFlags::RDONLY, Mode::empty()).expect("open");
    let attributes = Attributes { size: 1 << 24, ..crate::broker::attributes_of(&file).expect("attributes") };
    assert_eq!(Images::new(None).patched(&file, &attributes).err(), Some(Errno::IO));
    let attributes = Attributes { size: 1 << 40, ..attributes };
    assert_eq!(Images::new(None).patched(&file, &attributes).err(), Some(Errno::NOEXEC));
}

#[test]
fn the_oldest_files_go_when_the_store_is_full() {
    let directory = private_directory();
    let store = Store::open(directory.path()).expect("store");
    for (number, name) in ["old", "middle", "new"].into_iter().enumerate() {
        let file = std::fs::File::create(directory.path().join(name)).expect("create");
        file.set_len(100).expect("size");
        let time =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(number).expect("few"));
        file.set_times(std::fs::FileTimes::new().set_accessed(time).set_modified(time)).expect("times");
    }
    store.prune(250, 10);
    assert!(!directory.path().join("old").exists() && directory.path().join("middle").exists());
    store.prune(1000, 1);
    assert!(!directory.path().join("middle").exists() && directory.path().join("new").exists());
}

#[test]
fn a_digest_is_remembered_for_one_version_of_a_file() {
    let directory = private_directory();
    let store = Store::open(directory.path()).expect("store");
    let file = open(libc(), OFlags::RDONLY, Mode::empty()).expect("open");
    let attributes = crate::broker::attributes_of(&file).expect("attributes");
    let version = Version::of(&attributes);
    let digest = blake3::hash(b"contents");
    assert_eq!(store.digest(&version), None);
    store.keep_digest(&version, &digest);
    assert_eq!(store.digest(&version), Some(digest));
    let mut changed = attributes;
    changed.ctime.nsec ^= 1;
    assert_eq!(store.digest(&Version::of(&changed)), None);
    let kept = names(directory.path(), "version").remove(0);
    let mut bytes = std::fs::read(&kept).expect("read");
    for damage in [0, 40] {
        bytes[damage] ^= 1;
        std::fs::write(&kept, &bytes).expect("write");
        assert_eq!(store.digest(&version), None);
        bytes[damage] ^= 1;
    }
    std::fs::write(&kept, &bytes[..63]).expect("write");
    assert_eq!(store.digest(&version), None);
}
