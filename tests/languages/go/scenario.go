// The file of the scenarios.
package main

import "encoding/json"

type scenario struct {
	Name, Action, Product, Offset string
	Partitions                    uint32
	Keys, Values, Before, Live    []string
	Sequences                     []string
	Appends, Records              int
	ReadResponse                  string          `json:"read_response"`
	RecordsPerBatch               int             `json:"records_per_batch"`
	OwnKeyEvery                   int             `json:"own_key_every"`
	ValueBytes                    int             `json:"value_bytes"`
	MaxBytes                      uint32          `json:"max_bytes"`
	TrimBefore                    string          `json:"trim_before"`
	IntervalSeconds               int64           `json:"interval_seconds"`
	ServiceConfig                 json.RawMessage `json:"service_config"`
	Request                       struct {
		Product, Description, Team, Contact string
		Partitions                          uint32
	}
	Calls []struct {
		Read, Offset, Append string
		Expect               outcome
	}
	Expect expectation
}

// expectation is what a scenario must see; each action looks at its own part.
type expectation struct {
	State, Positions, Code  string
	Partitions, Count, Skip uint32
	Counts                  []uint32
	Records                 []pair
	Heartbeats              int
	Again, Late             outcome
	Answers                 []outcome
	SchemaVersion           uint32   `json:"schema_version"`
	RecordPartitions        []uint32 `json:"record_partitions"`
	RecordCount             int      `json:"record_count"`
	BaseOffset              string   `json:"base_offset"`
	NextOffset              string   `json:"next_offset"`
	NextOffsets             []string `json:"next_offsets"`
	LeastCuts               int      `json:"least_cuts"`
	MostRecords             int      `json:"most_records"`
	WithinSeconds           int64    `json:"within_seconds"`
	LeastRequestBytes       int      `json:"least_request_bytes"`
	ResponseBytesBelow      int      `json:"response_bytes_below"`
	LeastResponses          int      `json:"least_responses"`
}

// outcome is an expected answer or an expected failure.
type outcome struct {
	Code, Reason, Applied string
	Metadata              map[string]string
	FirstOffset           string `json:"first_offset"`
	Duplicate             bool
}
