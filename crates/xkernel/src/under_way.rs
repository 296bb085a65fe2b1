//! Descriptors that are sent and not yet received. The host counts a user's, of all processes, by the limit of open files
//! (unix(7), ETOOMANYREFS); that of root it does not count.

use rustix::io::Errno;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(10);
const TRIES: u32 = 500;

/// Sends, and tries again for some seconds while too many are under way: those of other containers are soon received, and the
/// host tells nobody when they are.
///
/// # Errors
/// Those of `send`.
pub(crate) fn send_patiently(mut send: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    for _ in 0..TRIES {
        match send() {
            Err(Errno::TOOMANYREFS) => std::thread::sleep(PAUSE),
            sent => return sent,
        }
    }
    send()
}

#[cfg(test)]
mod tests {
    use super::send_patiently;
    use rustix::io::Errno;

    #[test]
    fn what_goes_after_a_while_is_sent_once() {
        let mut tries = 0;
        let sent = send_patiently(|| {
            tries += 1;
            if tries < 3 { Err(Errno::TOOMANYREFS) } else { Ok(()) }
        });
        assert_eq!((sent, tries), (Ok(()), 3));
        assert_eq!(send_patiently(|| Err(Errno::AGAIN)), Err(Errno::AGAIN));
    }
}
