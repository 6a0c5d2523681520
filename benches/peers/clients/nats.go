package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsCreate makes so many streams.
func natsCreate(address, name string, n []int) (Sample, error) {
	connection, err := nats.Connect(address)
	if err != nil {
		return Sample{}, err
	}
	defer connection.Close()
	began := time.Now()
	err = natsStreams(connection, name, n[0])
	return Sample{Records: n[0], Seconds: time.Since(began).Seconds()}, err
}

// natsAppend sends batches to streams that are there, in turn: streams, size, batch, in flight, records, and 1 for atomic
// batches or 0 for messages that do not wait for one another.
func natsAppend(address, name string, n []int) (Sample, error) {
	streams, size, batch, inFlight, records := n[0], n[1], n[2], n[3], n[4]
	connection, err := nats.Connect(address)
	if err != nil {
		return Sample{}, err
	}
	defer connection.Close()
	js, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(inFlight*batch))
	if err != nil {
		return Sample{}, err
	}
	payload := make([]byte, size)
	batches := (records + batch - 1) / batch
	var next atomic.Int64
	var workers sync.WaitGroup
	errors := make(chan error, inFlight)
	began := time.Now()
	for range inFlight {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				number := int(next.Add(1)) - 1
				if number >= batches {
					return
				}
				subject := fmt.Sprintf("%s-%d.x", name, number%streams)
				var err error
				if n[5] == 1 {
					err = natsBatch(connection, subject, number, batch, payload)
				} else {
					err = natsMessages(js, subject, batch, payload)
				}
				if err != nil {
					errors <- err
					return
				}
			}
		}()
	}
	workers.Wait()
	select {
	case err := <-errors:
		return Sample{}, err
	default:
	}
	return Sample{Records: batches * batch, Seconds: time.Since(began).Seconds()}, nil
}

// natsMessages sends messages one after the other and waits for all of their acknowledgements.
func natsMessages(js jetstream.JetStream, subject string, count int, payload []byte) error {
	futures := make([]jetstream.PubAckFuture, count)
	for number := range count {
		future, err := js.PublishAsync(subject, payload)
		if err != nil {
			return err
		}
		futures[number] = future
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		}
	}
	return nil
}

// natsBatch sends one atomic batch and waits for its acknowledgement.
func natsBatch(connection *nats.Conn, subject string, number, batch int, payload []byte) error {
	for sequence := 1; sequence <= batch; sequence++ {
		message := nats.NewMsg(subject)
		message.Data = payload
		message.Header.Set("Nats-Batch-Id", strconv.Itoa(number))
		message.Header.Set("Nats-Batch-Sequence", strconv.Itoa(sequence))
		if sequence < batch {
			if err := connection.PublishMsg(message); err != nil {
				return err
			}
			continue
		}
		message.Header.Set("Nats-Batch-Commit", "1")
		answer, err := connection.RequestMsg(message, 60*time.Second)
		if err != nil {
			return err
		}
		if err := natsRefusal(answer.Data); err != nil {
			return err
		}
	}
	return nil
}

func natsStreams(connection *nats.Conn, name string, count int) error {
	js, err := jetstream.New(connection, jetstream.WithDefaultTimeout(60*time.Second))
	if err != nil {
		return err
	}
	for number := range count {
		stream := fmt.Sprintf("%s-%d", name, number)
		_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
			Name: stream, Subjects: []string{stream + ".x"}, Storage: jetstream.FileStorage,
			Replicas: 1, AllowAtomicPublish: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// natsFanOut has ordered consumers read one stream at its end: readers, rate, size, records.
func natsFanOut(address, name string, n []int) (Sample, error) {
	connection, err := nats.Connect(address)
	if err != nil {
		return Sample{}, err
	}
	defer connection.Close()
	if err := natsStreams(connection, name, 1); err != nil {
		return Sample{}, err
	}
	publisher, err := jetstream.New(connection)
	if err != nil {
		return Sample{}, err
	}
	read := func(_ int, ready func(), seen func([]byte) bool) error {
		// A connection for each reader, as readers in different programs have.
		own, err := nats.Connect(address)
		if err != nil {
			return err
		}
		defer own.Close()
		js, err := jetstream.New(own)
		if err != nil {
			return err
		}
		consumer, err := js.OrderedConsumer(context.Background(), name+"-0", jetstream.OrderedConsumerConfig{})
		if err != nil {
			return err
		}
		messages, err := consumer.Messages()
		if err != nil {
			return err
		}
		defer messages.Stop()
		ready()
		for {
			message, err := messages.Next()
			if err != nil {
				return err
			}
			if !seen(message.Data()) {
				return nil
			}
		}
	}
	send := func(value []byte) error {
		_, err := publisher.PublishAsync(name+"-0.x", value)
		return err
	}
	return fanOut(n[0], n[1], n[2], n[3], read, send)
}

// natsRefusal is what JetStream says against a message, if anything.
func natsRefusal(answer []byte) error {
	var said struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return fmt.Errorf("the acknowledgement is not JSON: %q", answer)
	}
	if said.Error != nil {
		return fmt.Errorf("the batch was refused: %s", said.Error.Description)
	}
	return nil
}
