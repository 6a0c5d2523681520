// Prints the greetings from the first one on, and then each new one until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	meshlog "greetings/gen/meshlog/v1"
)

func main() {
	address := os.Getenv("MESHLOG_SERVER")
	if address == "" {
		address = "127.0.0.1:7420"
	}
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	records := meshlog.NewRecordServiceClient(channel)
	// By partition; a program that keeps these beside its results goes on there after a restart.
	nextOffsets := map[uint32]uint64{}

	for {
		err := follow(records, nextOffsets)
		if status.Code(err) != codes.Unavailable {
			log.Fatal(err)
		}
		time.Sleep(time.Second) // the broker is away; the positions are still right
	}
}

func follow(records meshlog.RecordServiceClient, nextOffsets map[uint32]uint64) error {
	positions := &meshlog.Positions{}
	for partition, offset := range nextOffsets {
		positions.Positions = append(positions.Positions, &meshlog.Position{Partition: partition, Offset: offset})
	}
	stream, err := records.Subscribe(context.Background(), &meshlog.SubscribeRequest{
		Product: "sandbox.greetings",
		Start:   &meshlog.Start{At: &meshlog.Start_Positions{Positions: positions}},
	})
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, stored := range message.Batches {
			for index := int(stored.Skip); index < len(stored.Batch.Records); index++ {
				offset := stored.BaseOffset + uint64(index)
				if len(stored.OffsetDeltas) > 0 {
					offset = stored.BaseOffset + uint64(stored.OffsetDeltas[index])
				}
				record := stored.Batch.Records[index]
				fmt.Printf("%d %s %s\n", offset, record.Key, record.Value)
			}
		}
		for _, state := range message.Partitions {
			nextOffsets[state.Partition] = state.NextOffset
		}
	}
}
