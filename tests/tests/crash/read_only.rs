//! The kernel finds an error in the file system of the data directory and makes it read-only, as
//! most machines are set up to do.

use std::time::Duration;

use meshlog_proto::v1::GetServerInfoRequest;
use meshlog_proto::v1::admin_service_client::AdminServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;

use crate::ledger::{Counted, Ledger};
use crate::load::{Load, append_once, check, create, runtime};
use crate::mount::{Image, missing};
use crate::random::Random;
use crate::server::{Start, pause, scratch, verify};
use crate::{Outcome, Plan};

/// Break-downs, each on a file system of its own.
const BREAKS_MAX: u64 = 4;

pub(crate) fn under_load(plan: &Plan) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let mut random = Random::new(plan.seed ^ 0xdead);
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut counted = Counted::default();
    let breaks = BREAKS_MAX.min(plan.cycles.max(1));
    for number in 0..breaks {
        let context = format!("break-down {number} of seed {}", plan.seed);
        let home = scratch("read-only");
        let mut image = match Image::make(&home.join("image"), &home.join("mount"), 128) {
            Ok(image) => image,
            Err(why) => return Outcome::Skipped(why),
        };
        let data = home.join("mount/data");
        let start = Start { data: &data, home: &home, under: Vec::new() };
        let mut ledger = Ledger::new(2);
        let server = start.listening().unwrap();
        create(&runtime, &server.channel(), &ledger);
        let load = Load::start(&runtime, &server.channel(), &mut ledger);
        pause(random.millis(600));
        image.break_down();
        // A writer ends when it is refused.
        load.refused();
        load.finish(&runtime, &mut ledger);

        let mut client = RecordServiceClient::new(server.channel());
        for index in 0..ledger.writers.len() {
            let writer = &mut ledger.writers[index];
            let was_in_doubt = writer.is_in_doubt();
            let refusal = runtime.block_on(append_once(&mut client, writer)).unwrap_err();
            let applied = if was_in_doubt { &["no", "unknown"][..] } else { &["no"] };
            assert_eq!(refusal.reason, "JOURNAL_FAILED", "{context}: {refusal:?}");
            assert!(applied.contains(&&refusal.applied[..]), "{context}: {refusal:?}");
        }
        // Reads go on, and whoever asks is told what is the matter.
        check(&runtime, &server.channel(), &ledger);
        let mut admin = AdminServiceClient::new(server.channel());
        let info = runtime.block_on(admin.get_server_info(GetServerInfoRequest {})).unwrap();
        let said = info.into_inner().storage.unwrap().appends_refused;
        // A sync that was under way fails with what the kernel gave up, later calls with why.
        let names_it = said.contains("read-only") || said.contains("the disk failed");
        assert!(names_it && said.contains("appends are refused"), "{context}: {said:?}");
        server.kill();

        image.unmount();
        image.repair();
        image.mount().unwrap();
        if let Err(words) = verify(&data) {
            panic!("{context}: a read-only file system is not damage:\n{words}");
        }
        let server = start.listening().unwrap_or_else(|words| panic!("{context}: {words}"));
        counted += check(&runtime, &server.channel(), &ledger);
        let load = Load::start(&runtime, &server.channel(), &mut ledger);
        pause(Duration::from_millis(200));
        load.finish(&runtime, &mut ledger);
        check(&runtime, &server.channel(), &ledger);
        server.kill();
        image.unmount();
    }
    Outcome::Passed(format!(
        "{breaks} break-downs; {} acknowledged appends all there, {} in doubt of which {} there once",
        counted.acknowledged, counted.in_doubt, counted.in_doubt_there
    ))
}
