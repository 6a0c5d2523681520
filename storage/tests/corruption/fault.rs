//! One thing that goes wrong below the file system.

use std::fmt;
use std::ops::Range;

use meshlog_storage::disk::{Disk, SeededRandom, SimulatedDisk};

use crate::image::{Image, content, path};

const SECTOR: usize = 512;

/// Bytes of one file that are of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) file: String,
    pub(crate) what: &'static str,
    pub(crate) range: Range<usize>,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    None,
    /// These bits are flipped.
    Bits(String, Vec<usize>),
    /// A sector reads as zeros.
    Zeroed(String, usize),
    /// A sector holds what it held before its last write.
    Stale(String, usize),
    /// A sector of one file was written to another place.
    Misdirected {
        from: (String, usize),
        to: (String, usize),
    },
    /// Two sectors took each other's place.
    Swapped {
        one: (String, usize),
        other: (String, usize),
    },
    /// A file ends here.
    Cut(String, usize),
    Missing(String),
    /// Two files took each other's name.
    SwappedFiles(String, String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Fault {
    pub(crate) fn befall(&self, disk: &SimulatedDisk, older: &SimulatedDisk) {
        let sector = |disk: &SimulatedDisk, (name, number): &(String, usize)| {
            let bytes = content(disk, name);
            let start = (number * SECTOR).min(bytes.len());
            let mut sector = bytes[start..(start + SECTOR).min(bytes.len())].to_vec();
            sector.resize(SECTOR, 0);
            sector
        };
        let put = |(name, number): &(String, usize), sector: &[u8]| {
            disk.rot(&path(name), |bytes| {
                let start = (number * SECTOR).min(bytes.len());
                let end = (start + SECTOR).min(bytes.len());
                bytes[start..end].copy_from_slice(&sector[..end - start]);
            });
        };
        match self {
            Self::None => {}
            Self::Bits(name, bits) => disk.rot(&path(name), |bytes| {
                bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
            }),
            Self::Zeroed(name, number) => put(&(name.clone(), *number), &[0; SECTOR]),
            Self::Stale(name, number) => {
                let place = (name.clone(), *number);
                put(&place, &sector(older, &place));
            }
            Self::Misdirected { from, to } => put(to, &sector(disk, from)),
            Self::Swapped { one, other } => {
                let (first, second) = (sector(disk, one), sector(disk, other));
                put(one, &second);
                put(other, &first);
            }
            Self::Cut(name, length) => disk.rot(&path(name), |bytes| bytes.truncate(*length)),
            Self::Missing(name) => disk.remove(&path(name)).unwrap(),
            Self::SwappedFiles(one, other) => {
                let (first, second) = (content(disk, one), content(disk, other));
                disk.rot(&path(one), |bytes| *bytes = second);
                disk.rot(&path(other), |bytes| *bytes = first);
            }
        }
    }

    /// For the table of what became of which.
    pub(crate) fn kind(&self, image: &Image) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bits(name, bits) => {
                let at = bits[0] / 8;
                let mut regions = image.regions.iter();
                let region = regions.find(|one| one.file == *name && one.range.contains(&at));
                region.map_or("nothing", |region| region.what)
            }
            Self::Zeroed(..) => "zeroed sector",
            Self::Stale(..) => "stale sector",
            Self::Misdirected { .. } => "misdirected sector",
            Self::Swapped { .. } => "swapped sectors",
            Self::Cut(..) => "file cut short",
            Self::Missing(_) => "missing file",
            Self::SwappedFiles(..) => "swapped files",
        }
    }
}

/// Every bit of the bytes that mean something.
pub(crate) fn every_bit(images: &[Image]) -> impl Iterator<Item = (usize, Fault)> + '_ {
    images.iter().enumerate().flat_map(|(index, image)| {
        let live = image.regions.iter().filter(|region| region.what != "nothing");
        live.flat_map(move |region| {
            let bits = region.range.start * 8..region.range.end * 8;
            bits.map(move |bit| (index, Fault::Bits(region.file.clone(), vec![bit])))
        })
    })
}

/// So many bits, as many of each kind of bytes, one in twenty in bytes that mean nothing.
pub(crate) fn stratified_bits(images: &[Image], count: usize) -> Vec<(usize, Fault)> {
    let random = SeededRandom::new(4096);
    let pick = |bound: usize| (random.next_u64() % bound as u64) as usize;
    let mut kinds: Vec<&'static str> =
        images.iter().flat_map(|image| image.regions.iter().map(|region| region.what)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| *kind != "nothing");
    let mut faults = Vec::with_capacity(count);
    while faults.len() < count {
        let kind = match faults.len() % 20 {
            0 => "nothing",
            _ => kinds[faults.len() % kinds.len()],
        };
        let index = pick(images.len());
        let regions: Vec<_> = images[index].regions.iter().filter(|one| one.what == kind).collect();
        if regions.is_empty() {
            // Only one of the images has a sidecar.
            let fallback = &images[index].regions[pick(images[index].regions.len())];
            faults.push((index, bit(fallback, &pick)));
            continue;
        }
        let total: usize = regions.iter().map(|region| region.range.len()).sum();
        let mut at = pick(total);
        for region in regions {
            if at < region.range.len() {
                let bit = (region.range.start + at) * 8 + pick(8);
                faults.push((index, Fault::Bits(region.file.clone(), vec![bit])));
                break;
            }
            at -= region.range.len();
        }
    }
    faults
}

fn bit(region: &Region, pick: &dyn Fn(usize) -> usize) -> Fault {
    let at = region.range.start + pick(region.range.len());
    Fault::Bits(region.file.clone(), vec![at * 8 + pick(8)])
}

/// So many other faults of all kinds, in bytes that mean something.
pub(crate) fn sampled(images: &[Image], count: usize) -> Vec<(usize, Fault)> {
    let random = SeededRandom::new(1000);
    let pick = |bound: usize| (random.next_u64() % bound as u64) as usize;
    let mut faults = Vec::with_capacity(count);
    while faults.len() < count {
        let index = pick(images.len());
        let image = &images[index];
        let live: Vec<_> = image.regions.iter().filter(|one| one.what != "nothing").collect();
        let place = || {
            let region = live[pick(live.len())];
            let at = region.range.start + pick(region.range.len());
            (region.file.clone(), at / SECTOR)
        };
        let files = image.files();
        let file = || files[pick(files.len())].clone();
        let (name, sector) = place();
        faults.push((
            index,
            match faults.len() % 10 {
                0 | 1 => {
                    let bits = (0..2 + pick(7)).map(|_| sector * SECTOR * 8 + pick(SECTOR * 8));
                    let length = files.iter().find(|(one, _)| *one == name).map_or(0, |(_, l)| *l);
                    Fault::Bits(name, bits.filter(|bit| bit / 8 < length).collect())
                }
                2 => Fault::Zeroed(name, sector),
                3 | 4 => Fault::Stale(name, sector),
                5 => Fault::Misdirected { from: place(), to: (name, sector) },
                6 => Fault::Swapped { one: (name, sector), other: place() },
                7 => {
                    let (name, length) = file();
                    Fault::Cut(name, pick(length.max(1)))
                }
                8 => Fault::Missing(file().0),
                _ => Fault::SwappedFiles(file().0, file().0),
            },
        ));
    }
    faults.retain(|(_, fault)| !matches!(fault, Fault::Bits(_, bits) if bits.is_empty()));
    faults
}
