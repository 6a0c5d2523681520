package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

func redisClient(address string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: address, ReadTimeout: 60 * time.Second, PoolSize: 2})
}

// redisFanOut has readers block on one stream: readers, rate, size, records.
func redisFanOut(address, name string, n []int) (Sample, error) {
	ctx := context.Background()
	publisher := redisClient(address)
	defer publisher.Close()
	// Sends do not wait for one another, as those of the other peers do not.
	sends := make(chan []byte, n[3])
	failed := make(chan error, 1)
	go func() {
		for value := range sends {
			pipeline := publisher.Pipeline()
			pipeline.XAdd(ctx, &redis.XAddArgs{Stream: name, Values: []any{"f", value}})
			for waiting := len(sends); waiting > 0; waiting-- {
				pipeline.XAdd(ctx, &redis.XAddArgs{Stream: name, Values: []any{"f", <-sends}})
			}
			if _, err := pipeline.Exec(ctx); err != nil {
				failed <- err
				return
			}
		}
	}()
	defer close(sends)
	read := func(_ int, ready func(), seen func([]byte) bool) error {
		own := redisClient(address)
		defer own.Close()
		if err := own.Ping(ctx).Err(); err != nil {
			return err
		}
		ready()
		last := "0"
		for {
			args := &redis.XReadArgs{Streams: []string{name, last}, Count: 1000, Block: 30 * time.Second}
			streams, err := own.XRead(ctx, args).Result()
			if err != nil {
				return err
			}
			for _, message := range streams[0].Messages {
				last = message.ID
				if !seen([]byte(message.Values["f"].(string))) {
					return nil
				}
			}
		}
	}
	send := func(value []byte) error {
		select {
		case err := <-failed:
			return err
		case sends <- value:
			return nil
		}
	}
	return fanOut(n[0], n[1], n[2], n[3], read, send)
}

// redisRead reads a stream from its beginning to its end: entries of one answer.
func redisRead(address, name string, n []int) (Sample, error) {
	ctx := context.Background()
	client := redisClient(address)
	defer client.Close()
	began, last, records := time.Now(), "0", 0
	for {
		args := &redis.XReadArgs{Streams: []string{name, last}, Count: int64(n[0]), Block: -1}
		streams, err := client.XRead(ctx, args).Result()
		if err == redis.Nil {
			return Sample{Records: records, Seconds: time.Since(began).Seconds()}, nil
		}
		if err != nil {
			return Sample{}, err
		}
		messages := streams[0].Messages
		records, last = records+len(messages), messages[len(messages)-1].ID
	}
}
