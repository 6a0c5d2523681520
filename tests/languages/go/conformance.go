// The scenarios of scenarios.json in Go: `conformance SCENARIOS BROKER PROXY`.
//
// Only generated stubs and grpc-go. Prints one line per scenario.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	meshlog "greetings/gen/meshlog/v1"
)

func create(given scenario) {
	expect := given.Expect
	wish := given.Request
	request := productRequest(wish.Product, wish.Partitions, wish.Description, wish.Team, wish.Contact)
	product := must(catalog.CreateProduct(ctx, request)).Product
	same("name", product.Name, wish.Product)
	same("description", product.Description, wish.Description)
	same("partitions", product.Partitions, expect.Partitions)
	same("schema version", product.SchemaVersion, expect.SchemaVersion)
	same("state", product.State.String(), expect.State)
	again := must(catalog.GetProduct(ctx, &meshlog.GetProductRequest{Name: wish.Product}))
	same("product read back", again.Product.Id, product.Id)
	checkFailure(expect.Again, func(option grpc.CallOption) error {
		_, err := catalog.CreateProduct(ctx, request, option)
		return err
	})
}

func split(given scenario) {
	expect := given.Expect
	createProduct(given)
	batch := batchOf(given.Keys)
	for index, key := range given.Keys {
		batch.Records[index].Key = []byte(key)
	}
	answer := must(records.Append(ctx, &meshlog.AppendRequest{Product: given.Product, Batch: batch}))
	same("partitions of the records", answer.RecordPartitions, expect.RecordPartitions)
	for partition, written := range answer.Ranges {
		same("range", []uint64{uint64(written.Partition), written.FirstOffset, uint64(written.Count)},
			[]uint64{uint64(partition), 0, uint64(expect.Counts[partition])})
		found := must(records.Read(ctx, &meshlog.ReadRequest{Product: given.Product, Partitions: []uint32{written.Partition}}))
		var here []string
		for index, at := range expect.RecordPartitions {
			if at == written.Partition {
				here = append(here, given.Keys[index])
			}
		}
		same("partition", pairs(found.Batches), numberedPairs(here))
	}
	same("ranges", len(answer.Ranges), len(expect.Counts))
}

func readFrom(given scenario) {
	expect := given.Expect
	createProduct(given)
	appendValues(given.Product, given.Values...)
	start := startAt([]*meshlog.Position{{Offset: number(given.Offset)}})
	found := must(records.Read(ctx, &meshlog.ReadRequest{Product: given.Product, Start: start}))
	same("base offset", decimal(found.Batches[0].BaseOffset), expect.BaseOffset)
	same("count and skip", []uint32{found.Batches[0].Count, found.Batches[0].Skip}, []uint32{expect.Count, expect.Skip})
	same("records", pairs(found.Batches), expect.Records)
	same("next offset", decimal(found.Partitions[0].NextOffset), expect.NextOffset)
}

func decode(given scenario) {
	expect := given.Expect
	message := &meshlog.ReadResponse{}
	must(0, proto.Unmarshal(must(hex.DecodeString(given.ReadResponse)), message))
	same("records", pairs(message.Batches), expect.Records)
	same("next offsets", nextOffsets(message.Partitions), expect.NextOffsets)
	encoded := must(proto.Marshal(startAt(positionsOf(message.Partitions)).GetPositions()))
	same("positions", hex.EncodeToString(encoded), expect.Positions)
}

func compact(given scenario) {
	expect := given.Expect
	createProductWith(given, &meshlog.ProductSettings{Compaction: &meshlog.Compaction{}})
	values := numbered(given.Records, given.ValueBytes)
	all := numberedPairs(values)
	step := given.RecordsPerBatch
	for first := 0; first < len(values); first += step {
		batch := batchOf(values[first : first+step])
		for index, record := range batch.Records {
			record.Key = fmt.Appendf(nil, "key %d", index)
			if (first+index)%given.OwnKeyEvery == 0 { // comes once, so of each batch something is left
				record.Key = fmt.Appendf(nil, "own %d", first+index)
			}
		}
		must(records.Append(ctx, &meshlog.AppendRequest{Product: given.Product, Batch: batch}))
	}
	check := func(found []pair) {
		var expected []pair
		for _, record := range found {
			expected = append(expected, all[number(*record[0])])
		}
		same("records", found, expected)
		same("the newest of each key", found[len(found)-step:], all[len(all)-step:])
	}
	begun := time.Now()
	found := readAll(given.Product, 0)
	for ; len(found) > expect.MostRecords; found = readAll(given.Product, 0) {
		same("compacted in time", time.Since(begun) < time.Duration(expect.WithinSeconds)*time.Second, true)
		time.Sleep(200 * time.Millisecond)
	}
	check(found)
	begin := number(given.TrimBefore)
	positions := &meshlog.Positions{Positions: []*meshlog.Position{{Offset: begin}}}
	trimmed := must(admin.TrimProduct(ctx, &meshlog.TrimProductRequest{
		Product: given.Product, Which: &meshlog.TrimProductRequest_BeforeOffsets{BeforeOffsets: positions},
	}))
	same("start offset", trimmed.Partitions[0].StartOffset, begin)
	checkFailure(expect.Late, func(option grpc.CallOption) error {
		start := startAt([]*meshlog.Position{{}})
		_, err := records.Read(ctx, &meshlog.ReadRequest{Product: given.Product, Start: start}, option)
		return err
	})
	left := readAll(given.Product, begin)
	check(left)
	same("nothing before the trim", number(*left[0][0]) >= begin, true)
}

func follow(given scenario) {
	expect := given.Expect
	createProduct(given)
	appendValues(given.Product, given.Before...)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := must(subscriptions.Subscribe(ctx, &meshlog.SubscribeRequest{Product: given.Product}))
	var found []pair
	for live := given.Live; len(found) < len(expect.Records); {
		found = append(found, pairs(must(stream.Recv()).Batches)...)
		if len(found) >= len(given.Before) && len(live) > 0 {
			appendValues(given.Product, live[0])
			live = live[1:]
		}
	}
	same("records", found, expect.Records)
}

func resume(given scenario) {
	expect := given.Expect
	createProduct(given)
	values := numbered(expect.RecordCount, given.ValueBytes)
	for first := 0; first < len(values); first += given.RecordsPerBatch {
		appendValues(given.Product, values[first:first+given.RecordsPerBatch]...)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := meshlog.NewRecordServiceClient(connect(proxy))
	var positions []*meshlog.Position // one partition, so the newest state is the whole position
	var found []pair
	cuts := 0
	for len(found) < len(values) {
		request := &meshlog.SubscribeRequest{Product: given.Product, Start: startAt(positions), MaxBytes: given.MaxBytes}
		stream, err := client.Subscribe(ctx, request)
		for err == nil && len(found) < len(values) {
			var message *meshlog.SubscribeResponse
			if message, err = stream.Recv(); err == nil {
				found = append(found, pairs(message.Batches)...)
				positions = positionsOf(message.Partitions)
			}
		}
		if err != nil {
			same("code of a cut", code(status.Convert(err)), expect.Code)
			cuts++
		}
	}
	same("records", found, numberedPairs(values))
	same(fmt.Sprintf("at least %d cuts", expect.LeastCuts), cuts >= expect.LeastCuts, true)
}

func idle(given scenario) {
	expect := given.Expect
	createProduct(given)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(expect.WithinSeconds)*time.Second)
	defer cancel()
	stream := must(subscriptions.Subscribe(ctx, &meshlog.SubscribeRequest{
		Product:           given.Product,
		Start:             &meshlog.Start{At: &meshlog.Start_Edge{Edge: meshlog.StartEdge_START_EDGE_LATEST}},
		HeartbeatInterval: durationpb.New(time.Duration(given.IntervalSeconds) * time.Second),
	}))
	for range 1 + expect.Heartbeats { // the first message resolves the positions
		message := must(stream.Recv())
		same("batches", len(message.Batches), 0)
		same("next offsets", nextOffsets(message.Partitions), expect.NextOffsets)
	}
}

func fail(given scenario) {
	createProduct(given)
	for _, call := range given.Calls {
		checkFailure(call.Expect, func(option grpc.CallOption) (err error) {
			if call.Read != "" {
				start := startAt([]*meshlog.Position{{Offset: number(call.Offset)}})
				_, err = records.Read(ctx, &meshlog.ReadRequest{Product: call.Read, Start: start}, option)
			} else {
				request := &meshlog.AppendRequest{Product: call.Append, Batch: batchOf([]string{"x"})}
				_, err = records.Append(ctx, request, option)
			}
			return err
		})
	}
}

func retry(given scenario) {
	expect := given.Expect
	createProduct(given)
	id := newProducer()
	for index, answer := range expect.Answers {
		request := &meshlog.AppendRequest{
			Product: given.Product, Batch: batchOf([]string{"batch " + given.Sequences[index]}),
			Producer: &meshlog.Producer{Id: id, Sequence: number(given.Sequences[index])},
		}
		if answer.Reason != "" {
			checkFailure(answer, func(option grpc.CallOption) error {
				_, err := records.Append(ctx, request, option)
				return err
			})
			continue
		}
		found := must(records.Append(ctx, request))
		same("first offset", decimal(found.Ranges[0].FirstOffset), answer.FirstOffset)
		same("duplicate", found.Duplicate, answer.Duplicate)
	}
	checkEnd(given)
}

func retryByConfig(given scenario) {
	createProduct(given)
	client := meshlog.NewRecordServiceClient(connect(proxy, grpc.WithDefaultServiceConfig(string(given.ServiceConfig))))
	id := newProducer()
	for sequence, value := range numbered(given.Appends, given.ValueBytes) {
		must(client.Append(ctx, &meshlog.AppendRequest{
			Product: given.Product, Batch: batchOf([]string{value}),
			Producer: &meshlog.Producer{Id: id, Sequence: uint64(sequence)},
		}))
	}
	checkEnd(given)
}

func large(given scenario) {
	expect := given.Expect
	createProduct(given)
	values := numbered(given.Records, given.ValueBytes)
	request := &meshlog.AppendRequest{Product: given.Product, Batch: batchOf(values)}
	same("size of the request", proto.Size(request) >= expect.LeastRequestBytes, true)
	must(records.Append(ctx, request))
	var found []pair
	var offset uint64
	responses := 0
	for ; len(found) < len(values); responses++ {
		start := startAt([]*meshlog.Position{{Offset: offset}})
		answer := must(records.Read(ctx, &meshlog.ReadRequest{Product: given.Product, Start: start, MaxBytes: given.MaxBytes}))
		same("size of a response", proto.Size(answer) < expect.ResponseBytesBelow, true)
		found = append(found, pairs(answer.Batches)...)
		offset = answer.Partitions[0].NextOffset
	}
	same("records", found, numberedPairs(values))
	same("responses", responses >= expect.LeastResponses, true)
}

var actions = map[string]func(scenario){
	"create": create, "split": split, "read_from": readFrom, "decode": decode, "compact": compact, "follow": follow,
	"resume": resume, "idle": idle, "fail": fail, "retry": retry, "retry_by_config": retryByConfig, "large": large,
}

func run(given scenario) (err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = fmt.Errorf("%v", recovered)
		}
	}()
	action, known := actions[given.Action]
	if !known {
		return errors.New("this program does not know the action " + given.Action)
	}
	action(given)
	return nil
}

func main() {
	var file struct{ Scenarios []scenario }
	must(0, json.Unmarshal(must(os.ReadFile(os.Args[1])), &file))
	failed := false
	for _, given := range file.Scenarios {
		if err := run(given); err != nil {
			failed = true
			fmt.Printf("FAILED %s: %.500s\n", given.Name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", given.Name)
		}
	}
	if failed {
		os.Exit(1)
	}
}
