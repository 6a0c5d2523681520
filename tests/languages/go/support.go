// What the scenarios share: connections, requests, and how answers and errors are read.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	meshlog "greetings/gen/meshlog/v1"
)

var (
	ctx           = context.Background()
	broker, proxy = os.Args[2], os.Args[3]
	channel       = connect(broker)
	admin         = meshlog.NewAdminServiceClient(channel)
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

func createProduct(given scenario) { createProductWith(given, nil) }

func createProductWith(given scenario, settings *meshlog.ProductSettings) {
	request := productRequest(given.Product, given.Partitions, "Made by a scenario", "shop-team", "shop@example.org")
	request.Product.Settings = settings
	must(catalog.CreateProduct(ctx, request))
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

// readAll reads from an offset to the durable end.
func readAll(product string, offset uint64) (found []pair) {
	for {
		start := startAt([]*meshlog.Position{{Offset: offset}})
		answer := must(records.Read(ctx, &meshlog.ReadRequest{Product: product, Start: start}))
		found = append(found, pairs(answer.Batches)...)
		if offset = answer.Partitions[0].NextOffset; offset >= answer.Partitions[0].DurableEnd {
			return found
		}
	}
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
func checkFailure(expect outcome, call func(grpc.CallOption) error) {
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

func newProducer() []byte {
	id := make([]byte, 16)
	must(rand.Read(id))
	return id
}

func checkEnd(given scenario) {
	expect := given.Expect
	offsets := must(records.ListOffsets(ctx, &meshlog.ListOffsetsRequest{Product: given.Product}))
	same("durable end", decimal(offsets.Partitions[0].DurableEnd), expect.NextOffset)
}
