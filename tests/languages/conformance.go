// The scenarios of scenarios.json in Go: `conformance SCENARIOS BROKER PROXY`.
//
// Only generated stubs and grpc-go. Prints one line per scenario.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	meshlog "greetings/gen/meshlog/v1"
)

type scenario struct {
	Name, Action, Product, Offset string
	Partitions                    uint32
	Keys, Values, Before, Live    []string
	ReadResponse                  string `json:"read_response"`
	Sequences                     []string
	Batches, Appends, Records     int
	RecordsPerBatch               int             `json:"records_per_batch"`
	ValueBytes                    int             `json:"value_bytes"`
	MaxBytes                      uint32          `json:"max_bytes"`
	IntervalSeconds               int64           `json:"interval_seconds"`
	ServiceConfig                 json.RawMessage `json:"service_config"`
	Request                       struct {
		Product, Description, Team, Contact string
		Partitions                          uint32
	}
	Calls []struct {
		Read, Offset, Append string
		Expect               expected
	}
	Expect json.RawMessage
}

// An expected answer or an expected failure.
type expected struct {
	Code, Reason, Applied string
	Metadata              map[string]string
	FirstOffset           string `json:"first_offset"`
	Duplicate             bool
}

var (
	ctx           = context.Background()
	broker, proxy = os.Args[2], os.Args[3]
	channel       = connect(broker)
	catalog       = meshlog.NewCatalogServiceClient(channel)
	records       = meshlog.NewRecordServiceClient(channel)
	// A subscription has a connection of its own.
	subscriptions = meshlog.NewRecordServiceClient(connect(broker))
)

func connect(address string, options ...grpc.DialOption) *grpc.ClientConn {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return must(grpc.NewClient(address, options...))
}

// must ends the scenario with an error; run recovers it.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func same(what string, found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Errorf("%s: expected %.200v, found %.200v", what, expected, found))
	}
}

// expectation reads what the scenario expects into a struct of the action's own.
func expectation[T any](given scenario) (expect T) {
	must(0, json.Unmarshal(given.Expect, &expect))
	return expect
}

func productRequest(name string, partitions uint32, description, team, contact string) *meshlog.CreateProductRequest {
	domain, _, _ := strings.Cut(name, ".")
	return &meshlog.CreateProductRequest{
		Product: &meshlog.Product{
			Name: name, Owner: team, Description: description, Partitions: partitions,
			Classification: meshlog.Classification_CLASSIFICATION_INTERNAL,
		},
		ValueSchema: &meshlog.SchemaSource{
			Format: meshlog.SchemaFormat_SCHEMA_FORMAT_OPAQUE, MediaType: "text/plain", Reason: "a scenario does not look inside",
		},
		NewDomain: &meshlog.Domain{Name: domain, Owner: team, Description: "Scenarios"},
		NewTeam:   &meshlog.Team{Name: team, Contacts: []string{contact}},
	}
}

func createProduct(given scenario) {
	must(catalog.CreateProduct(ctx, productRequest(given.Product, given.Partitions, "Made by a scenario", "shop-team", "shop@example.org")))
}

func batchOf(values []string) *meshlog.RecordBatch {
	batch := &meshlog.RecordBatch{}
	for _, value := range values {
		batch.Records = append(batch.Records, &meshlog.Record{Value: []byte(value)})
	}
	return batch
}

func appendValues(product string, values ...string) *meshlog.AppendResponse {
	return must(records.Append(ctx, &meshlog.AppendRequest{Product: product, Batch: batchOf(values)}))
}

// startAt begins at these offsets by partition; partitions not named start at the beginning.
func startAt(positions []*meshlog.Position) *meshlog.Start {
	return &meshlog.Start{At: &meshlog.Start_Positions{Positions: &meshlog.Positions{Positions: positions}}}
}

func number(text string) uint64 { return must(strconv.ParseUint(text, 10, 64)) }

func decimal(offset uint64) string { return strconv.FormatUint(offset, 10) }

// pair is an offset and a value, which a tombstone does not have.
type pair [2]*string

func (p pair) String() string {
	if p[1] == nil {
		return *p[0] + ":-"
	}
	return *p[0] + ":" + *p[1]
}

// pairs lists the records of the batches of a ReadResponse or a SubscribeResponse.
func pairs(batches []*meshlog.StoredBatch) (found []pair) {
	for _, batch := range batches {
		for index, record := range batch.GetBatch().GetRecords() {
			if uint32(index) < batch.Skip {
				continue
			}
			delta := uint32(index)
			if len(batch.OffsetDeltas) > 0 {
				delta = batch.OffsetDeltas[index]
			}
			found = append(found, pair{proto.String(decimal(batch.BaseOffset + uint64(delta))), nil})
			if record.Value != nil {
				found[len(found)-1][1] = proto.String(string(record.Value))
			}
		}
	}
	return found
}

func numbered(count, size int) (values []string) {
	for number := range count {
		value := fmt.Sprintf("%05d", number)
		values = append(values, value+strings.Repeat(".", size-len(value)))
	}
	return values
}

func numberedPairs(values []string) (expect []pair) {
	for offset, value := range values {
		expect = append(expect, pair{proto.String(strconv.Itoa(offset)), proto.String(value)})
	}
	return expect
}

// checkFailure compares the facts of a failed call, which must agree in status, details and trailers.
func checkFailure(expect expected, call func(grpc.CallOption) error) {
	var trailers metadata.MD
	failed := status.Convert(call(grpc.Trailer(&trailers)))
	var info *errdetails.ErrorInfo
	for _, detail := range failed.Details() {
		if found, is := detail.(*errdetails.ErrorInfo); is {
			info = found
		}
	}
	same("code", code(failed), expect.Code)
	same("reason", info.GetReason(), expect.Reason)
	same("domain", info.GetDomain(), "meshlog")
	same("trailer meshlog-reason", trailers.Get("meshlog-reason"), []string{expect.Reason})
	same("trailer meshlog-applied", trailers.Get("meshlog-applied"), []string{info.GetMetadata()["applied"]})
	if expect.Applied != "" {
		same("applied", info.GetMetadata()["applied"], expect.Applied)
	}
	for key, value := range expect.Metadata {
		same(key, info.GetMetadata()[key], value)
	}
}

// code names a code as the specification of gRPC does: grpc-go says OutOfRange for OUT_OF_RANGE.
func code(failed *status.Status) string {
	var name strings.Builder
	for index, letter := range failed.Code().String() {
		if index > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

func create(given scenario) {
	expect := expectation[struct {
		Partitions    uint32
		SchemaVersion uint32 `json:"schema_version"`
		State         string
		Again         expected
	}](given)
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
	expect := expectation[struct {
		RecordPartitions []uint32 `json:"record_partitions"`
		Counts           []uint32
	}](given)
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
	expect := expectation[struct {
		BaseOffset  string `json:"base_offset"`
		Count, Skip uint32
		Records     []pair
		NextOffset  string `json:"next_offset"`
	}](given)
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
	expect := expectation[struct {
		Records     []pair
		NextOffsets []string `json:"next_offsets"`
		Positions   string
	}](given)
	message := &meshlog.ReadResponse{}
	must(0, proto.Unmarshal(must(hex.DecodeString(given.ReadResponse)), message))
	same("records", pairs(message.Batches), expect.Records)
	same("next offsets", nextOffsets(message.Partitions), expect.NextOffsets)
	encoded := must(proto.Marshal(startAt(positionsOf(message.Partitions)).GetPositions()))
	same("positions", hex.EncodeToString(encoded), expect.Positions)
}

func nextOffsets(states []*meshlog.PartitionState) (offsets []string) {
	for _, state := range states {
		offsets = append(offsets, decimal(state.NextOffset))
	}
	return offsets
}

func positionsOf(states []*meshlog.PartitionState) (positions []*meshlog.Position) {
	for _, state := range states {
		positions = append(positions, &meshlog.Position{Partition: state.Partition, Offset: state.NextOffset})
	}
	return positions
}

func follow(given scenario) {
	expect := expectation[struct{ Records []pair }](given)
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
	expect := expectation[struct {
		Records   int
		LeastCuts int `json:"least_cuts"`
		Code      string
	}](given)
	createProduct(given)
	values := numbered(expect.Records, given.ValueBytes)
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
	expect := expectation[struct {
		WithinSeconds int64 `json:"within_seconds"`
		Heartbeats    int
		NextOffsets   []string `json:"next_offsets"`
	}](given)
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

func newProducer() []byte {
	id := make([]byte, 16)
	must(rand.Read(id))
	return id
}

func retry(given scenario) {
	expect := expectation[struct{ Answers []expected }](given)
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

func checkEnd(given scenario) {
	expect := expectation[struct {
		NextOffset string `json:"next_offset"`
	}](given)
	offsets := must(records.ListOffsets(ctx, &meshlog.ListOffsetsRequest{Product: given.Product}))
	same("durable end", decimal(offsets.Partitions[0].DurableEnd), expect.NextOffset)
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
	expect := expectation[struct {
		LeastRequestBytes  int `json:"least_request_bytes"`
		ResponseBytesBelow int `json:"response_bytes_below"`
		LeastResponses     int `json:"least_responses"`
	}](given)
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
	"create": create, "split": split, "read_from": readFrom, "decode": decode, "follow": follow, "resume": resume,
	"idle": idle, "fail": fail, "retry": retry, "retry_by_config": retryByConfig, "large": large,
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
