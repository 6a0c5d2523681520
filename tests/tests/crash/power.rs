//! Power cuts by the real kernel: an ext4 of its own is shut down without writing its journal,
//! mounted again, and holds what was synced and nothing else that is certain.

use std::time::Duration;

use crate::ledger::{Counted, Ledger};
use crate::load::{Load, append_once, check, create, runtime};
use crate::mount::{Image, Memory, missing};
use crate::random::Random;
use crate::server::{Start, pause, scratch, verify};
use crate::{Outcome, Plan};

/// Cuts on one file system, before a new one is made.
const CUTS_EACH: u64 = 10;

pub(crate) fn cut(plan: &Plan) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let mut random = Random::new(plan.seed ^ 0xc0ffee);
    let runtime = runtime();
    let _inside = runtime.enter();
    let (mut counted, mut in_start, mut done) = (Counted::default(), 0, 0);
    while done < plan.cycles {
        let home = scratch("power");
        let made = Image::make(&home.join("image"), &home.join("mount"), 256);
        let mut image = match made {
            Ok(image) => image,
            Err(why) => return Outcome::Skipped(why),
        };
        let data = home.join("mount/data");
        let start = Start { data: &data, home: &home, under: Vec::new() };
        let mut ledger = Ledger::new(3);
        let server = start.listening().unwrap();
        create(&runtime, &server.channel(), &ledger);
        let mut server = Some(server);
        let cuts = CUTS_EACH.min(plan.cycles - done);
        for cut in 0..cuts {
            let context = format!("cut {} of seed {}", done + cut, plan.seed);
            let fuse = image.fuse();
            // Every third cut comes while the broker starts: recovery, the first checkpoint, a new
            // file. The others come under load, where files roll and are used again.
            if cut % 3 == 2 {
                in_start += 1;
                if let Some(running) = server.take() {
                    running.kill();
                }
                std::thread::scope(|scope| {
                    let (before, after) = (random.millis(150), random.millis(40));
                    scope.spawn(move || {
                        pause(before);
                        fuse.blow();
                    });
                    start.killed_after(before + after);
                });
            } else {
                let running = server.take().unwrap_or_else(|| start.listening().unwrap());
                let load = Load::start(&runtime, &running.channel(), &mut ledger);
                pause(random.millis(500));
                fuse.blow();
                running.kill();
                load.finish(&runtime, &mut ledger);
            }
            image.unmount();
            image.mount().unwrap();
            if data.join("meshlog.format").exists()
                && let Err(words) = verify(&data)
            {
                panic!("{context}: a power cut is not damage:\n{words}");
            }
            let running = start.listening().unwrap_or_else(|words| panic!("{context}: {words}"));
            let found = check(&runtime, &running.channel(), &ledger);
            counted += Counted {
                acknowledged: if cut + 1 == cuts { found.acknowledged } else { 0 },
                ..found
            };
            server = Some(running);
        }
        let running = server.take().unwrap();
        let load = Load::start(&runtime, &running.channel(), &mut ledger);
        load.finish(&runtime, &mut ledger);
        check(&runtime, &running.channel(), &ledger);
        running.kill();
        image.unmount();
        done += cuts;
    }
    Outcome::Passed(format!(
        "{done} cuts, {in_start} of them in start-up; {} acknowledged appends all there in order, \
         {} in doubt of which {} there once",
        counted.acknowledged, counted.in_doubt, counted.in_doubt_there
    ))
}

/// The disk below the file system runs out of what it promised, so that writes and syncs fail with
/// EIO and the kernel forgets what it could not write.
pub(crate) fn failing_disk(_plan: &Plan) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let runtime = runtime();
    let _inside = runtime.enter();
    let home = scratch("failing");
    let memory = match Memory::mount(&home.join("memory"), 24) {
        Ok(memory) => memory,
        Err(why) => return Outcome::Skipped(why),
    };
    let made = Image::make(&home.join("memory/image"), &home.join("mount"), 128);
    let mut image = match made {
        Ok(image) => image,
        Err(why) => return Outcome::Skipped(why),
    };
    let data = home.join("mount/data");
    let start = Start { data: &data, home: &home, under: Vec::new() };
    let mut ledger = Ledger::new(2);
    let server = start.listening().unwrap();
    create(&runtime, &server.channel(), &ledger);
    let mut client =
        meshlog_proto::v1::record_service_client::RecordServiceClient::new(server.channel());
    let refusal = runtime.block_on(async {
        for round in 0..20_000 {
            let index = round % ledger.writers.len();
            let append = append_once(&mut client, &mut ledger.writers[index]);
            if let Err(refusal) =
                tokio::time::timeout(Duration::from_secs(30), append).await.unwrap()
            {
                return refusal;
            }
        }
        panic!("the disk never failed");
    });
    assert_eq!(refusal.reason, "JOURNAL_FAILED", "{refusal:?}");
    assert_eq!(refusal.applied, "unknown", "{refusal:?}");
    server.kill();
    memory.grow(400);
    image.unmount();
    image.repair();
    image.mount().unwrap();
    let server = start.listening().unwrap();
    let counted = check(&runtime, &server.channel(), &ledger);
    server.kill();
    image.unmount();
    drop(image);
    drop(memory);
    Outcome::Passed(format!(
        "JOURNAL_FAILED with applied unknown; {} acknowledged appends all there after a restart",
        counted.acknowledged
    ))
}
