//! A file system of its own on a loop device, which can lose power.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Ends all writing to a file system at once, without writing its journal (`FS_IOC_SHUTDOWN`,
/// `NOLOGFLUSH`), when a line arrives. An ioctl has no safe wrapper; this is the whole of it.
const SHUTDOWN: &str = "import fcntl,os,struct,sys
fd=os.open(sys.argv[1],os.O_RDONLY)
print('ready',flush=True)
sys.stdin.readline()
fcntl.ioctl(fd,0x8004587d,struct.pack('I',2))
os.close(fd)";

/// An image and where it is mounted; unmounted and detached when it is dropped.
pub(crate) struct Image {
    file: PathBuf,
    point: PathBuf,
    is_mounted: bool,
}

/// Why there can be no image, if there can be none.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".into());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".into());
    }
    for tool in ["mkfs.ext4", "mount", "umount", "python3"] {
        let works = Command::new(tool).arg("-V").output().is_ok();
        if !works {
            return Some(format!("{tool} is not installed"));
        }
    }
    None
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Memory as a file system, to make a disk too small for what it promises.
pub(crate) struct Memory(PathBuf);

impl Memory {
    pub(crate) fn mount(point: &Path, megabytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(point).unwrap();
        let size = format!("size={megabytes}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "meshlog-crash", text(point)])?;
        Ok(Self(point.to_owned()))
    }

    pub(crate) fn grow(&self, megabytes: u64) {
        let size = format!("remount,size={megabytes}m");
        run("mount", &["-o", &size, text(&self.0)]).unwrap();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.0)]);
    }
}

impl Image {
    /// A new ext4 of this size, mounted.
    pub(crate) fn make(file: &Path, point: &Path, megabytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(point).unwrap();
        let image = std::fs::File::create(file).map_err(|error| error.to_string())?;
        image.set_len(megabytes << 20).map_err(|error| error.to_string())?;
        drop(image);
        run("mkfs.ext4", &["-q", "-F", text(file)])?;
        let mut image = Self { file: file.to_owned(), point: point.to_owned(), is_mounted: false };
        image.mount()?;
        Ok(image)
    }

    /// Mounts it, which replays the journal of the file system.
    pub(crate) fn mount(&mut self) -> Result<(), String> {
        let options = "loop,errors=remount-ro";
        run("mount", &["-o", options, text(&self.file), text(&self.point)])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Lets the kernel find an error in it, after which it is read-only.
    pub(crate) fn break_down(&self) {
        let output = Command::new("losetup").args(["-j", text(&self.file)]).output().unwrap();
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let device = listed.split(':').next().and_then(|path| path.strip_prefix("/dev/"));
        let device = device.unwrap_or_else(|| panic!("no loop device holds it: {listed:?}"));
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// Unmounts it; the loop device goes with it.
    pub(crate) fn unmount(&mut self) {
        run("umount", &[text(&self.point)]).unwrap();
        self.is_mounted = false;
    }

    /// Makes what an unclean end left consistent.
    pub(crate) fn repair(&self) {
        let _ = run("e2fsck", &["-fy", text(&self.file)]);
    }

    /// Ready to lose power at a word.
    pub(crate) fn fuse(&self) -> Fuse {
        let mut child = Command::new("python3")
            .args(["-S", "-c", SHUTDOWN, text(&self.point)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Fuse(child)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = run("umount", &["-l", text(&self.point)]);
        }
    }
}

/// A process that is one word away from the power cut.
pub(crate) struct Fuse(Child);

impl Fuse {
    /// Power goes.
    pub(crate) fn blow(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success(), "the file system could not be shut down");
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
