//! The LibOS image that this executable carries.

use anyhow::{Context as _, Result};
use std::fs::File;
use xkernel::loader::Image;

/// Begins a page, in memory and so in the file.
#[repr(C, align(4096))]
struct PageAligned<B: ?Sized>(B);

static IMAGE: &PageAligned<[u8]> = &PageAligned(*include_bytes!(env!("XLIBOS_IMAGE")));

/// The image, and where it lies in the executable, from which containers map its text.
///
/// # Errors
/// Where /proc is not there, or the executable cannot be read.
pub fn embedded() -> Result<Image<'static>> {
    let bytes = &IMAGE.0;
    let file = File::open("/proc/self/exe").context("cannot read this executable: allow its user to (chmod +r)")?;
    let maps = std::fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps: mount /proc")?;
    let offset =
        file_offset(&maps, bytes.as_ptr().addr()).context("this executable does not find its own LibOS image")?;
    Ok(Image { bytes, file: file.into(), offset })
}

/// Where in its file an address lies: proc_pid_maps(5).
fn file_offset(maps: &str, address: usize) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        (start..end).contains(&address).then(|| offset + (address - start) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::{embedded, file_offset};
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn the_file_has_the_image_where_it_is_said_to_be() {
        let image = embedded().unwrap();
        let mut read = vec![0; image.bytes.len()];
        std::fs::File::from(image.file).read_exact_at(&mut read, image.offset).unwrap();
        assert_eq!(read, image.bytes);
        assert_eq!(image.offset % 4096, 0);
    }

    #[test]
    fn an_address_is_found_in_its_mapping() {
        let maps = "1000-3000 r--p 00000000 fe:00 42 /xc\n3000-5000 r-xp 00002000 fe:00 42 /xc\n";
        assert_eq!(file_offset(maps, 0x3010), Some(0x2010));
        assert_eq!(file_offset(maps, 0x5000), None);
    }
}
