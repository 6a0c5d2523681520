#![no_main]
//! The walk over encoded batches that clients send. What it accepts, protobuf decodes to the same
//! records, and each entry is again a batch of that record.

use meshlog_broker::record::records;
use meshlog_proto::v1;
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(walked) = records(data).collect::<Result<Vec<_>, _>>() else { return };
    let decoded = v1::RecordBatch::decode(data).expect("what is accepted decodes");
    assert_eq!(walked.len(), decoded.records.len());
    let mut end = 0;
    for (view, record) in walked.iter().zip(&decoded.records) {
        assert_eq!(view.key, record.key.as_deref());
        assert_eq!(view.value, record.value.as_deref());
        assert_eq!(view.entry.start, end, "entries follow one another");
        end = view.entry.end;
        let alone: Vec<_> = records(&data[view.entry.clone()]).collect();
        assert!(matches!(&alone[..], [Ok(one)] if (one.key, one.value) == (view.key, view.value)));
    }
    assert_eq!(end, data.len());
});
