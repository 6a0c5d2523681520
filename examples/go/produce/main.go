// Appends three greetings.
package main

import (
	"context"
	"crypto/rand"
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	product := &meshlog.Product{Name: "sandbox.greetings"}
	catalog := meshlog.NewCatalogServiceClient(channel)
	_, err = catalog.CreateProduct(ctx, &meshlog.CreateProductRequest{Product: product})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		log.Fatal(err)
	}

	// If the answer is lost, the same request can be sent again: the broker knows producer and sequence.
	producer := &meshlog.Producer{Id: make([]byte, 16), Sequence: 0}
	rand.Read(producer.Id)
	batch := &meshlog.RecordBatch{Records: []*meshlog.Record{
		{Key: []byte("en"), Value: []byte(`{"greeting":"hello"}`)},
		{Key: []byte("fr"), Value: []byte(`{"greeting":"bonjour"}`)},
		{Key: []byte("eo"), Value: []byte(`{"greeting":"saluton"}`)},
	}}
	request := &meshlog.AppendRequest{Product: product.Name, Batch: batch, Producer: producer}

	answer, err := meshlog.NewRecordServiceClient(channel).Append(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	appended := answer.Ranges[0]
	fmt.Printf("appended %d records from offset %d\n", appended.Count, appended.FirstOffset)
}
