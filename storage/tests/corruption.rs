//! Rot in every kind of file, and what becomes of acknowledged records.
//!
//! Directories are written on a simulated disk, with a ledger of what was acknowledged. Then one
//! fault at a time: a flipped bit, several, or a whole sector zeroed, swapped, stale or
//! misdirected, a file cut short, missing, or changed for another. After each the directory is
//! opened and everything read. Allowed is:
//!
//! - every acknowledged record is read with its bytes, or
//! - what is not answers as damage, for a range that holds it, and health says so, or
//! - the directory is refused with a sentence.
//!
//! Never a wrong byte, never a record silently gone. `verify` must find every fault that has an
//! effect, and nothing in an undamaged directory.
//!
//! By default 4,096 bits, spread over the structures of the files, and 1,000 other faults;
//! `MESHLOG_CORRUPTION=all` flips every bit of the live bytes of every file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a failing fault names itself")]

#[path = "engine/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the engine")]
mod support;

#[path = "corruption/fault.rs"]
mod fault;
#[path = "corruption/image.rs"]
mod image;
#[path = "corruption/outcome.rs"]
mod outcome;

use fault::Fault;
use image::Image;
use meshlog_storage::{ErrorKind, Offset, ReadRequest};
use outcome::{Outcome, Tally};

/// The most batches that one group of these directories holds: what a damaged group costs.
const GROUP_BATCHES: usize = 2;

/// Runs every fault on its image; panics with the first few that break a promise.
/// No fault may cost more than `most` batches.
fn sweep(images: &[Image], most: usize, faults: impl Iterator<Item = (usize, Fault)>) -> Tally {
    let mut tally = Tally::default();
    let mut broken = Vec::new();
    for (index, fault) in faults {
        let image = &images[index];
        let machine = image.with(&fault);
        let outcome = outcome::of(image, &machine);
        tally.count(fault.kind(image), &outcome);
        // A group of a segment holds many batches, and its table is the only way to them.
        let is_shared = ["segment group header", "segment frame table"];
        if outcome.lost() > most && !is_shared.contains(&fault.kind(image)) {
            broken.push(format!("{} {fault}: {} batches are lost", image.name, outcome.lost()));
        }
        if let Outcome::Broken(why) = outcome {
            broken.push(format!("{} {fault}: {why}", image.name));
        }
    }
    println!("{tally}");
    let shown = broken.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(broken.is_empty(), "{} faults break a promise:\n{shown}", broken.len());
    tally
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let images = Image::all();
    let all = std::env::var("MESHLOG_CORRUPTION").is_ok_and(|value| value == "all");
    let tally = if all {
        sweep(&images, GROUP_BATCHES, fault::every_bit(&images))
    } else {
        sweep(&images, GROUP_BATCHES, fault::stratified_bits(&images, 4096).into_iter())
    };
    assert!(tally.faults() >= 4096, "{tally}");
    assert_eq!(tally.announced(), 0, "the offsets of what is lost are known");
    assert!(tally.noticed() * 10 >= tally.faults() * 9, "too many in bytes that mean nothing");
}

#[test]
fn a_damaged_sector_or_file_is_found_or_harmless() {
    let images = Image::all();
    let tally = sweep(&images, usize::MAX, fault::sampled(&images, 1100).into_iter());
    assert!(tally.faults() >= 1000 && tally.refused() > 0, "{tally}");
}

#[test]
fn an_undamaged_directory_passes() {
    for image in Image::all() {
        let machine = image.with(&Fault::None);
        let outcome = outcome::of(&image, &machine);
        assert!(matches!(outcome, Outcome::Harmless), "{}: {outcome:?}", image.name);
    }
}

/// A damaged group hides which offsets it gave out; the group after it, a marker or the footer of
/// the file says so. Once the last groups were damaged, their offsets were given out again.
#[test]
fn offsets_of_a_damaged_group_are_never_given_again() {
    for image in &Image::all() {
        let mut faults = 0;
        for region in &image.regions {
            if ["group header", "frame table", "segment group header"].contains(&region.what) {
                let fault = Fault::Bits(region.file.clone(), vec![region.range.start * 8]);
                offsets_go_on(image, &image.with(&fault), &fault);
                faults += 1;
            }
        }
        assert!(faults > 50, "{faults}");
    }
}

fn offsets_go_on(image: &Image, machine: &support::Machine, fault: &Fault) {
    let storage = machine.open().unwrap();
    for (stream, (_, batches)) in &image.streams {
        let (base, (count, _)) = batches.last_key_value().unwrap();
        let entry = support::entry(vec![support::lines(*stream, 1000, 1, 50)]);
        let appended = support::append(&storage, entry).unwrap();
        let (first, end) = (appended.ranges[0].first_offset, base.plus(*count));
        assert!(first >= end, "{} {fault}: offset {first} is given twice", image.name);
        let last = Offset(end.0 - 1);
        let request = ReadRequest { stream: *stream, from: last, max_bytes: 1, hint: None };
        match support::read(&storage, request) {
            Ok(slice) => assert_eq!(slice.batches[0].end(), end, "{} {fault}", image.name),
            Err(error) => assert_eq!(
                *error.kind(),
                ErrorKind::Corrupt { next_readable: end },
                "{} {fault}: {error}",
                image.name
            ),
        }
    }
}
